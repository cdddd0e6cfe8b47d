"""Calibrated RSR beside RSR, surprisal and LARK's learnability: their correlations with accuracy in the same resamples."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments.app.shared_configs import BootstrapConfig
from experiments.stages.evaluation import BASE
from rsr.metrics import by_name
from rsr.metrics.score_tables import of_metric
from rsr.stats.bootstrap import percentile_interval, resampled_statistic, resampled_sums, standard_error
from rsr.stats.correlation import correlate
from rsr.stats.effect import Effect, minimum_detectable, of_draws

Floats = NDArray[np.float64]
CALIBRATED = "calibrated_rsr"
COMPARED = (CALIBRATED, "rsr", "avg_surprisal", "lark_learnability")


@dataclass(frozen=True)
class Resampled:
    """Correlations of each score with accuracy, and of calibrated RSR how much more it agrees with its direction.

    Attributes:
        unit: what was resampled.
        spearman: by metric, with a 95 % interval.
        lead: by other metric Spearman of calibrated RSR less its own, both positive where a score is right about direction; the
            interval is widened for as many comparisons (Bonferroni).
    """

    unit: str
    spearman: dict[str, Effect]
    lead: dict[str, Effect]


@dataclass(frozen=True)
class Comparison:
    """What was compared.

    Attributes:
        table: a row a teacher: accuracy in percent, and each score.
        resampled: over problems, and over teachers; none where there is no order of teachers to agree with.
    """

    table: pl.DataFrame
    resampled: list[Resampled]


def comparison(trajectories: pl.DataFrame, answers: pl.DataFrame, bootstrap: BootstrapConfig) -> Comparison:
    """Correlations over the teachers of a student.

    Problems are drawn anew twice in each resample: those that scores are means over, and those of the benchmarks. Accuracies are
    means over seeds, and accuracies and scores over generations.

    Args:
        trajectories: scores of all of `COMPARED`.
        answers: rows of `experiments.study.trained.TrainedStudents.answers`.

    Raises:
        InputError: the scores lack one of the metrics.
    """
    trained = answers.filter(pl.col("teacher") != BASE)
    teachers = trained["teacher"].unique(maintain_order=True).to_list()
    rng = np.random.default_rng(bootstrap.seed)

    def whole(by_problem: Floats) -> Floats:
        return np.asarray(by_problem.sum(axis=0, keepdims=True))

    def drawn(by_problem: Floats) -> Floats:
        return resampled_sums(by_problem, bootstrap.resamples, rng)

    x, y = _scores(trajectories, teachers, whole)[:, 0], _accuracies(trained, teachers, whole)[0]
    table = pl.DataFrame({"teacher": teachers, "accuracy": 100 * y, **dict(zip(COMPARED, x, strict=True))})
    table = table.sort("accuracy", descending=True)
    if len(teachers) < 3 or not np.ptp(y):
        return Comparison(table, [])
    found = correlate(x, y[None], "spearman")
    scores, accuracies = _scores(trajectories, teachers, drawn), _accuracies(trained, teachers, drawn)
    over_problems = correlate(scores, accuracies[None], "spearman").T

    def over_teachers(chosen: NDArray[np.int64]) -> Floats:
        return correlate(x[:, chosen], y[chosen][None], "spearman").T

    by_teacher = resampled_statistic(over_teachers, len(teachers), bootstrap.resamples, rng)
    effects = [_effects("problems", found, over_problems), _effects("teachers", found, by_teacher)]
    return Comparison(table, effects)


def _effects(unit: str, found: Floats, drawn: Floats) -> Resampled:
    """Of correlations, shape (metrics,), and their resamples, shape (resamples, metrics)."""
    signs = np.array([by_name(metric).expected_sign for metric in COMPARED])
    right, right_drawn = signs * found, signs * drawn
    lead = {}
    for i, metric in enumerate(COMPARED[1:], start=1):
        gap = right_drawn[:, 0] - right_drawn[:, i]
        low, high = percentile_interval(gap, comparisons=len(COMPARED) - 1)
        value = float(right[0] - right[i])
        lead[metric] = Effect(value, low, high, minimum_detectable(standard_error(gap)), f"over {unit}")
    spearman = {metric: of_draws(found[i], drawn[:, i]) for i, metric in enumerate(COMPARED)}
    return Resampled(unit, spearman, lead)


def _scores(trajectories: pl.DataFrame, teachers: list[str], sums: Callable[[Floats], Floats]) -> Floats:
    """Ratios of sums over problems, as the scores of datasets are; a trajectory without a value counts nowhere."""
    value, whole = pl.col("value").is_not_null(), pl.col("denominator").is_not_null()
    parts = [
        of_metric(trajectories, metric)
        .filter(value)
        .select(
            "teacher",
            "generation",
            "problem",
            metric=pl.lit(metric),
            above=pl.when(whole).then("numerator").otherwise("value"),
            below=pl.when(whole).then("denominator").otherwise(1.0),
        )
        for metric in COMPARED
    ]
    rows = pl.concat(parts)
    columns = rows.select("metric", "teacher", "generation").unique(maintain_order=True)
    wide = [_wide(rows, columns, "problem", name) for name in ("above", "below")]
    both = sums(np.concatenate(wide, axis=1))
    ratios = both[:, : len(columns)] / both[:, len(columns) :]
    return np.stack([_by_teacher(ratios, columns, teachers, metric=metric) for metric in COMPARED])


def _accuracies(answers: pl.DataFrame, teachers: list[str], sums: Callable[[Floats], Floats]) -> Floats:
    """Means over problems, benchmarks and then seeds and generations."""
    columns = answers.select("teacher", "generation", "seed").unique(maintain_order=True)
    by_benchmark = []
    for _, rows in answers.group_by("benchmark", maintain_order=True):
        correct = _wide(rows, columns, "problem", "correct")
        by_benchmark.append(sums(correct) / len(correct))
    return _by_teacher(np.mean(by_benchmark, axis=0), columns, teachers)


def _wide(rows: pl.DataFrame, columns: pl.DataFrame, unit: str, value: str) -> Floats:
    """Sums of a value, shape (units, columns)."""
    units = rows.select(unit).unique(maintain_order=True).with_row_index("row")
    places = columns.with_row_index("column")
    placed = rows.join(units, on=unit).join(places, on=columns.columns, nulls_equal=True)
    wide = np.zeros((len(units), len(columns)))
    np.add.at(wide, (placed["row"].to_numpy(), placed["column"].to_numpy()), placed[value].to_numpy())
    return wide


def _by_teacher(values: Floats, columns: pl.DataFrame, teachers: list[str], **of: str) -> Floats:
    """Means over a teacher's columns, shape (resamples, teachers)."""
    chosen = columns.with_row_index("column").filter(**of)
    return np.stack(
        [values[:, chosen.filter(teacher=teacher)["column"].to_numpy()].mean(axis=1) for teacher in teachers], axis=1
    )
