"""The options of reading answers, and reading them with progress."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from rsr.cli.options import F

if TYPE_CHECKING:
    from rsr.data.discovery import Source
    from rsr.grading.answer_judge import AnswerJudge
    from rsr.grading.correctness import Correctness


@dataclass(frozen=True)
class Answers:
    """How the answers of responses are read.

    Attributes:
        places: where a response says its answer, in order; none is the usual.
        endpoint, model: of a judge that decides the rest.
    """

    places: tuple[str, ...]
    endpoint: str | None
    model: str | None


_OPTIONS = (
    click.option(
        "--answer",
        "places",
        multiple=True,
        metavar="PLACE",
        help="Where a response says its answer: boxed, sentence, line, hashes, 'last number' or a regular expression; repeatable, "
        "the first that finds one counts. [default: boxed, sentence, line, hashes]",
    ),
    click.option(
        "--judge",
        "endpoint",
        metavar="URL",
        help="OpenAI-compatible endpoint, such as http://localhost:8000/v1, that decides on answers which are not found there; the key "
        "is OPENAI_API_KEY.",
    ),
    click.option("--judge-model", "model", metavar="NAME", help="The judge's name at that endpoint."),
)


def answer_options(command: F) -> F:
    """The options of reading answers; a command gets them together, as `answers`."""

    @wraps(command)
    def with_answers(*, places: tuple[str, ...], endpoint: str | None, model: str | None, **given: Any) -> Any:
        if (endpoint is None) != (model is None):
            raise click.UsageError("--judge and --judge-model go together: the endpoint, and the model's name there.")
        return command(answers=Answers(places, endpoint, model), **given)

    for option in reversed(_OPTIONS):
        with_answers = option(with_answers)
    return cast(F, with_answers)


@contextmanager
def reading(answers: Answers, sources: "Sequence[Source]", outputs: Path) -> "Iterator[Correctness]":
    """What says which answers are right, with progress on standard error; at its end, what the judge said."""
    from rsr.grading.correctness import correctness
    from rsr.grading.grader import USUAL

    total, done = sum(len(source.dataset.trajectories) for source in sources), 0
    with _progress() as went_on:

        def graded(trajectories: int) -> None:
            nonlocal done
            done += trajectories
            went_on("reading answers", done, total)

        judge = _judge(answers, outputs, partial(went_on, "asking the judge"))
        yield partial(correctness, done=graded, answers=answers.places or USUAL, judge=judge)
    if judge and judge.verdicts:
        _say_judged(judge)


def _judge(answers: Answers, outputs: Path, told: Callable[[int, int], None]) -> "AnswerJudge | None":
    if answers.endpoint is None or answers.model is None:
        return None
    from rsr.grading.answer_judge import AnswerJudge
    from rsr.grading.endpoint import JudgeSettings

    return AnswerJudge(JudgeSettings(answers.endpoint, answers.model), outputs, told)


def _say_judged(judge: "AnswerJudge") -> None:
    from rsr.cli.terminal import say

    right, wrong, unknown = (judge.verdicts.count(verdict) for verdict in (True, False, None))
    lines = [
        f"the judge on {len(judge.verdicts):,} answers that were not found: {right:,} right, {wrong:,} wrong, {unknown:,} without a final answer or a verdict; "
        f"{judge.asked:,} asked now, kept in {judge.file}"
    ]
    if judge.failed:
        failed = f"{len(judge.failed):,} questions got no verdict, the first: {judge.failed[0]}"
        lines.append(f"note: {failed}; the same command asks them again")
    say(*lines, stderr=True)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Bars on a terminal, elsewhere a line a minute, on standard error; called with a title, what is done, and the number of all."""
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from rsr.cli.progress import EveryMinute

    console, minute_is_over = Console(file=sys.stderr), EveryMinute()
    tasks: dict[str, TaskID] = {}
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:

        def went_on(title: str, done: int, total: int) -> None:
            if title not in tasks:
                tasks[title] = bars.add_task(title, total=total)
            bars.update(tasks[title], completed=done)
            if not console.is_terminal and minute_is_over():
                print(f"{title}: {done:,} of {total:,}", file=sys.stderr, flush=True)

        yield went_on
