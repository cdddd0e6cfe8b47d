"""The one bootstrap: its draws, its intervals, and what it makes of units that say nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rsr.stats import bootstrap
from rsr.stats.bootstrap import percentile_interval, resampled_statistic, resampled_sums, standard_error

sizes = st.integers(1, 12)
seeds = st.integers(0, 1000)
# Few distinct values, so that ties are the rule.
columns = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=2, max_size=12).map(np.array)


def means(values, resamples, seed):
    return resampled_statistic(lambda chosen: values[chosen].mean(axis=-1), len(values), resamples, seed)


@given(units=sizes, block=st.integers(1, 150), seed=seeds)
def test_draws_do_not_depend_on_the_blocks_they_are_made_in(units, block, seed):
    values = np.random.default_rng(1).normal(size=(units, 3))
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, units, (100, units))
    counts = rng.multinomial(units, np.full(units, 1 / units), 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "BLOCK", block)
        rng = np.random.default_rng(seed)  # one generator goes on from one statistic to the next
        np.testing.assert_array_equal(resampled_statistic(lambda chosen: chosen.astype(float), units, 100, rng), chosen)
        np.testing.assert_allclose(resampled_sums(values, 100, rng), counts @ values, rtol=1e-9, atol=1e-12)


@given(units=sizes, seed=seeds)
def test_a_resample_has_as_many_units_as_the_sample(units, seed):
    assert (resampled_sums(np.ones(units), 50, seed) == units).all()
    assert resampled_statistic(lambda chosen: chosen.astype(float), units, 50, seed).shape == (50, units)


@given(values=columns, seed=seeds)
def test_columns_are_drawn_together(values, seed):
    drawn = resampled_sums(np.stack([values, 2 * values, np.ones(len(values))], axis=1), 60, seed)
    np.testing.assert_allclose(drawn[:, 1], 2 * drawn[:, 0], atol=1e-12)
    np.testing.assert_allclose(drawn[:, 0], resampled_sums(values, 60, seed), atol=1e-12)


@given(values=columns, seed=seeds)
def test_interval_is_scipys_on_the_same_draws(values, seed):
    ours = means(values, 200, seed)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=200, batch=64, method="percentile", rng=np.random.default_rng(seed)
    )
    np.testing.assert_array_equal(ours, theirs.bootstrap_distribution)
    assert percentile_interval(ours) == pytest.approx(tuple(theirs.confidence_interval))
    assert standard_error(ours) == pytest.approx(theirs.standard_error)


def test_counts_and_units_give_the_same_interval():
    values = np.random.default_rng(3).normal(size=40)
    of_sums = percentile_interval(resampled_sums(values, 20_000, 0) / len(values))
    assert of_sums == pytest.approx(percentile_interval(means(values, 20_000, 1)), abs=0.01)


def test_the_order_of_units_changes_the_interval_no_more_than_another_seed():
    values = np.random.default_rng(4).normal(size=40)
    shuffled = np.random.default_rng(5).permutation(values)
    assert percentile_interval(means(values, 20_000, 0)) == pytest.approx(
        percentile_interval(means(shuffled, 20_000, 0)), abs=0.015
    )


@given(drawn=st.lists(st.floats(-1e6, 1e6) | st.just(np.nan), min_size=1), order=st.randoms())
def test_interval_holds_what_is_defined_whatever_the_order(drawn, order):
    shuffled = order.sample(drawn, len(drawn))
    interval = percentile_interval(np.array(drawn))
    np.testing.assert_array_equal(interval, percentile_interval(np.array(shuffled)))
    defined = [value for value in drawn if not np.isnan(value)]
    np.testing.assert_array_equal(interval, percentile_interval(np.array(defined)))
    if defined:
        low, high = interval
        assert min(defined) <= low <= high <= max(defined)
    else:
        assert np.isnan(interval).all()


def test_equal_units_or_a_single_one_leave_nothing_open():
    for values in (np.full(9, 0.5), np.array([0.5])):
        assert percentile_interval(means(values, 100, 0)) == (0.5, 0.5)
        assert standard_error(means(values, 100, 0)) == 0
