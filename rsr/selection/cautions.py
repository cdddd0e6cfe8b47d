"""What a reader should know about a selection before training on it."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from rsr.data import export
from rsr.data.discovery import Source
from rsr.data.trajectories import Trajectory
from rsr.grading.correctness import has_answer
from rsr.selection.rules import Choice, Rule


def cautions(
    sources: Sequence[Source],
    candidates: pl.DataFrame,
    known: Mapping[tuple[str, str, str], tuple[Source, Trajectory]],
    choice: Choice,
    rule: Rule,
    records: Sequence[Any],
) -> tuple[str, ...]:
    """On the candidates, their answers, and the records that were chosen.

    Args:
        candidates, known: see `rsr.selection.candidates.gather`.
        records: of the chosen, as they are in the sources.
    """
    return (
        *_of_candidates(sources, candidates, choice, rule),
        *_of_records(records),
        *([] if rule.correct == "ignore" else _of_answers(candidates, known)),
    )


def _of_candidates(sources: Sequence[Source], candidates: pl.DataFrame, choice: Choice, rule: Rule) -> list[str]:
    lines = []
    if malformed := sum(len(source.dataset.skipped) for source in sources):
        lines.append(f"{malformed} malformed records were left out")
    if rule.per_problem is not None and candidates["problem"].n_unique() == len(candidates):
        lines.append(
            "every problem has one candidate only, so the best of each problem is all there is: if several records answer "
            "one prompt, by_prompt (--by-prompt) takes them together"
        )
    answered = candidates.filter(pl.col("correct").is_not_null())["problem"].n_unique()
    right = candidates.filter("correct")["problem"].n_unique()
    if right < answered:
        lines.append(f"{answered - right} of {answered} problems with an answer have no correct candidate")
    if cut := int(choice.chosen["truncated"].sum()):
        lines.append(
            f"{cut} of {len(choice.chosen)} selected are cut at the maximum length: neither scores nor training see their ends, answers "
            "included; a higher max_length (--max-length) holds more, and max_response_tokens (--max-response-tokens) leaves cut ones out"
        )
    if wrong := int((~choice.chosen["correct"]).sum()):
        lines.append(
            f"{wrong} of {len(choice.chosen)} selected are wrong: correct=only (--correct only) leaves them out"
        )
    return lines


def _of_records(records: Sequence[Any]) -> list[str]:
    lines = []
    if any(isinstance(r.get("messages") or r.get("conversations"), str) for r in records):
        lines.append(
            "the records keep messages as text, which trainers do not read: write messages (--format messages)"
        )
    if any(isinstance(r.get("prompt"), str) and isinstance(r.get("completion"), str) for r in records):
        lines.append(
            "the records hold prompts as text, which trainers read without the chat template that was scored: --format prompt-completion "
            "writes them as messages"
        )
    if apart := sorted({name for record in records for name in export.kept_apart(record)}):
        lines.append(
            f"the records keep {', '.join(apart)} apart, which not every trainer reads: write messages (--format messages)"
        )
    return lines


def _of_answers(candidates: pl.DataFrame, known: Mapping[tuple[str, str, str], tuple[Source, Trajectory]]) -> list[str]:
    """Candidates that count as unknown: no right answer is given for them, or theirs was not found or could not be judged."""
    rows = [
        (key[0], right is None, has_answer(known[key][1]))
        for key, right in zip(known, candidates["correct"], strict=True)
    ]
    asked = pl.DataFrame(rows, schema={"teacher": pl.String, "unknown": pl.Boolean, "answer": pl.Boolean}, orient="row")
    lacking = asked.filter(pl.col("unknown") & ~pl.col("answer"))
    if len(lacking) == len(asked):
        return ["no record says what is right (`answer`) or whether it is (`correct`): the scores alone decide"]
    lines = []
    if len(lacking):
        lines.append(
            f"no right answer is given for {_by_teacher(lacking, asked)}: they count as unknown, behind answers known to be right"
        )
    judged = asked.filter("answer")
    if len(without := judged.filter("unknown")):
        lines.append(
            f"no answer is found, or none that can be judged, in {_by_teacher(without, judged)}: they count as unknown, behind answers "
            'known to be right; --answer "last number" (answers=["last number"] in Python) takes the last number instead, which is a '
            "guess; a pattern of your own looks elsewhere, and --judge (judge=...) asks a model"
        )
    return lines


def _by_teacher(rows: pl.DataFrame, whole: pl.DataFrame) -> str:
    """How many of the whole are among the rows, of each teacher with any."""
    numbers = dict(whole.group_by("teacher").len().iter_rows())
    counts = rows.group_by("teacher", maintain_order=True).len().iter_rows()
    return ", ".join(f"{count} of {numbers[teacher]} of {teacher}" for teacher, count in counts)
