"""How many answers of each dataset are right, which stands beside an order and has no part in it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rsr.data.discovery import Source
from rsr.grading.correctness import correctness
from rsr.grading.grader import USUAL
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


def by_dataset(
    sources: Sequence[Source],
    by: By = "dataset",
    *,
    graded: Callable[[int], None] = lambda trajectories: None,
    answers: Sequence[str] = USUAL,
) -> dict[str, Verdicts]:
    """The verdicts of each dataset, by the names that a ranking gives them.

    Args:
        by: as the ranking is.
        graded: called with the number of trajectories whose answers were read since the last call.
        answers: where a response says its answer, in order (`rsr.grading.grader.extract`).
    """
    trajectories = [t for source in sources for t in source.dataset.trajectories]
    verdicts = iter(correctness(trajectories, graded, answers=answers))
    counted: dict[str, Verdicts] = {}
    for dataset in (source.dataset for source in sources):
        name = dataset.teacher if by == "teacher" else dataset.name
        own = count(next(verdicts) for _ in dataset.trajectories)
        counted[name] = counted.get(name, Verdicts()) + own
    return counted
