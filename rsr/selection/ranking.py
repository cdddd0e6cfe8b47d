"""Datasets in the order of a metric for one student, and how sure that order is.

Datasets are compared on the problems for which all of them have a value. The jackknife over these problems gives intervals, and
says which datasets can be told from the first. A bootstrap, drawn once for all datasets, gives the share of resamples in which each is the
best, and who wins against whom.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rsr.errors import InputError
from rsr.metrics.aggregate import sums_by_problem
from rsr.metrics.base import METRICS, Metric, by_name
from rsr.metrics.score_tables import DATASET, of_metric
from rsr.stats import jackknife
from rsr.stats.bootstrap import resampled_counts
from rsr.stats.rounding import percent, with_interval
from rsr.tokens.tokens import divide

Floats = NDArray[np.float64]
BASELINES = ("avg_surprisal", "avg_rank_clipped", "avg_token_length")
By = Literal["dataset", "teacher"]
# Traits of trajectories that may explain a difference, by column, and as what they do.
TRAITS: dict[str, Callable[[Floats], Floats]] = {"tokens": np.log, "repetition": np.asarray}
FEWEST = 5  # problems that an order can be settled on: with fewer a standard error may be 0 by chance
FIRM = 30  # problems from which on it is said to be firm: with few, they may be unlike the rest by chance


@dataclass(frozen=True)
class Place:
    """One dataset in the order.

    Attributes:
        value, low, high: its score on the shared problems, and the 95 % interval (`rsr.stats.jackknife`).
        told_apart: whether the 95 % interval of its difference from the first excludes 0; False for the first.
        best: share of resamples in which it is the best.
        length: mean response tokens; None where the metric's scores do not say them (text is not tokenised).
        repetition: mean share of tokens that are repeats (`rsr.metrics.repetition`); None where the scores do not say it.
    """

    dataset: str
    value: float
    low: float
    high: float
    told_apart: bool
    best: float
    length: float | None
    repetition: float | None


@dataclass(frozen=True)
class AdjustedDifference:
    """A dataset against the first, and how a trait of their trajectories (log length, or repetition) shares in their difference.

    Per problem the difference of the two trajectory scores is regressed on the difference of the trait; the intercept is
    the difference where the trait is equal. Intervals are the jackknife's, which holds where problems scatter unlike, too.

    Attributes:
        dataset: which one is compared with the first.
        difference, low, high: mean difference of trajectory scores (dataset less first) and its 95 % interval.
        adjusted, adjusted_low, adjusted_high: the intercept and its interval; NaN where the trait differs by the same everywhere.
    """

    dataset: str
    difference: float
    low: float
    high: float
    adjusted: float
    adjusted_low: float
    adjusted_high: float

    @property
    def differs(self) -> bool:
        """The interval of the difference excludes 0."""
        return self.low * self.high > 0

    @property
    def stays(self) -> bool:
        """The difference is one, and where the trait is equal, too."""
        return self.differs and self.adjusted_low * self.adjusted_high > 0

    @property
    def explained(self) -> bool:
        """The difference is one, and where the trait is equal none is shown."""
        return self.differs and not self.stays


@dataclass(frozen=True, repr=False)
class Ranking:
    """The order of datasets.

    Attributes:
        places: best first.
        wins: wins[i][j] is the share of resamples in which place i is better than place j; a tie counts half.
        problems, left_out: problems compared on, and those that some dataset has no value for.
        to_settle: further problems after which the 95 % interval of the difference of the first two would exclude 0, if
            the difference stayed as it is (and its error fell with the root of their number): an estimate. 0 where it does already;
            None for one dataset, or where the two are equal.
        choices: the dataset that each baseline would have chosen, on the same problems.
        lengths: every other dataset against the first at equal length; none where lengths are not known.
        repetitions: the same at equal repetition.
    """

    metric: str
    preset: str
    direction: str
    places: tuple[Place, ...]
    wins: tuple[tuple[float, ...], ...]
    problems: int
    left_out: int
    to_settle: int | None
    choices: dict[str, str]
    lengths: tuple[AdjustedDifference, ...]
    repetitions: tuple[AdjustedDifference, ...]

    def __repr__(self) -> str:
        """A line each dataset."""
        places = [
            f"{i + 1}. {p.dataset} {with_interval(p.value, p.low, p.high)}, the best in {percent(p.best)} of resamples"
            for i, p in enumerate(self.places)
        ]
        return "\n".join([f"{self.metric}, {self.direction} is better, on {self.problems} problems", *places])


def rank(
    trajectories: pl.DataFrame,
    metric: str = "rsr",
    preset: str = "",
    *,
    by: By = "dataset",
    resamples: int = 10_000,
    seed: int = 0,
) -> Ranking:
    """Rank the datasets of a table of trajectory scores (columns: `rsr.metrics.aggregate.SCHEMA`).

    Args:
        by: "teacher" takes all generations of a teacher together as one dataset.

    Raises:
        InputError: no such metric in the table, or fewer than two problems have a value in all datasets.
    """
    if resamples < 100:
        raise InputError(f"resamples {resamples} is too small: the least is 100")
    rows = _with_repetition(of_metric(trajectories, metric, preset), trajectories)
    if by == "teacher":
        trajectories, rows = (table.with_columns(generation=pl.lit("")) for table in (trajectories, rows))
        rows = rows.with_columns(dataset=DATASET)
    shared, total = _shared(rows), rows["problem"].n_unique()
    if len(shared) < 2:
        raise InputError(
            f"{len(shared)} of {total} problems have a value in all {rows['dataset'].n_unique()} datasets, and at least 2 are needed: "
            "do the datasets hold answers to the same problems?"
        )
    sign = -1 if by_name(metric).direction == "lower" else 1
    names, values, sums = _ordered(rows, shared, sign)
    compared = rows.filter(pl.col("problem").is_in(shared), pl.col("value").is_not_null())
    best, wins = _best_and_wins(sums, sign, resamples, seed)
    without_each = [jackknife.ratios_without_each(s) for s in sums]
    settled_after = [
        _settled_after(values[0] - value, without_each[0] - without)
        for value, without in zip(values, without_each, strict=True)
    ]
    traits = rows.filter(pl.col("problem").is_in(shared)).group_by("dataset").agg(pl.col(*TRAITS).mean())
    length, repetition = (dict(traits.select("dataset", trait).iter_rows()) for trait in TRAITS)
    places = tuple(
        Place(
            name,
            float(values[i]),
            *jackknife.interval(float(values[i]), without_each[i]),
            told_apart=(needed := settled_after[i]) is not None and needed <= len(shared),
            best=float(best[i]),
            length=length[name],
            repetition=repetition[name],
        )
        for i, name in enumerate(names)
    )
    second = settled_after[1] if len(names) > 1 else None
    return Ranking(
        metric=metric,
        preset=preset,
        direction=by_name(metric).direction,
        places=places,
        wins=tuple(tuple(float(x) for x in row) for row in wins),
        problems=len(shared),
        left_out=total - len(shared),
        to_settle=None if second is None else max(0, second - len(shared)),
        choices={name: chosen for name in BASELINES if (chosen := _choice(trajectories, METRICS[name], shared))},
        lengths=_adjusted(compared, names, "tokens"),
        repetitions=_adjusted(compared, names, "repetition"),
    )


def _adjusted(rows: pl.DataFrame, names: Sequence[str], trait: str) -> tuple[AdjustedDifference, ...]:
    """The lead of the first dataset over each other at an equal trait; nothing where the trait is not known of all rows."""
    if rows[trait].null_count():
        return ()
    return tuple(adjusted_difference(other, *_differences(rows, names[0], other, trait)) for other in names[1:])


def _with_repetition(rows: pl.DataFrame, trajectories: pl.DataFrame) -> pl.DataFrame:
    """The rows with the repetition of their trajectory, where the table knows it."""
    names = ["student", "teacher", "generation", "trajectory"]
    known = trajectories.filter(metric="repetition").select(*names, repetition="value")
    return rows.join(known, on=names, how="left", maintain_order="left")


def _ordered(rows: pl.DataFrame, shared: Sequence[str], sign: int) -> tuple[list[str], Floats, list[Floats]]:
    """Names of the datasets from the best to the worst, their values, and their sums by problem."""
    names = rows["dataset"].unique().sort().to_list()
    sums = [_sums(rows, name, shared) for name in names]
    values = np.array([_ratio(s.sum(axis=0)) for s in sums])
    order = sorted(range(len(names)), key=lambda i: (-sign * values[i], names[i]))
    return [names[i] for i in order], values[order], [sums[i] for i in order]


def _shared(rows: pl.DataFrame) -> list[str]:
    """Problems for which every dataset has a value, sorted."""
    valued = rows.filter(pl.col("value").is_not_null())
    counts = valued.group_by("problem").agg(pl.col("dataset").n_unique())
    everywhere = counts.filter(pl.col("dataset") == rows["dataset"].n_unique())
    return everywhere["problem"].sort().to_list()


def _sums(rows: pl.DataFrame, dataset: str, shared: Sequence[str]) -> Floats:
    at = {problem: i for i, problem in enumerate(shared)}
    own = rows.filter(pl.col("dataset") == dataset, pl.col("problem").is_in(shared))
    return sums_by_problem(own.filter(pl.col("value").is_not_null()), at)


def _ratio(sums: Floats) -> float:
    return float(divide(*sums[:, None])[0])


def _best_and_wins(sums: Sequence[Floats], sign: int, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """Shares of resamples in which each dataset is the best, and is better than each other; ties are shared out.

    A block of resamples is in memory at a time.

    Returns:
        Shapes (datasets,) and (datasets, datasets).
    """
    best, wins = np.zeros(len(sums)), np.zeros((len(sums), len(sums)))
    for counts in resampled_counts(len(sums[0]), resamples, seed):
        drawn = sign * np.stack([divide(*(counts @ own).T) for own in sums])  # (datasets, block)
        largest = drawn == np.nanmax(drawn, axis=0)
        best += (largest / largest.sum(axis=0)).sum(axis=1)
        wins += [((np.sign(one - drawn) + 1) / 2).sum(axis=1) for one in drawn]
    return best / resamples, wins / resamples


def _settled_after(difference: float, without_each: Floats) -> int | None:
    """The number of problems from which on the interval of a difference excludes 0; None where it is 0 or not known."""
    n, error = len(without_each), jackknife.standard_error(without_each)
    if difference == 0 or not np.isfinite(difference + error):
        return None
    enough = FEWEST
    while jackknife.margin(error * np.sqrt(n / enough), enough) >= abs(difference):
        # Without the weight of t, which falls with the number, this is where it ends; it never steps beyond.
        enough = max(enough + 1, int(n * (jackknife.margin(error, 10**9) / difference) ** 2))
    return enough


def _choice(trajectories: pl.DataFrame, metric: Metric, shared: Sequence[str]) -> str | None:
    """The best dataset by a metric on these problems, the first by name of equals; None where a value is missing, or the table
    holds only other metrics.
    """
    rows = trajectories.filter(metric=metric.name, preset="").with_columns(dataset=DATASET)
    if rows.is_empty():
        return None
    names = rows["dataset"].unique().sort().to_list()
    values = [metric.expected_sign * _ratio(_sums(rows, name, shared).sum(axis=0)) for name in names]
    sign_of_best = int(np.argmax(values))
    return None if np.isnan(values).any() else str(names[sign_of_best])


def _differences(rows: pl.DataFrame, first: str, other: str, trait: str) -> tuple[Floats, Floats]:
    """Per problem, by how much the other differs from the first in a trait and in the score."""

    def columns(dataset: str) -> tuple[Floats, Floats]:
        own = rows.filter(pl.col("dataset") == dataset)
        means = own.group_by("problem").agg(pl.col("value", trait).mean()).sort("problem")
        return TRAITS[trait](means[trait].to_numpy()), means["value"].to_numpy()

    (x0, y0), (x1, y1) = columns(first), columns(other)
    return x1 - x0, y1 - y0


def adjusted_difference(dataset: str, trait: Floats, score: Floats) -> AdjustedDifference:
    """A difference of scores, and what it is where a trait does not differ.

    Args:
        trait, score: per problem the difference from the first, shape (problems,), at least 2.
    """
    moments = np.stack([trait, score, trait * trait, trait * score], axis=1)
    n, sums, varies = len(moments), moments.sum(axis=0), bool(trait.any())
    values = _intercept(sums[None], n, varies)
    without_each = _intercept(sums - moments, n - 1, varies)
    raw, equal = (
        (float(value), *jackknife.interval(float(value), without))
        for (value,), without in zip(values, without_each, strict=True)
    )
    return AdjustedDifference(dataset, *raw, *equal)


def _intercept(sums: Floats, n: int, varies: bool) -> tuple[Floats, Floats]:
    """Mean of y and the intercept of its regression on x, per row of sums of x, y, x^2 and xy over n problems. The intercept
    is the mean where x is 0 throughout, and NaN where x does not vary otherwise: the two cannot be told apart.
    """
    mx, my, mxx, mxy = sums.T / n
    variance, covariance = mxx - mx**2, mxy - mx * my
    slope = np.divide(covariance, variance, out=np.full_like(mx, np.nan), where=variance > 1e-12)
    return my, my - slope * mx if varies else my
