"""Rule-based quality against a plain computation."""

import statistics

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsr.data.messages import Message
from rsr.data.trajectories import Trajectory
from rsr.features.text import TextCounts
from rsr.metrics import METRICS
from rsr.metrics.text import pool_statistics, rule_based_quality


def count(text):
    return TextCounts()(Trajectory("t", "p", (Message("user", "check check"), Message("assistant", text))))


def test_words_are_counted_whole_and_in_any_case():
    counts = count("Let me check, CHECK and verify; checking isn't a check-up. Therefore: since, might; perhaps?")
    assert counts == {"words": 15, "verification": 4, "exploration": 2, "granularity": 2}


def test_all_turns_of_the_assistant_count_and_nothing_else():
    turns = (Message("user", "a"), Message("assistant", "check"), Message("user", "check"), Message("assistant", "b c"))
    assert TextCounts()(Trajectory("t", "p", turns))["words"] == 3


rows_of_counts = st.lists(st.tuples(st.integers(0, 40), *[st.integers(0, 9)] * 3), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(rows=rows_of_counts)
def test_it_is_the_weighted_sum_of_z_scores_over_the_pool(rows):
    frame = pl.DataFrame(rows, schema=["words", "verification", "exploration", "granularity"], orient="row")
    table = [(w, a / w, b / w, c / w) for w, a, b, c in rows if w]
    z = [
        [(x - statistics.fmean(column)) / s if (s := np.std(column)) else 0.0 for x in column]
        for column in zip(*table, strict=True)
    ]
    expected = iter(
        [sum(w * x for w, x in zip((0.3, 0.2, 0.25, 0.25), of, strict=True)) for of in zip(*z, strict=True)]
    )
    for (words, *_), value in zip(rows, rule_based_quality(frame).values, strict=True):
        # A spread within rounding of zero has a z-score of rounding alone.
        assert np.isnan(value) if not words else value == pytest.approx(next(expected), abs=1e-6)


def test_an_indicator_that_does_not_vary_adds_nothing():
    frame = pl.DataFrame({"words": [3, 3], "verification": [1, 1], "exploration": [0, 0], "granularity": [0, 3]})
    assert rule_based_quality(frame).values == pytest.approx([-0.25, 0.25])


def test_sub_scores_and_pool_are_kept():
    metric = METRICS["rule_based_quality"]
    frame = pl.DataFrame({"words": [10, 20], "verification": [1, 1], "exploration": [0, 2], "granularity": [3, 3]})
    parts = {name: metric(frame, name).values for name in metric.presets}
    weighted = sum(w * parts[n] for n, w in zip(list(metric.presets)[1:], (0.3, 0.2, 0.25, 0.25), strict=True))
    assert parts[""] == pytest.approx(weighted)
    assert pool_statistics(frame)["elaboration"] == {"mean": 15.0, "std": 5.0}


def test_it_sums_to_zero_over_its_pool():
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {name: rng.integers(1, 50, 40) for name in ("words", "verification", "exploration", "granularity")}
    )
    assert rule_based_quality(frame).values.sum() == pytest.approx(0, abs=1e-12)  # as the paper's eleven do
