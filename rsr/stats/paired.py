"""One score against another on the same teachers, and how much a correlation depends on what.

Scores are oriented before: larger is meant to be better (see `Metric.expected_sign`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rsr.stats.bootstrap import resampled_statistic
from rsr.stats.correlation import correlate
from rsr.stats.effect import Effect, of_draws


@dataclass(frozen=True, kw_only=True)
class Difference(Effect):
    """Spearman of one score less that of another, with its interval over teachers.

    Over several students it is the mean of their differences.

    Attributes:
        p_value: of the test for dependent correlations, two-sided; NaN over several students.
    """

    p_value: float


def difference(
    one: ArrayLike,
    other: ArrayLike,
    accuracy: ArrayLike,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """Compare two scores by their Spearman correlation with the same accuracies.

    Args:
        one, other, accuracy: shape (teachers,) or (students, teachers).
    """
    a, b, y = (np.atleast_2d(np.asarray(values, float)) for values in (one, other, accuracy))
    students, n = y.shape

    def of_teachers(chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        first, second, accuracies = a[:, chosen], b[:, chosen], y[:, chosen]
        gap = correlate(first, accuracies, "spearman") - correlate(second, accuracies, "spearman")
        return np.asarray(gap.mean(axis=0))

    first, second = correlate(a, y, "spearman"), correlate(b, y, "spearman")
    between = correlate(a, b, "spearman")
    p_value = (
        dependent_correlations(float(first[0]), float(second[0]), float(between[0]), n) if students == 1 else np.nan
    )
    effect = of_draws(float((first - second).mean()), resampled_statistic(of_teachers, n, resamples, seed))
    return Difference(**vars(effect), p_value=p_value)


def dependent_correlations(first: float, second: float, between: float, n: int) -> float:
    """p-value for the equality of two correlations that share a variable (Meng, Rosenthal and Rubin 1992, Eq. 1)."""
    from scipy.stats import norm

    if abs(first) == 1 or abs(second) == 1 or between == 1:
        return float("nan")
    mean_square = (first**2 + second**2) / 2
    f = min((1 - between) / (2 * (1 - mean_square)), 1.0)
    h = (1 - f * mean_square) / (1 - mean_square)
    z = (np.arctanh(first) - np.arctanh(second)) * np.sqrt((n - 3) / (2 * (1 - between) * h))
    return float(2 * norm.sf(abs(z)))


def partial_spearman(scores: ArrayLike, accuracy: ArrayLike, control: ArrayLike) -> float:
    """Spearman of scores and accuracy given a third variable: the correlation of what its ranks leave of theirs."""
    xy, xz, yz = (
        float(correlate(a, b, "spearman")) for a, b in ((scores, accuracy), (scores, control), (accuracy, control))
    )
    rest = (1 - xz**2) * (1 - yz**2)
    return (xy - xz * yz) / float(np.sqrt(rest)) if rest > 0 else float("nan")


def leave_one_out(scores: ArrayLike, accuracy: ArrayLike) -> tuple[float, float]:
    """Lowest and highest Spearman when one teacher is left out."""
    x, y = np.asarray(scores, float), np.asarray(accuracy, float)
    values = [float(correlate(np.delete(x, i), np.delete(y, i), "spearman")) for i in range(len(x))]
    return min(values), max(values)


def pairwise_accuracy(scores: ArrayLike, accuracy: ArrayLike) -> float:
    """Share of pairs of teachers that a score puts in the order of their accuracy; a tied score counts half, pairs of
    equal accuracy do not count.
    """
    x, y = np.asarray(scores, float), np.asarray(accuracy, float)
    i, j = np.triu_indices(len(x), k=1)
    agreement = np.sign(x[i] - x[j]) * np.sign(y[i] - y[j])
    return float((agreement[y[i] != y[j]] + 1).mean() / 2)


def regret(scores: ArrayLike, accuracy: ArrayLike, k: int = 1) -> float:
    """Accuracy lost by training on the best of the k teachers that a score puts first, against the best of all."""
    x, y = np.asarray(scores, float), np.asarray(accuracy, float)
    return float(y.max() - y[np.argsort(-x, kind="stable")[:k]].max())
