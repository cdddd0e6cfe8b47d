"""How many answers of each dataset are right, which stands beside an order and has no part in it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rsr.data.discovery import Source
from rsr.grading.correctness import Correctness, correctness
from rsr.selection.ranking import By


@dataclass(frozen=True)
class Verdicts:
    """Answers that are known to be right, known to be wrong, or neither."""

    right: int = 0
    wrong: int = 0
    unknown: int = 0

    @property
    def known(self) -> int:
        """Answers with a verdict."""
        return self.right + self.wrong

    def __add__(self, other: "Verdicts") -> "Verdicts":
        return Verdicts(self.right + other.right, self.wrong + other.wrong, self.unknown + other.unknown)


def count(correct: Iterable[bool | None]) -> Verdicts:
    """The counts of verdicts; None is neither."""
    verdicts = list(correct)
    return Verdicts(verdicts.count(True), verdicts.count(False), verdicts.count(None))


def share_right(verdicts: Verdicts) -> str:
    """Right answers of those with a verdict."""
    return f"{verdicts.right:,} of {verdicts.known:,}"


def by_dataset(
    sources: Sequence[Source],
    by: By = "dataset",
    correctness: Correctness = correctness,
) -> dict[str, Verdicts]:
    """The verdicts of each dataset, by the names that a ranking gives them.

    Args:
        by: as the ranking is.
        correctness: says which answers are right.
    """
    trajectories = [t for source in sources for t in source.dataset.trajectories]
    verdicts = iter(correctness(trajectories))
    counted: dict[str, Verdicts] = {}
    for dataset in (source.dataset for source in sources):
        name = dataset.teacher if by == "teacher" else dataset.name
        own = count(next(verdicts) for _ in dataset.trajectories)
        counted[name] = counted.get(name, Verdicts()) + own
    return counted
