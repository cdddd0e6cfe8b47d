"""From token stores to scores of trajectories and datasets."""

from collections.abc import Iterable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rsr.metrics.base import METRICS, Metric, Parts
from rsr.store import TokenStore
from rsr.tokens import divide

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


def token_metrics() -> list[Metric]:
    """The declared metrics that are computed from token statistics."""
    return [metric for metric in METRICS.values() if metric.compute is not None]


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
        frames += [
            common.with_columns(
                metric=pl.lit(metric.name), preset=pl.lit(preset), **_columns(metric(shard.tokens, preset))
            )
            .select(*SCHEMA)
            .cast(pl.Schema(SCHEMA))
            for metric in chosen
            for preset in metric.presets
        ]
    return pl.concat(frames)


def _columns(parts: Parts) -> dict[str, pl.Series | pl.Expr]:
    missing = pl.lit(None, pl.Float64)
    ratio = parts.denominator is not None
    return {
        "value": pl.Series(parts.values).fill_nan(None),
        "numerator": pl.Series(parts.numerator).fill_nan(None) if ratio else missing,
        "denominator": pl.Series(parts.denominator).fill_nan(None) if ratio else missing,
    }


def dataset_scores(
    trajectories: pl.DataFrame, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> pl.DataFrame:
    """Scores of datasets: a mean over trajectories, or a ratio of means where a metric is a ratio (Eq. 9).

    The interval is a percentile bootstrap over problems: all answers to a problem come and go together, in every dataset
    of the frame at once.

    Args:
        trajectories: rows of `trajectory_scores`, of one or more datasets.

    Returns:
        One row per student, teacher, generation, metric and preset: value (null where no trajectory has one), low, high,
        error (standard error), n (trajectories with a value), missing (without), tokens (mean), artefact.
    """
    problems = {problem: i for i, problem in enumerate(trajectories["problem"].unique().sort())}
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(problems), np.full(len(problems), 1 / len(problems)), resamples).astype(np.float64)
    tail = (1 - confidence) / 2
    key = ["student", "teacher", "generation", "metric", "preset"]
    rows = []
    for group, frame in trajectories.group_by(key, maintain_order=True):
        valued = frame.filter(pl.col("value").is_not_null())
        row: dict[str, object] = dict(zip(key, group, strict=True)) | {
            "value": None,
            "low": None,
            "high": None,
            "error": None,
            "n": len(valued),
            "missing": len(frame) - len(valued),
            "tokens": frame["tokens"].mean(),
            "artefact": frame["artefact"][0],
        }
        if len(valued):
            sums = sums_by_problem(valued, problems)
            drawn = divide(*(weights @ sums).T)
            drawn = drawn[~np.isnan(drawn)]
            row["value"] = float(divide(*sums.sum(axis=0)[:, None])[0])
            row["low"], row["high"] = np.quantile(drawn, [tail, 1 - tail])
            row["error"] = drawn.std(ddof=1)
        rows.append(row)
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(["value", "low", "high", "error"], pl.Float64))


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
