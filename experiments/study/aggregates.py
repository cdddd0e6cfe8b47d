"""What a measured study says: aggregates, accuracies, and the order of teachers in each generation."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import polars as pl

from experiments.app.shared_configs import CorrelationConfig
from experiments.paper.metric_table import Aggregates, Result, compare
from experiments.stages import verification
from experiments.stages.evaluation import BASE
from experiments.stages.random_selection import GENERATION
from experiments.study.study import StudyResult
from rsr.metrics import Metric
from rsr.metrics.teacher import VERIFIED_ACCURACY
from rsr.stats.correlation import correlate


def of_teachers(accuracies: pl.DataFrame) -> pl.DataFrame:
    """Without the base, and without datasets that were selected from several teachers."""
    return accuracies.filter(pl.col("teacher") != BASE, pl.col("generation") != GENERATION)


def verified(measured: StudyResult, config: CorrelationConfig) -> pl.DataFrame:
    """The grades of the teachers' answers; see `experiments.stages.verification.verified`."""
    return verification.verified(measured.data, config.teachers.answer, config.teachers.grader, config.paths.outputs)


def by_teacher(verified: pl.DataFrame) -> pl.DataFrame:
    """teacher, generation, value (share of right trajectories, null where nothing has a verdict), error, n (with one)."""
    share, n = pl.col("correct").mean(), pl.col("correct").count()
    return verified.group_by("teacher", "generation", maintain_order=True).agg(
        value=share, error=(share * (1 - share) / n).sqrt(), n=n
    )


def incomplete(measured: StudyResult) -> list[str]:
    """Teachers of which a generation has no accuracy, since a cell failed: a mean over the others would not compare."""
    return sorted(
        {student.teacher for name, student in measured.students.items() if name not in {BASE, *measured.grades}}
    )


def aggregates(measured: StudyResult, accuracies: pl.DataFrame, verified: pl.DataFrame, student: str) -> Aggregates:
    """Scores and accuracies of teachers: means over their generations (as in the paper); without those `incomplete`.

    Args:
        verified: rows of `verified`.
    """
    assert measured.scores is not None
    complete = ~pl.col("teacher").is_in(incomplete(measured))
    scores = measured.scores.select("teacher", "generation", "metric", "preset", "value", "error")
    right = by_teacher(verified).select(
        "teacher",
        "generation",
        pl.lit(VERIFIED_ACCURACY.name).alias("metric"),
        pl.lit("").alias("preset"),
        "value",
        "error",
    )
    key = ["teacher", "metric", "preset"]
    of_teacher = (
        pl.concat([scores, right])
        .drop_nulls("value")
        .filter(complete)
        .group_by(key, maintain_order=True)
        .agg(pl.col("value").mean(), (pl.col("error") ** 2).sum().sqrt() / pl.len())
    )
    trained = of_teachers(accuracies).filter(complete).group_by("teacher", maintain_order=True)
    named = pl.lit(student).alias("student")
    return Aggregates(
        of_teacher.select(named, pl.all()),
        trained.agg(pl.col("accuracy").mean()).select(named, pl.all()),
    )


def of_all_teachers(aggregated: Aggregates) -> set[str]:
    """Names of the metrics that every teacher has a score of."""
    teachers = aggregated.performance["teacher"]
    counts = aggregated.scores.group_by("metric", "preset").agg(n=pl.col("teacher").is_in(teachers.implode()).sum())
    return set(counts["metric"]) - set(counts.filter(pl.col("n") < len(teachers))["metric"])


def subsets(aggregated: Aggregates, config: CorrelationConfig) -> dict[str, list[str]]:
    """Teachers that a correlation may also be asked of: those that write right solutions, and those that taught anything."""
    accuracy = dict(aggregated.performance.select("teacher", "accuracy").iter_rows())
    right = dict(aggregated.scores.filter(metric=VERIFIED_ACCURACY.name).select("teacher", "value").iter_rows())
    floor, verified = config.study.floor, config.study.verified
    return {
        f"verified accuracy >= {verified:g} %": [t for t in accuracy if right.get(t, 0.0) * 100 >= verified],
        f"accuracy after training >= {floor:g} %": [t for t in accuracy if accuracy[t] >= floor],
    }


def over(
    teachers: Sequence[str], metrics: Sequence[Metric], aggregated: Aggregates, config: CorrelationConfig
) -> list[Result]:
    """Spearman of every metric over some of the teachers; none where there are fewer than three."""
    if len(teachers) < 3:
        return []
    return [
        result
        for metric in metrics
        for table in aggregated.tables(metric, [config.student.name], teachers)
        if len(set(table.scores[0])) > 1 and len(set(table.accuracy[0])) > 1
        for result in compare(table, None, config.bootstrap, ["spearman"])
    ]


def stability(accuracies: pl.DataFrame) -> list[tuple[str, str, int, float]]:
    """Spearman of the teachers' accuracies between every two generations: generations, n, coefficient."""
    trained = of_teachers(accuracies)
    rows = []
    for one, other in combinations(trained["generation"].unique(maintain_order=True), 2):
        both = trained.filter(generation=one).join(trained.filter(generation=other), on="teacher")
        x, y = (both[name].to_numpy().astype(np.float64) for name in ("accuracy", "accuracy_right"))
        if len(both) >= 3 and np.ptp(x) > 0 and np.ptp(y) > 0:
            rows.append((one, other, len(both), float(correlate(x, y, "spearman"))))
    return rows
