"""Effects: their text, and what they could have shown."""

import numpy as np
import pytest
from scipy import stats

from rsr.stats.effect import Effect, estimate_text, interval_text, minimum_detectable, of_draws, of_error


def test_text_has_the_interval_where_there_is_one():
    assert Effect(0.1, -0.05, 0.25, 0.3).text() == "+0.10 [-0.05, +0.25]"
    assert estimate_text(12.34, 10, 15, ".1f") == f"12.3 {interval_text(10, 15, '.1f')}" == "12.3 [10.0, 15.0]"
    assert estimate_text(-1.0, np.nan, np.nan, "+.1f") == "-1.0"


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(-1, 1, "It cannot be told"), (0.1, 1, "Yes"), (-1, -0.1, "No, it is worse")]
)
def test_an_effect_is_one_where_its_interval_excludes_zero(low, high, verdict):
    effect = Effect((low + high) / 2, low, high, 0.3)
    assert effect.verdict == verdict and effect.excludes_zero == (low * high > 0)


def test_draws_without_a_value_are_left_out():
    drawn = np.random.default_rng(0).normal(size=1000)
    assert of_draws(0, np.append(drawn, np.nan)) == of_draws(0, drawn)


def test_the_minimum_detectable_effect_has_its_power():
    drawn = np.random.default_rng(1).normal(minimum_detectable(2.0), 2.0, 20_000)
    assert np.mean(np.abs(drawn) > 2.0 * stats.norm.ppf(0.975)) == pytest.approx(0.8, abs=0.01)


def test_many_degrees_of_freedom_are_a_normal_error():
    effect = of_error(1.0, 2.0, 1e9, "many")
    assert effect.minimum_detectable == pytest.approx(minimum_detectable(2.0))
    assert (effect.low, effect.high) == pytest.approx((1 - 1.96 * 2, 1 + 1.96 * 2), abs=1e-3)
