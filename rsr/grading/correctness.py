"""Whether trajectories' final answers are right."""

from collections.abc import Callable, Sequence

from rsr.data.trajectories import Trajectory
from rsr.grading.grader import Grader


def correctness(
    trajectories: Sequence[Trajectory], done: Callable[[int], None] = lambda graded: None
) -> list[bool | None]:
    """What each record says, or else whether the final answer of its last response is the reference (see `rsr.grading.grader`); None
    where neither is known.

    Args:
        done: called with the number of trajectories newly graded.
    """
    found: list[bool | None] = [t.correct for t in trajectories]
    known = [(i, t.answer) for i, t in enumerate(trajectories) if t.correct is None and t.answer and t.answer.strip()]
    done(len(found) - len(known))
    if known:
        with Grader() as grader:
            pairs = [(answer, trajectories[i].messages[-1].content) for i, answer in known]
            for (i, _), grade in zip(known, grader.grade(pairs, done=done), strict=True):
                found[i] = grade.correct
    return found
