"""Verified accuracy: which trajectories end in the right answer, by the one grader."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from rsr.data.trajectories import Dataset
from rsr.features.extractor import FeatureTable
from rsr.grading import correctness
from rsr.grading.grader import VERSION as GRADER_VERSION
from rsr.grading.grader import Kind
from rsr.metrics.score_tables import Scores, of_metric
from rsr.store.artefacts import Artefact, find_or_begin
from rsr.store.locks import locking
from rsr.store.parquet import read_parquet, write_parquet

# Raised when what the table holds for the same key changes its meaning.
VERSION = 2
STAGE = "verified"
TABLE = "verified.parquet"


def verified(data: Sequence[Dataset], answer: str | None, kind: Kind, outputs: Path) -> pl.DataFrame:
    """One row per trajectory with a known answer: teacher, generation, trajectory, outcome, correct (null: no verdict).

    Args:
        answer: regular expression of the final answer; None: the last \\boxed{}, or block of code.
        kind: what answers are.

    Raises:
        InputError: see `rsr.grading.grader.Grader`.
    """
    return pl.concat([_read(graded(dataset, answer, kind, outputs), dataset) for dataset in data])


def of_scored(
    scores: Scores, data: Sequence[Dataset], answer: str | None, kind: Kind, outputs: Path
) -> list[FeatureTable]:
    """Whether answers are right (null: not known), as the reward of every scored trajectory beside its loss.

    Args:
        scores: of token metrics.
        answer, kind: see `verified`.
    """
    student = scores.trajectories["student"][0]
    tables = []
    for dataset in data:
        artefact = graded(dataset, answer, kind, outputs)
        right = _read(artefact, dataset).select(id="trajectory", right="correct")
        tables.append(FeatureTable(artefact, student, dataset.teacher, dataset.generation, right))
    return beside_losses(scores, tables, "right")


def beside_losses(scores: Scores, rewards: Sequence[FeatureTable], column: str) -> list[FeatureTable]:
    """Per dataset a row for each scored trajectory: its reward (null: none), and its mean surprisal, the loss.

    Args:
        scores: of token metrics.
        column: of the rewards.
    """
    losses = of_metric(scores.trajectories, "avg_surprisal").rename({"trajectory": "id", "value": "loss"})
    tables = []
    for table in rewards:
        own = losses.filter(teacher=table.teacher, generation=table.generation)
        rows = own.select("id", "problem", "tokens", "truncated", "loss").join(
            table.rows.select("id", reward=column), on="id", how="left", maintain_order="left"
        )
        tables.append(replace(table, rows=rows))
    return tables


def without_verdict(graded: pl.DataFrame) -> str:
    """What is said of answers without a verdict; nothing where there are none.

    Args:
        graded: rows of `verified`.
    """
    count = graded["correct"].null_count()
    if not count:
        return ""
    return (
        f"{count} of {len(graded)} final answers have no verdict (not readable, or not in time); they count neither as "
        "right nor as wrong."
    )


@locking
def graded(dataset: Dataset, answer: str | None, kind: Kind, outputs: Path) -> Artefact:
    """The verdicts on a dataset, made where they are not there yet (see `verified`)."""
    known = [t for t in dataset.trajectories if t.answer is not None]
    answers = [t.answer for t in known]
    key = {
        "stage": STAGE,
        "version": [VERSION, GRADER_VERSION],
        "data": dataset.digest(),
        "answers": answers,
        "pattern": answer,
    }
    if kind is not Kind.mathematics:
        key["grader"] = kind.value
    artefact = find_or_begin(outputs, STAGE, dataset.name, key)
    if artefact.manifest is None:
        grades = correctness.grade(known, kind=kind, pattern=answer)
        table = pl.DataFrame(
            {
                "trajectory": [t.id for t in known],
                "outcome": [grade.outcome.value for grade in grades],
                "correct": [grade.verdict for grade in grades],
            },
            schema={"trajectory": pl.String, "outcome": pl.String, "correct": pl.Boolean},
        )
        write_parquet(table, artefact.path / TABLE)
        artefact = artefact.complete(trajectories=len(dataset.trajectories), known=len(known))
    return artefact


def _read(artefact: Artefact, dataset: Dataset) -> pl.DataFrame:
    return read_parquet(artefact, TABLE).select(
        pl.lit(dataset.teacher).alias("teacher"), pl.lit(dataset.generation).alias("generation"), pl.all()
    )
