"""How far a score orders teachers as their students' accuracy does.

Every function takes scores and accuracies as arrays whose last axis runs over teachers, and, where the paper
averages over students, a first axis over students. Students share their teachers, so a resample or a permutation
of teachers is drawn once and applied to every student.

Intervals are percentile bootstraps over teachers, p-values two-sided permutation tests; the mean over students is
the mean of *signed* coefficients (the "Average" of Table 4 is its absolute value).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rsr.errors import InputError
from rsr.stats.bootstrap import percentile_interval, resampled_statistic
from rsr.stats.effect import Effect, minimum_detectable

Coefficient = Literal["spearman", "pearson", "kendall"]
COEFFICIENTS: tuple[Coefficient, ...] = ("spearman", "pearson", "kendall")

Floats = NDArray[np.float64]


def correlate(scores: ArrayLike, accuracy: ArrayLike, coefficient: Coefficient) -> Floats:
    """Correlation along the last axis, broadcasting the others; NaN where one side is constant.

    Spearman ranks ties by their mean rank, Kendall is tau-b: both as in SciPy.
    """
    x, y = np.asarray(scores, float), np.asarray(accuracy, float)
    if coefficient == "spearman":
        from scipy.stats import rankdata

        x, y = rankdata(x, axis=-1), rankdata(y, axis=-1)
    if coefficient == "kendall":
        first, second = np.triu_indices(x.shape[-1], k=1)
        return _cosine(np.sign(x[..., first] - x[..., second]), np.sign(y[..., first] - y[..., second]))
    # A constant column must come out as exactly 0, which subtracting a rounded mean does not guarantee.
    x, y = x - x[..., :1], y - y[..., :1]
    return _cosine(x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True))


def _cosine(x: Floats, y: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = (x * y).sum(-1) / np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
    return np.asarray(np.clip(cosine, -1.0, 1.0))


@dataclass(frozen=True, kw_only=True)
class Correlation(Effect):
    """A signed correlation with its interval over teachers, averaged over students where there are several.

    Attributes:
        minimum_detectable: of one student; the mean over several has no larger one.
        p_value: two-sided, against the hypothesis that teachers are exchangeable.
        n: number of teachers.
        degenerate: bootstrap resamples without a value, since one side was constant; the interval leaves them out.
    """

    p_value: float
    n: int
    degenerate: int


def correlation(
    scores: ArrayLike,
    accuracy: ArrayLike,
    coefficient: Coefficient,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> Correlation:
    """Correlation of scores with accuracy, with its interval and p-value.

    Args:
        scores, accuracy: shape (teachers,) or (students, teachers).
        resamples: bootstrap resamples, and as many permutations.

    Raises:
        InputError: shapes differ, fewer than 3 teachers, a value is not finite, or one side is constant.
    """
    x, y = np.atleast_2d(np.asarray(scores, float)), np.atleast_2d(np.asarray(accuracy, float))
    _check(x, y)
    rng = np.random.default_rng(seed)
    students, n = x.shape

    drawn = resampled_statistic(
        lambda chosen: correlate(x[:, chosen], y[:, chosen], coefficient).mean(axis=0), n, resamples, rng
    )
    low, high = percentile_interval(drawn)

    shuffled = rng.permuted(np.tile(np.arange(n), (resamples, 1)), axis=1)
    null = np.mean([correlate(x[s], y[s][shuffled], coefficient) for s in range(students)], axis=0)
    value = float(correlate(x, y, coefficient).mean())
    # The observed order is one of the permutations; a rounding error must not make it smaller than itself.
    extreme = int((np.abs(null) >= abs(value) - 1e-12).sum())

    return Correlation(
        value=value,
        low=low,
        high=high,
        minimum_detectable=minimum_detectable_correlation(n, coefficient),
        p_value=(1 + extreme) / (1 + resamples),
        n=n,
        degenerate=int(np.isnan(drawn).sum()),
    )


def minimum_detectable_correlation(n: int, coefficient: Coefficient = "spearman") -> float:
    """The smallest absolute correlation that a two-sided test at 5 % over n teachers finds with 80 % power.

    It is 1 where n is so small that no test does. The standard error is that of Fisher's z after Fieller, Hartley and
    Pearson (1957).
    """
    variance, lost = {"spearman": (1.06, 3), "pearson": (1.0, 3), "kendall": (0.437, 4)}[coefficient]
    return float(np.tanh(minimum_detectable(np.sqrt(variance / (n - lost))))) if n > lost else 1.0


def _check(x: Floats, y: Floats) -> None:
    if x.shape != y.shape:
        raise InputError(f"{x.shape[-1]} scores but {y.shape[-1]} accuracies: each teacher needs one of both")
    if x.shape[-1] < 3:
        raise InputError(f"a correlation needs at least 3 teachers, got {x.shape[-1]}")
    for name, values in (("scores", x), ("accuracies", y)):
        if not np.isfinite(values).all():
            raise InputError(f"{name} hold a value that is not finite: {values[~np.isfinite(values)][0]}")
        if (values == values[:, :1]).all(axis=-1).any():
            raise InputError(f"all {name} are equal ({values[0, 0]:g}): there is no order to correlate")
