"""Intervals cover as often as they say, with few units and with many."""

import numpy as np
import pytest
from scipy import stats

from rsr.stats import jackknife

TRIALS = 2_000
# Of 2,000 trials a share of 0.95 varies by 3 x 0.005; the jackknife itself stays up to 0.02 below it with skewed units.
COVERAGE = (0.915, 0.97)


def trajectories(rng, units):
    """Sums of ranks and of surprisals of answers whose lengths are log-normal."""
    length = np.exp(rng.normal(0, 0.6, units))
    return np.stack([length * np.exp(rng.normal(1.1, 0.2, units)), length * np.exp(rng.normal(0, 0.15, units))], axis=1)


@pytest.mark.parametrize("units", [2, 4, 12, 100])
def test_intervals_cover_the_truth_and_differences_are_not_found_where_there_are_none(units):
    rng = np.random.default_rng(units)
    truth = np.exp(1.1 + (0.2**2 - 0.15**2) / 2)
    covered = apart = 0
    for _ in range(TRIALS):
        one, other = trajectories(rng, units), trajectories(rng, units)
        low, high = jackknife.interval(_ratio(one), jackknife.ratios_without_each(one))
        covered += low <= truth <= high
        differences = jackknife.ratios_without_each(one) - jackknife.ratios_without_each(other)
        apart += abs(_ratio(one) - _ratio(other)) > jackknife.margin(jackknife.standard_error(differences), units)
    assert COVERAGE[0] <= covered / TRIALS <= COVERAGE[1]
    assert COVERAGE[0] <= 1 - apart / TRIALS <= COVERAGE[1]


def test_of_a_mean_it_is_students_interval():
    values = np.random.default_rng(0).normal(size=9)
    sums = np.stack([values, np.ones(9)], axis=1)
    exact = stats.ttest_1samp(values, 0).confidence_interval()
    assert jackknife.interval(values.mean(), jackknife.ratios_without_each(sums)) == pytest.approx(
        (exact.low, exact.high)
    )


def test_a_ratio_that_one_unit_alone_has_is_not_known():
    without_each = jackknife.ratios_without_each(np.array([[1.0, 0.0], [1.0, 2.0]]))
    assert np.isnan(without_each[1]) and np.isnan(jackknife.interval(1.0, without_each)).all()


def _ratio(sums):
    numerator, denominator = sums.sum(axis=0)
    return float(numerator / denominator)
