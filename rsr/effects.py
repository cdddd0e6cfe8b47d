"""Means and differences of accuracy with their intervals, and the smallest effect that could have been told from none.

Accuracies of a model trained with several seeds are shares of right samples of shape (seeds, problems). What varies is the
seed of training and the problem; the two are added as independent components of variance, which counts what belongs to
both twice and errs on the wide side. Intervals are Student's t with the degrees of freedom of Welch and Satterthwaite: a
bootstrap over three seeds would be too narrow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Shares = Mapping[str, NDArray[np.float64]]  # by benchmark: seeds x problems
POWER = 0.8


@dataclass(frozen=True)
class Effect:
    """A mean or a difference.

    Attributes:
        value, low, high: with its interval; low and high are NaN where nothing can be said of the error.
        detectable: the smallest effect that a two-sided test tells from none with 80 % power.
    """

    value: float
    low: float
    high: float
    detectable: float

    @property
    def told(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def mean(values: ArrayLike, *, confidence: float = 0.95) -> Effect:
    """The mean of independent values, such as differences of several students."""
    x = np.asarray(values, float)
    return _effect(float(x.mean()), [_of_mean(x)], confidence)


def accuracy(shares: Shares, *, confidence: float = 0.95) -> Effect:
    """Mean over seeds and problems, unweighted over benchmarks."""
    return difference(shares, None, confidence=confidence)


def difference(one: Shares, other: Shares | None, *, confidence: float = 0.95) -> Effect:
    """Accuracy of one less that of another on the same problems; None is 0.

    Problems are paired, seeds are not: two datasets have nothing in common under the same seed.
    """
    per_problem = {b: of.mean(axis=0) - (0.0 if other is None else other[b].mean(axis=0)) for b, of in one.items()}
    value = float(np.mean([d.mean() for d in per_problem.values()]))
    parts = [_of_mean(d, len(one)) for d in per_problem.values()]
    parts += [_of_mean(_by_seed(shares)) for shares in (one, other) if shares is not None]
    return _effect(value, parts, confidence)


def _by_seed(shares: Shares) -> NDArray[np.float64]:
    """Accuracy of each seed."""
    return np.asarray(np.mean([of.mean(axis=1) for of in shares.values()], axis=0))


def _of_mean(x: NDArray[np.float64], of: int = 1) -> tuple[float, int]:
    """Variance of a mean that is one of so many averaged, and its degrees of freedom; of a single value nothing is known."""
    return (float(x.var(ddof=1)) / len(x) / of**2, len(x) - 1) if len(x) > 1 else (0.0, 0)


def _effect(value: float, parts: Sequence[tuple[float, int]], confidence: float) -> Effect:
    known = [(variance, freedom) for variance, freedom in parts if freedom]
    total = sum(variance for variance, _ in known)
    if not known:
        return Effect(value, np.nan, np.nan, np.nan)
    if total == 0:
        return Effect(value, value, value, 0.0)
    freedom = total**2 / sum(variance**2 / freedom for variance, freedom in known)
    quantile = float(stats.t.ppf((1 + confidence) / 2, freedom))
    half = quantile * total**0.5
    return Effect(
        value, value - half, value + half, (quantile + float(stats.t.ppf(POWER, freedom))) * total**0.5
    )
