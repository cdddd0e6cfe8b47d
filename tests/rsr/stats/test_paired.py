import numpy as np
import pytest
from scipy import stats

from rsr.stats.correlation import correlate
from rsr.stats.paired import (
    dependent_correlations,
    difference,
    leave_one_out,
    pairwise_accuracy,
    partial_spearman,
    regret,
)


def test_dependent_correlations_hold_their_level_and_see_a_difference():
    """Under equal correlations the p-value is below 5 % in about 5 % of samples; under unequal ones more often."""
    rng = np.random.default_rng(0)

    def rejections(first, second):
        cov = [[1, 0.3, first], [0.3, 1, second], [first, second, 1]]
        p = []
        for _ in range(600):
            a, b, y = rng.multivariate_normal([0, 0, 0], cov, 60).T
            r = [np.corrcoef(u, v)[0, 1] for u, v in ((a, y), (b, y), (a, b))]
            p.append(dependent_correlations(r[0], r[1], r[2], 60))
        return np.mean(np.array(p) < 0.05)

    assert rejections(0.5, 0.5) == pytest.approx(0.05, abs=0.03)
    assert rejections(0.7, 0.2) > 0.8


def test_a_score_does_not_differ_from_itself():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 11))
    same = difference(x, x, y)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    better = difference(y, x, y)
    assert better.value == pytest.approx(1 - correlate(x, y, "spearman"))
    assert better.low <= better.value <= better.high


def test_partial_correlation_is_that_of_rank_residuals():
    rng = np.random.default_rng(2)
    z = rng.normal(size=40)
    x, y = z + rng.normal(size=40), z + rng.normal(size=40)
    ranks = [stats.rankdata(v) for v in (x, y, z)]
    design = np.stack([np.ones(40), ranks[2]], axis=1)
    residuals = [r - design @ np.linalg.lstsq(design, r, rcond=None)[0] for r in ranks[:2]]
    assert partial_spearman(x, y, z) == pytest.approx(np.corrcoef(*residuals)[0, 1])
    assert np.isnan(partial_spearman(x, z, z))


def test_leave_one_out_brackets_the_influence_of_an_outlier():
    x, y = [1, 2, 3, 4, 100], [4, 3, 2, 1, 5]
    low, high = leave_one_out(x, y)
    assert (low, high) == pytest.approx((-1.0, float(correlate([2, 3, 4, 100], [3, 2, 1, 5], "spearman"))), abs=1e-9)


def test_pairwise_accuracy_is_kendall_without_ties():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 9))
    assert pairwise_accuracy(x, y) == pytest.approx((stats.kendalltau(x, y).statistic + 1) / 2)
    assert pairwise_accuracy([1, 1, 1], [1, 2, 3]) == 0.5
    assert pairwise_accuracy([1, 2, 3], [5, 5, 6]) == 1.0


def test_regret_of_first_choices():
    assert regret([3, 2, 1], [10, 30, 20], 1) == 20
    assert regret([3, 2, 1], [10, 30, 20], 2) == 0
