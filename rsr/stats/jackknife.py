"""The jackknife: what a ratio of sums is without each unit in turn, and intervals that cover with few units, too.

With few units a percentile bootstrap is too narrow: it knows no values beyond those that were drawn. Student's t times the
jackknife's standard error (Tukey 1958) is not: a test measures its coverage from 2 units on.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CONFIDENCE = 0.95


def ratios_without_each(sums: Floats) -> Floats:
    """The ratio of two sums without each unit, shape (units,); NaN where its denominator is 0.

    Args:
        sums: numerator and denominator of each unit, shape (units, 2).
    """
    numerator, denominator = (sums.sum(axis=0) - sums).T
    ratios: Floats = np.divide(numerator, denominator, out=np.full(len(sums), np.nan), where=denominator != 0)
    return ratios


def standard_error(without_each: Floats) -> float:
    """Standard error of a statistic, from its values without each unit, shape (units,)."""
    n = len(without_each)
    return float(np.sqrt((n - 1) / n * np.square(without_each - without_each.mean()).sum()))


def margin(error: float, units: int) -> float:
    """Half the width of a 95 % interval."""
    from scipy import stats  # half a second, which commands that only ask for help need not wait

    return float(stats.t.ppf((1 + CONFIDENCE) / 2, units - 1)) * error


def interval(value: float, without_each: Floats) -> tuple[float, float]:
    """95 % interval of a statistic, at least 2 units."""
    half = margin(standard_error(without_each), len(without_each))
    return value - half, value + half
