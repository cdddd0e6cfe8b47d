"""From samples to accuracy: grades, and Acc@k with what has to be read beside it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from eval import samples
from eval.grader import VERSION, Grader
from rsr.artefacts import Artefact, digest, find_or_begin, writing

STAGE = "grades"
GRADES = "grades.parquet"


@dataclass(frozen=True)
class Performance:
    """A model on a benchmark.

    Attributes:
        accuracy: mean over problems of the share of right samples (Acc@k), with a bootstrap interval over problems.
        mean_length: tokens of an answer.
        truncated: share of answers cut at the limit.
        unanswered: share that ended without a final answer.
        ungradable: share whose answer the grader could not read, or not in time.
    """

    problems: int
    k: int
    accuracy: float
    low: float
    high: float
    error: float
    mean_length: float
    truncated: float
    unanswered: float
    ungradable: float


def grade(drawn: Artefact, root: Path, label: str) -> Artefact:
    """Grade samples, once for the same samples and grader: problem, sample, outcome, correct, tokens, finish_reason.

    Raises:
        InputError: samples or grades cannot be read or written.
    """
    key = {"stage": STAGE, "version": VERSION, "samples": digest(drawn.key)}
    artefact = find_or_begin(root, STAGE, label, key)
    if artefact.manifest is not None:
        return artefact
    rows = samples.read(drawn)
    with Grader(pattern=drawn.facts["answer_pattern"]) as grader:
        grades = grader.grade(rows.select("gold", "text").iter_rows())
    table = rows.select(
        "problem",
        "sample",
        tokens=pl.col("tokens").list.len(),
        finish_reason="finish_reason",
        outcome=pl.Series([g.outcome for g in grades]),
        correct=pl.Series([g.correct for g in grades]),
    )
    with writing(artefact.path):
        table.write_parquet(artefact.path / GRADES)
    return artefact.complete(performance=asdict(performance(table)))


def performance(grades: pl.DataFrame, *, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0) -> Performance:
    """Acc@k with a percentile bootstrap over problems.

    Args:
        grades: rows of `grade`.
    """
    by_problem = grades.group_by("problem", maintain_order=True).agg(pl.col("correct").mean(), pl.len())
    accuracy = by_problem["correct"].to_numpy()
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(accuracy), np.full(len(accuracy), 1 / len(accuracy)), resamples)
    means = weights @ accuracy / len(accuracy)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Performance(
        problems=len(accuracy),
        k=int(by_problem["len"].max()),  # type: ignore[arg-type]
        accuracy=float(accuracy.mean()),
        low=float(low),
        high=float(high),
        error=float(means.std(ddof=1)),
        mean_length=_mean(grades["tokens"]),
        truncated=_mean(grades["finish_reason"] == "length"),
        unanswered=_mean(grades["outcome"] == "no answer"),
        ungradable=_mean(grades["outcome"].is_in(["unparsable", "timed out"])),
    )


def _mean(values: pl.Series) -> float:
    mean: Any = values.mean()
    return float(mean)
