"""What follows from a ranking, in sentences."""

from collections.abc import Sequence

from rsr.metrics import METRICS
from rsr.selection.ranking import FIRM, EqualLength, Ranking


def title(ranking: Ranking) -> str:
    """The metric with its preset, as tables call it."""
    return METRICS[ranking.metric].title + (f" ({ranking.preset})" if ranking.preset else "")


def basis(ranking: Ranking) -> list[str]:
    """What is compared, and on which problems."""
    compared = f"{title(ranking)}, {ranking.direction} is better, on {ranking.problems} problems that all datasets have a value for"
    left_out = f"{ranking.left_out} problems are left out: some dataset has no value for them"
    return [compared, left_out] if ranking.left_out else [compared]


def decision(ranking: Ranking) -> str:
    """Which dataset to train on, and which others would be as good."""
    first, *others = ranking.places
    alike = [place.dataset for place in others if not place.told_apart]
    if not alike:
        return f"train on {first.dataset}: by this metric it is told apart from all others"
    return (
        f"train on {first.dataset}, or on what cannot be told apart from it by this metric: {', '.join(alike)}. "
        "More right answers, or fewer tokens, may decide"
    )


def rightness(known: int, trajectories: int) -> str:
    """Of how many trajectories it is known whether they are right, since a ranking does not look at it."""
    return f"whether answers are right is known for {known:,} of {trajectories:,} trajectories, and does not count in this order"


def reasons(ranking: Ranking) -> list[str]:
    """How sure the order is, what others would choose, and what length has to do with it."""
    return [_settled(ranking), *_choices(ranking), *_lengths(ranking)]


def _settled(ranking: Ranking) -> str:
    first, second = (place.dataset for place in ranking.places[:2])
    if ranking.to_settle is None:
        return f"{first} and {second} are equal: nothing would settle their order"
    if ranking.to_settle == 0:
        settled = f"the order of {first} and {second} is settled: the 95 % interval of their difference excludes 0"
        if ranking.problems < FIRM:
            settled += f"; these are {ranking.problems} problems, and {FIRM} or more make it firm"
        return settled
    return (
        f"to settle the order of {first} and {second}: about {ranking.to_settle:,} more problems, a trajectory "
        "of each dataset for each (an estimate, if the difference stays)"
    )


def _choices(ranking: Ranking) -> list[str]:
    own = ranking.places[0].dataset
    parts = [
        f"{METRICS[name].title.lower()} {'the same' if chosen == own else chosen}"
        for name, chosen in ranking.choices.items()
    ]
    return [f"others would choose: {', '.join(parts)}"] if parts else []


def _lengths(ranking: Ranking) -> list[str]:
    def names(lengths: Sequence[EqualLength]) -> str:
        return ", ".join(length.dataset for length in lengths)

    if not ranking.lengths:
        return ["whether length explains the order is not known: the scores of this metric do not say it"]
    first = ranking.places[0].dataset
    lines = []
    if stays := [length for length in ranking.lengths if length.stays]:
        lines.append(
            f"length does not explain the lead of {first} over {names(stays)}: it is there at equal length, too"
        )
    if explained := [length for length in ranking.lengths if length.explains]:
        lines.append(
            f"length may explain the lead of {first} over {names(explained)}: at equal length it cannot be told from 0"
        )
    return lines
