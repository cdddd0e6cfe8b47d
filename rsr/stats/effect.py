"""A statistic, its interval, and the smallest effect that the data could have shown."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsr.stats.bootstrap import percentile_interval, standard_error

POWER = 0.8  # of a two-sided test at 5 %, for an effect of the minimum detectable size


@dataclass(frozen=True)
class Effect:
    """A statistic with its 95 % interval.

    Attributes:
        minimum_detectable: the smallest effect that a two-sided test at 5 % finds with 80 % power.
        basis: what the interval is over (how many teachers, problems, seeds), where it does not go without saying.
    """

    value: float
    low: float
    high: float
    minimum_detectable: float
    basis: str = ""

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval."""
        return self.low > 0 or self.high < 0

    @property
    def verdict(self) -> str:
        """What a difference says of the first of two, in three words or so."""
        if not self.excludes_zero:
            return "It cannot be told"
        return "Yes" if self.value > 0 else "No, it is worse"

    def text(self, form: str = "+.2f") -> str:
        """Value and interval, such as "+0.10 [-0.05, +0.25]"."""
        return estimate_text(self.value, self.low, self.high, form)


def of_draws(value: float, drawn: NDArray[np.float64], basis: str = "") -> Effect:
    """A statistic with percentiles of its bootstrap; draws without a value (NaN) are left out."""
    low, high = percentile_interval(drawn)
    return Effect(float(value), low, high, minimum_detectable(standard_error(drawn)), basis)


def of_error(value: float, error: float, freedom: float, basis: str) -> Effect:
    """A statistic with Student's interval from its standard error and degrees of freedom."""
    from scipy import stats

    t = stats.t(freedom)
    half, detectable = error * t.ppf(0.975), error * (t.ppf(0.975) + t.ppf(POWER))
    return Effect(value, float(value - half), float(value + half), float(detectable), basis)


def minimum_detectable(error: float) -> float:
    """The smallest effect that a two-sided test at 5 % finds with 80 % power, of a normal statistic with this error."""
    from scipy.stats import norm

    return float((norm.ppf(0.975) + norm.ppf(POWER)) * error)


def estimate_text(value: float, low: float, high: float, form: str = "+.2f") -> str:
    """A value with its interval, such as "+0.10 [-0.05, +0.25]"; the value alone where it has none (NaN)."""
    return f"{value:{form}}" if np.isnan(low) else f"{value:{form}} {interval_text(low, high, form)}"


def interval_text(low: float, high: float, form: str = "+.2f") -> str:
    """The ends of an interval, such as "[-0.05, +0.25]"."""
    return f"[{low:{form}}, {high:{form}}]"
