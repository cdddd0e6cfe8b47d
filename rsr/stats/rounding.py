"""Numbers as people read them, alike on a terminal, in a page and in a sentence."""


def number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"


def length(tokens: float | None) -> str:
    """A mean number of tokens, where it is known."""
    return "not known" if tokens is None else f"{tokens:,.0f}"


def share(part: float) -> str:
    """A part of a whole."""
    return f"{part:.0%}".replace("%", " %")


def percent(of_resamples: float) -> str:
    """A share of resamples, of which all or none do not make a certainty."""
    if not 0.01 <= of_resamples <= 0.99:
        return "<1 %" if of_resamples < 0.5 else ">99 %"
    return share(of_resamples)


def with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """A value with the ends of its interval, where there are any."""
    if value is None:
        return "no value"
    return number(value) if low is None or high is None else f"{number(value)} [{number(low)}, {number(high)}]"
