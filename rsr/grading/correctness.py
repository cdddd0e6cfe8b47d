"""Whether trajectories' final answers are right."""

from collections.abc import Callable, Sequence

from rsr.data.trajectories import Trajectory
from rsr.grading.grader import USUAL, Grade, Grader, Kind

# Whether each of some trajectories is right; None where that is not known.
Correctness = Callable[[Sequence[Trajectory]], list[bool | None]]


def grade(
    trajectories: Sequence[Trajectory],
    *,
    kind: Kind = Kind.mathematics,
    pattern: str | Sequence[str] | None = None,
    done: Callable[[int], None] = lambda graded: None,
) -> list[Grade]:
    """Grades of the final answers of last responses, beside the trajectories' own reference answers.

    Args:
        kind, pattern: see `rsr.grading.grader.Grader`.
        done: called with the number of trajectories newly graded.

    Raises:
        InputError: see `rsr.grading.grader.Grader`.
    """
    with Grader(kind=kind) as grader:
        # One at a time, since messages may stay in files.
        return grader.grade(((t.answer or "", t.messages[t.final].text) for t in trajectories), pattern, done=done)


def correctness(
    trajectories: Sequence[Trajectory],
    done: Callable[[int], None] = lambda graded: None,
    *,
    answers: Sequence[str] = USUAL,
    judge: Correctness | None = None,
) -> list[bool | None]:
    """What each record says, or else whether its final answer is the reference; None where neither is known, where no answer is
    found, or where one has no verdict.

    Args:
        answers: where a response says its answer, in order (`rsr.grading.grader.extract`).
        judge: decides the rest, where a reference is known (`rsr.grading.answer_judge.AnswerJudge`).
        done: called with the number of trajectories newly graded.
    """
    right = [t.correct for t in trajectories]
    asked = [i for i, t in enumerate(trajectories) if t.correct is None and has_answer(t)]
    done(len(right) - len(asked))
    if asked:
        for i, graded in zip(asked, grade([trajectories[i] for i in asked], pattern=answers, done=done), strict=True):
            right[i] = None if graded.answer is None else graded.verdict
    rest = [i for i in asked if right[i] is None]
    if judge and rest:
        for i, verdict in zip(rest, judge([trajectories[i] for i in rest]), strict=True):
            right[i] = verdict
    return right


def has_answer(trajectory: Trajectory) -> bool:
    """Whether a reference answer is known."""
    return bool(trajectory.answer and trajectory.answer.strip())
