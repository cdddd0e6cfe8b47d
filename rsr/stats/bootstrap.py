"""The bootstrap: what a statistic would have been on other problems, or with other teachers.

Units (problems, teachers, answers) are drawn with replacement. Whatever was measured on a unit comes and goes with it.
Draws are made in blocks, so that memory stays bounded. A seed gives the same draws whatever the size of a block.

`scipy.stats.bootstrap` draws units as `resampled_statistic` does. It is not called, for two reasons. Its interval is
NaN as soon as one resample has no value, as a correlation over equal scores has none. And sums over thousands of
problems are faster by counts of problems (`resampled_sums`), which are other draws.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Seed = int | np.random.Generator  # a generator goes on where it stands, so that several statistics draw in turn

BLOCK = 500  # resamples that are drawn at a time
TAIL = 0.025  # on each side of a 95 % interval


def resampled_statistic(
    statistic: Callable[[NDArray[np.int64]], Floats], units: int, resamples: int, seed: Seed
) -> Floats:
    """A statistic of every resample.

    Args:
        statistic: takes which units are drawn, shape (block, units), and returns values, shape (block, ...).

    Returns:
        Shape (resamples, ...).
    """
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(0, units, (size, units))) for size in _blocks(resamples)]
    return np.ascontiguousarray(np.concatenate(values))  # sums over values must not depend on a statistic's layout


def resampled_sums(by_unit: Floats, resamples: int, seed: Seed) -> Floats:
    """Sums over the units of every resample, the same units in every column.

    Args:
        by_unit: shape (units,) or (units, columns).

    Returns:
        Shape (resamples,) or (resamples, columns).
    """
    sums = np.empty((resamples, *by_unit.shape[1:]))
    starts = range(0, resamples, BLOCK)
    for start, counts in zip(starts, resampled_counts(len(by_unit), resamples, seed), strict=True):
        sums[start : start + BLOCK] = counts @ by_unit
    return sums


def resampled_counts(units: int, resamples: int, seed: Seed) -> Iterator[Floats]:
    """How often each unit is drawn in a resample, shape (block, units), for a block of resamples after the other."""
    rng = np.random.default_rng(seed)
    for size in _blocks(resamples):
        yield rng.multinomial(units, np.full(units, 1 / units), size).astype(np.float64)


def percentile_interval(drawn: Floats, comparisons: int = 1) -> tuple[float, float]:
    """95 % interval of a statistic from its resamples.

    Resamples without a value (NaN) are left out. Where none has a value, the ends are NaN.

    Args:
        comparisons: that the interval is one of; it is widened so that all hold at once with 95 % (Bonferroni).
    """
    defined = drawn[~np.isnan(drawn)]
    if not len(defined):
        return np.nan, np.nan
    tail = TAIL / comparisons
    low, high = np.quantile(defined, (tail, 1 - tail))
    return float(low), float(high)


def beyond_resamples(shares: Floats) -> tuple[float, float]:
    """How far below and above their mean the truth may lie where all shares are 0, or all are 1: every resample has that mean, too.

    The exact 95 % limits of 0 of n (Clopper and Pearson 1934), each unit as one trial. Elsewhere resamples say it, and both are 0.

    Args:
        shares: from 0 to 1, shape (units,).
    """
    limit = 1 - TAIL ** (1 / len(shares))
    return (limit if (shares == 1).all() else 0.0), (limit if (shares == 0).all() else 0.0)


def standard_error(drawn: Floats) -> float:
    """Standard deviation over the resamples that have a value."""
    return float(drawn[~np.isnan(drawn)].std(ddof=1))


def _blocks(resamples: int) -> Iterator[int]:
    """Sizes of the blocks."""
    return (min(BLOCK, resamples - start) for start in range(0, resamples, BLOCK))
