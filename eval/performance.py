"""From samples to accuracy: grades, and Acc@k with what has to be read beside it."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from eval import samples
from rsr.errors import InputError
from rsr.grading.grader import VERSION, Grader, Kind, Outcome
from rsr.stats.bootstrap import beyond_resamples, percentile_interval, resampled_sums, standard_error
from rsr.store.artefacts import Artefact, begin, digest, locate
from rsr.store.locks import locking
from rsr.store.parquet import read_parquet, write_parquet

STAGE = "grades"
GRADES = "grades.parquet"


@dataclass(frozen=True)
class Performance:
    """A model on a benchmark.

    Attributes:
        problems: of them; one without a verdict on any sample is counted here, and has no part in the accuracy.
        accuracy: mean over problems of the share of right samples among those with a verdict (Acc@k), with a bootstrap interval
            over problems; the exact one for a benchmark where none or all are right.
        mean_length: tokens of an answer.
        truncated: share of answers cut at the limit.
        unanswered: share that ended without a final answer.
        ungradable: share without a verdict: the grader could not read the answer, or not in time.
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


def find(drawn: Artefact, root: Path) -> Artefact:
    """The grades of samples, complete or not.

    Raises:
        InputError: see `rsr.store.artefacts.locate`.
    """
    key = {"stage": STAGE, "version": VERSION, "samples": digest(drawn.key)}
    return locate(root, STAGE, drawn.id.rpartition("-")[0], key)


@locking
def grade(drawn: Artefact, root: Path) -> Artefact:
    """Grade samples, once for the same samples and grader: problem, sample, tokens, finish_reason, outcome, correct (null where
    there is no verdict).

    Raises:
        InputError: samples or grades cannot be read or written, or no sample has a verdict.
    """
    artefact = begin(find(drawn, root))
    if artefact.manifest is not None:
        return artefact
    began = time.perf_counter()
    rows = samples.read(drawn)
    with Grader(kind=Kind(drawn.key["benchmark"].get("grader", Kind.mathematics.value))) as grader:
        grades = grader.grade(rows.select("gold", "text").iter_rows(), drawn.facts["answer_pattern"])
    table = rows.select(
        "problem",
        "sample",
        pl.col("tokens").list.len(),
        "finish_reason",
        outcome=pl.Series([g.outcome.value for g in grades]),
        correct=pl.Series([g.verdict for g in grades], dtype=pl.Boolean),
    )
    if table["correct"].null_count() == len(table):
        raise InputError(f"{drawn.path}: no answer could be graded; evaluate again where the machine has less to do")
    write_parquet(table, artefact.path / GRADES)
    seconds = drawn.facts["seconds"] + time.perf_counter() - began
    return artefact.complete(
        benchmark=drawn.key["benchmark"]["name"],
        outcomes=dict(Counter(grade.outcome.value for grade in grades)),
        seconds=round(seconds, 3),
    )


def of(grades: Artefact) -> Performance:
    """Of the complete grades of one benchmark.

    Raises:
        InputError: they cannot be read.
    """
    return performance(read_parquet(grades, GRADES))


def performance(grades: pl.DataFrame, *, resamples: int = 10_000, seed: int = 0) -> Performance:
    """Acc@k of one benchmark; see `overall`.

    Args:
        grades: rows of `grade`.
    """
    return overall([grades], resamples=resamples, seed=seed)


def overall(tables: Sequence[pl.DataFrame], *, resamples: int = 10_000, seed: int = 0) -> Performance:
    """The unweighted mean over benchmarks, as the paper's score; problems are resampled within each benchmark.

    Args:
        tables: grades of one model, one table a benchmark.
    """
    rng = np.random.default_rng(seed)
    by_problem = [
        grades.group_by("problem", maintain_order=True).agg(pl.col("correct").mean(), pl.len()) for grades in tables
    ]
    shares = [table["correct"].drop_nulls().to_numpy() for table in by_problem]
    means = np.zeros(resamples)
    for of_problems in shares:
        means += resampled_sums(of_problems, resamples, rng) / len(of_problems) / len(tables)
    low, high = percentile_interval(means)
    for of_problems in shares:
        below, above = beyond_resamples(of_problems)
        low, high = low - below / len(tables), high + above / len(tables)

    def mean(column: Callable[[pl.DataFrame], pl.Series]) -> float:
        return float(np.mean([column(grades).to_numpy().mean() for grades in tables]))

    return Performance(
        problems=sum(len(table) for table in by_problem),
        k=max(int(table["len"].to_numpy().max()) for table in by_problem),
        accuracy=float(np.mean([of_problems.mean() for of_problems in shares])),
        low=low,
        high=high,
        error=standard_error(means),
        mean_length=mean(lambda grades: grades["tokens"]),
        truncated=mean(lambda grades: grades["finish_reason"] == "length"),
        unanswered=mean(lambda grades: grades["outcome"] == Outcome.NO_ANSWER.value),
        ungradable=mean(lambda grades: grades["outcome"].is_in([Outcome.UNPARSABLE.value, Outcome.TIMED_OUT.value])),
    )
