"""From token stores to scores of trajectories and datasets."""

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rsr.features.extractor import COMMON, FeatureTable
from rsr.metrics.base import METRICS, Metric, Parts
from rsr.stats import jackknife
from rsr.tokens.token_store import TokenStore
from rsr.tokens.tokens import Tokens, divide

SCHEMA = {
    "student": pl.String,
    "teacher": pl.String,
    "generation": pl.String,
    "trajectory": pl.String,
    "problem": pl.String,
    "metric": pl.String,
    "preset": pl.String,
    "value": pl.Float64,
    "numerator": pl.Float64,
    "denominator": pl.Float64,
    "tokens": pl.Int64,
    "truncated": pl.Boolean,
    "artefact": pl.String,
}
DATASET_SCHEMA = {
    **dict.fromkeys(["student", "teacher", "generation", "metric", "preset"], pl.String),
    **dict.fromkeys(["value", "low", "high", "error"], pl.Float64),
    "n": pl.Int64,
    "missing": pl.Int64,
    "tokens": pl.Float64,
    "artefact": pl.String,
}
GROUP = ["student", "teacher", "generation", "metric", "preset"]  # whose rows are a score of a dataset


def token_metrics() -> list[Metric]:
    """The declared metrics that are computed from token statistics."""
    return [metric for metric in METRICS.values() if metric.needs == "tokens"]


def trajectory_scores(store: TokenStore, metrics: Iterable[Metric] | None = None) -> pl.DataFrame:
    """One row per trajectory, metric and preset (columns: `SCHEMA`); what has no value is null.

    Args:
        metrics: token metrics; None takes all.
    """
    chosen = token_metrics() if metrics is None else list(metrics)
    frames = [pl.DataFrame(schema=SCHEMA)]
    for shard in store:
        common = pl.DataFrame(
            {
                "trajectory": shard.ids,
                "problem": shard.problems,
                "tokens": shard.tokens.lengths,
                "truncated": shard.truncated,
            }
        ).with_columns(
            student=pl.lit(store.student),
            teacher=pl.lit(store.teacher),
            generation=pl.lit(store.generation),
            artefact=pl.lit(store.artefact.id),
        )
        frames += _rows(common, shard.tokens, chosen)
    return pl.concat(frames)


def _rows(common: pl.DataFrame, measured: Tokens | pl.DataFrame, metrics: Iterable[Metric]) -> list[pl.DataFrame]:
    """A frame per metric and preset of what was measured of the trajectories in `common`."""
    return [
        common.with_columns(
            metric=pl.lit(metric.name), preset=pl.lit(preset), **_columns(_parts(metric, measured, preset))
        )
        .select(*SCHEMA)
        .cast(pl.Schema(SCHEMA))
        for metric in metrics
        for preset in metric.presets
    ]


def _parts(metric: Metric, measured: Tokens | pl.DataFrame, preset: str) -> Parts:
    """Without value where the store lacks a column that only some metrics need."""
    if isinstance(measured, Tokens) and metric.lacking(measured):
        return Parts(np.full(len(measured.lengths), np.nan))
    return metric(measured, preset)


def feature_scores(measured: Sequence[FeatureTable], metrics: Iterable[Metric]) -> pl.DataFrame:
    """Rows as of `trajectory_scores`, for metrics of trajectories that are computed from measurements of one kind.

    Args:
        measured: of all datasets; together they are the pool that rule-based quality refers to.
    """
    pool = pl.concat(
        m.rows.with_columns(
            student=pl.lit(m.student),
            teacher=pl.lit(m.teacher),
            generation=pl.lit(m.generation),
            artefact=pl.lit(m.artefact.id),
        )
        for m in measured
    )
    return pl.concat([pl.DataFrame(schema=SCHEMA), *_rows(pool.rename({"id": "trajectory"}), pool, metrics)])


def feature_dataset_scores(measured: Sequence[FeatureTable], metrics: Iterable[Metric]) -> pl.DataFrame:
    """Rows as of `dataset_scores`, without intervals, for metrics that have no value for a trajectory (GRACE)."""
    rows = []
    for metric in metrics:
        for m in measured:
            missing = m.rows.select(pl.any_horizontal(pl.exclude(COMMON).is_null()))
            rows += [
                {
                    "student": m.student,
                    "teacher": m.teacher,
                    "generation": m.generation,
                    "metric": metric.name,
                    "preset": preset,
                    "value": None if np.isnan(value := float(metric(m.rows, preset).values[0])) else value,
                    "n": len(m.rows) - int(missing.to_series().sum()),
                    "missing": int(missing.to_series().sum()),
                    "tokens": m.rows["tokens"].mean(),
                    "artefact": m.artefact.id,
                }
                for preset in metric.presets
            ]
    return pl.DataFrame(rows, schema=DATASET_SCHEMA)


def _columns(parts: Parts) -> dict[str, pl.Series | pl.Expr]:
    missing = pl.lit(None, pl.Float64)
    ratio = parts.denominator is not None
    return {
        "value": pl.Series(parts.values).fill_nan(None),
        "numerator": pl.Series(parts.numerator).fill_nan(None) if ratio else missing,
        "denominator": pl.Series(parts.denominator).fill_nan(None) if ratio else missing,
    }


def dataset_scores(trajectories: pl.DataFrame) -> pl.DataFrame:
    """Scores of datasets: a mean over trajectories, or a ratio of means where a metric is a ratio (Eq. 9).

    The interval is that of a jackknife over problems (`rsr.stats.jackknife`): all answers to a problem come and go together.

    Args:
        trajectories: rows of `trajectory_scores`, of one or more datasets.

    Returns:
        One row per student, teacher, generation, metric and preset: value (null where no trajectory has one), low, high,
        error (standard error; these are null with one problem), n (trajectories with a value), missing (without), tokens (mean),
        artefact.
    """
    groups = trajectories.group_by(GROUP, maintain_order=True)
    return pl.DataFrame([_dataset_row(names, frame) for names, frame in groups], schema=DATASET_SCHEMA)


def _dataset_row(names: tuple[object, ...], frame: pl.DataFrame) -> dict[str, object]:
    valued = frame.filter(pl.col("value").is_not_null())
    row: dict[str, object] = dict(zip(GROUP, names, strict=True)) | {
        "n": len(valued),
        "missing": len(frame) - len(valued),
        "tokens": frame["tokens"].mean(),
        "artefact": frame["artefact"][0],
    }
    if len(valued):
        sums = sums_by_problem(valued, {problem: i for i, problem in enumerate(valued["problem"].unique().sort())})
        value = row["value"] = float(divide(*sums.sum(axis=0)[:, None])[0])
        if len(sums) > 1:
            without_each = jackknife.ratios_without_each(sums)
            row["error"] = jackknife.standard_error(without_each)
            row["low"], row["high"] = jackknife.interval(value, without_each)
    return row


def sums_by_problem(frame: pl.DataFrame, problems: dict[str, int]) -> NDArray[np.float64]:
    """Sums of numerators and denominators (or of values and ones) per problem, shape (problems, 2).

    Args:
        frame: rows with a value.
        problems: the place of each problem.
    """
    at = frame["problem"].replace_strict(problems, return_dtype=pl.Int64).to_numpy()
    if frame["denominator"].null_count() == len(frame):
        columns = [frame["value"].to_numpy(), np.ones(len(frame))]
    else:
        columns = [frame["numerator"].to_numpy(), frame["denominator"].to_numpy()]
    return np.stack([np.bincount(at, column, minlength=len(problems)) for column in columns], axis=1)
