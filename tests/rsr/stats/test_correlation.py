import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rsr.errors import InputError
from rsr.stats.correlation import COEFFICIENTS, correlate, correlation, minimum_detectable_correlation

SCIPY = {
    "spearman": lambda x, y: stats.spearmanr(x, y).statistic,
    "pearson": lambda x, y: stats.pearsonr(x, y).statistic,
    "kendall": lambda x, y: stats.kendalltau(x, y).statistic,
}
TESTS = {"spearman": "spearmanr", "pearson": "pearsonr", "kendall": "kendalltau"}

# Few distinct values, so that ties are the rule.
columns = (
    st.integers(3, 15)
    .flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 5).map(float), min_size=n, max_size=n)] * 2))
    .filter(lambda xy: len(set(xy[0])) > 1 and len(set(xy[1])) > 1)
)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@given(xy=columns)
def test_coefficients_agree_with_scipy_on_ties(coefficient, xy):
    x, y = xy
    assert correlate(x, y, coefficient) == pytest.approx(SCIPY[coefficient](x, y), abs=1e-12)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@settings(max_examples=15, deadline=None)
@given(xy=columns.filter(lambda xy: len(xy[0]) <= 7))
def test_p_values_agree_with_scipys_exact_permutation_test(coefficient, xy):
    x, y = map(np.array, xy)
    exact = stats.permutation_test(
        (x,),
        lambda x: abs(SCIPY[coefficient](x, y)),
        permutation_type="pairings",
        alternative="greater",
        n_resamples=np.inf,
    ).pvalue
    draws = 4000
    estimate = correlation(x, y, coefficient, resamples=draws).p_value
    assert estimate == pytest.approx(exact, abs=5 * np.sqrt(exact * (1 - exact) / draws) + 2 / draws)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_interval_agrees_with_scipys_bootstrap(coefficient):
    rng = np.random.default_rng(3)
    x = rng.normal(size=30)
    y = x + rng.normal(size=30)
    ours = correlation(x, y, coefficient, resamples=20_000)
    theirs = stats.bootstrap(
        (x, y),
        lambda x, y, axis: correlate(x, y, coefficient),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(4),
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)
    assert ours.degenerate == 0


def test_average_is_the_mean_of_signed_coefficients():
    x = [[1.0, 2, 3, 4], [1.0, 2, 3, 4]]
    y = [[1.0, 2, 3, 4], [4.0, 3, 2, 1]]
    assert correlation(x, y, "spearman").value == pytest.approx(0)
    assert correlation([x[0]], [y[0]], "spearman").value == pytest.approx(1)


def test_resamples_are_shared_by_students():
    """Two identical students are no more certain than one."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=11), rng.normal(size=11)
    one, two = correlation(x, y, "spearman"), correlation([x, x], [y, y], "spearman")
    assert (one.low, one.high, one.p_value) == pytest.approx((two.low, two.high, two.p_value))


def test_order_of_teachers_only_moves_the_interval_within_its_noise():
    rng = np.random.default_rng(1)
    x = rng.normal(size=11)
    y = x + rng.normal(size=11)
    order = rng.permutation(11)
    one, other = correlation(x, y, "pearson"), correlation(x[order], y[order], "pearson")
    assert one.value == pytest.approx(other.value)
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=0.05)


def test_resamples_without_a_value_are_counted():
    result = correlation([1.0, 2, 3], [1.0, 2, 3], "spearman", resamples=2000)
    assert result.degenerate == pytest.approx(2000 / 9, abs=80)
    assert np.isfinite([result.low, result.high]).all()


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1.0, 1, 1], [1.0, 2, 3], "all scores are equal"),
        ([1.0, 2, 3], [0.1, 0.1, 0.1], "all accuracies are equal"),
        ([1.0, 2], [1.0, 2], "at least 3"),
        ([1.0, 2, 3], [1.0, 2], "each teacher needs one of both"),
        ([1.0, float("nan"), 3], [1.0, 2, 3], "not finite"),
    ],
)
def test_what_has_no_correlation_is_refused(x, y, message):
    with pytest.raises(InputError, match=message):
        correlation(x, y, "spearman")


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_fewer_teachers_detect_less_and_three_nothing(coefficient):
    smallest = [minimum_detectable_correlation(n, coefficient) for n in range(3, 40)]
    assert smallest[0] == 1 and smallest[1:] == sorted(smallest[1:], reverse=True) and smallest[-1] > 0


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_the_minimum_detectable_correlation_has_its_power(coefficient):
    n, rng = 25, np.random.default_rng(4)
    smallest = minimum_detectable_correlation(n, coefficient)
    # The Pearson of a normal pair with that coefficient.
    rho = {"spearman": 2 * np.sin(np.pi / 6 * smallest), "pearson": smallest, "kendall": np.sin(np.pi / 2 * smallest)}
    covariance = [[1, rho[coefficient]], [rho[coefficient], 1]]
    pairs = rng.multivariate_normal([0, 0], covariance, (400, n))
    detected = [getattr(stats, TESTS[coefficient])(*pair.T).pvalue < 0.05 for pair in pairs]
    assert np.mean(detected) == pytest.approx(0.8, abs=0.08)
