"""Token metrics against a plain re-computation, and the dataset level."""

import math
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rsr.errors import InputError
from rsr.metrics import METRICS, Parts, by_name, metric, select
from rsr.metrics.aggregate import dataset_scores, token_metrics
from rsr.metrics.token import avg_rsr_token_filtered, rsr
from rsr.tokens.tokens import Tokens

EPS = float(np.finfo(np.float32).eps)

PLAIN = {
    ("rsr", ""): lambda r, s, h: sum(min(x, 100) for x in r) / sum(s),
    ("rsr", "r_max=50"): lambda r, s, h: sum(min(x, 50) for x in r) / sum(s),
    ("rsr", "r_max=500"): lambda r, s, h: sum(min(x, 500) for x in r) / sum(s),
    ("rsr", "no clipping"): lambda r, s, h: sum(r) / sum(s),
    ("rsr", "r^1.05"): lambda r, s, h: sum(min(x, 100) ** 1.05 for x in r) / sum(s),
    ("rsr", "r^0.95"): lambda r, s, h: sum(min(x, 100) ** 0.95 for x in r) / sum(s),
    ("rsr", "s^1.05"): lambda r, s, h: sum(min(x, 100) for x in r) / sum(x**1.05 for x in s),
    ("rsr", "s^0.95"): lambda r, s, h: sum(min(x, 100) for x in r) / sum(x**0.95 for x in s),
    ("rsr_simple_average", ""): lambda r, s, h: sum(min(x, 100) for x in r) / sum(s),
    ("avg_surprisal", ""): lambda r, s, h: sum(s) / len(s),
    ("avg_rank", ""): lambda r, s, h: sum(r) / len(r),
    ("avg_rank_clipped", ""): lambda r, s, h: sum(min(x, 100) for x in r) / len(r),
    ("avg_token_length", ""): lambda r, s, h: len(r),
    ("avg_entropy", ""): lambda r, s, h: sum(h) / len(h),
    ("avg_rsr_token", ""): lambda r, s, h: sum(x / max(y, EPS) for x, y in zip(r, s, strict=True)) / len(r),
    ("avg_rsr_token_filtered", ""): lambda r, s, h: np.mean(
        [
            x / max(y, EPS)
            for y, x in sorted(zip(s, r, strict=True), key=lambda p: -p[0])[: max(1, math.floor(0.3 * len(r) + 1e-9))]
        ]
    ),
    ("surprisal_weighted_sum_of_rank", ""): lambda r, s, h: (
        sum(y * min(x, 100) for x, y in zip(r, s, strict=True)) / sum(s)
    ),
    ("rank_weighted_sum_of_surprisal", ""): lambda r, s, h: (
        sum(y * min(x, 100) for x, y in zip(r, s, strict=True)) / sum(min(x, 100) for x in r)
    ),
    ("rank_minus_surprisal", ""): lambda r, s, h: sum(min(x, 100) - y for x, y in zip(r, s, strict=True)) / len(r),
    ("rank_times_surprisal", ""): lambda r, s, h: sum(min(x, 100) * y for x, y in zip(r, s, strict=True)) / len(r),
    ("rank_entropy_ratio", ""): lambda r, s, h: sum(min(x, 100) for x in r) / sum(h),
    ("lark_learnability", ""): lambda r, s, h: (
        sum(1 - 2 * math.exp(-x) + squares(y) for x, y in zip(s, h, strict=True)) / sum(s)
    ),
    ("avg_rank_indicator", ""): lambda r, s, h: (
        sum(
            2 ** (1 / math.log2(min(x, 100) + 1) - 1 / math.log2(expected_rank(y) + 1))
            for x, y in zip(r, h, strict=True)
        )
        / len(r)
    ),
    ("repetition", ""): lambda r, s, h: sum(repeated(y) for y in h) / len(h),
    ("rsr_without_repeats", ""): lambda r, s, h: (
        sum(min(x, 100) for x, y in zip(r, h, strict=True) if not repeated(y))
        / sum(x for x, y in zip(s, h, strict=True) if not repeated(y))
    ),
    ("calibrated_rsr", ""): lambda r, s, h: (
        (sum(min(x, 100) for x in r) / sum(expected_rank(y) for y in h)) / (sum(s) / sum(h))
    ),
}


def squares(h):
    """Some value of the column, in its precision."""
    return float(np.float32(math.exp(-h)))


def expected_rank(h):
    return float(np.float32(math.exp(h / 5)))


def repeated(h):
    return h > 10


surprisals = st.floats(0, 20, width=32)
trajectories = st.lists(
    st.lists(st.tuples(st.integers(1, 150_000), surprisals, surprisals), max_size=12), min_size=1, max_size=6
)


def tokens_of(lists):
    flat = [t for trajectory in lists for t in trajectory]
    offsets = np.concatenate([[0], np.cumsum([len(t) for t in lists])]).astype(np.int64)
    rank, surprisal, entropy = zip(*flat, strict=True) if flat else ((), (), ())
    return Tokens(
        np.array(rank, np.uint32),
        np.array(surprisal, np.float32),
        np.array(entropy, np.float32),
        offsets,
        squares=np.array([squares(h) for h in entropy], np.float32),
        expected_rank=np.array([expected_rank(h) for h in entropy], np.float32),
        repeated=np.array([repeated(h) for h in entropy], np.bool_),
    )


def test_every_token_metric_and_preset_is_recomputed_here():
    assert set(PLAIN) == {(m.name, preset) for m in token_metrics() for preset in m.presets}


@pytest.mark.parametrize(("name", "preset"), PLAIN)
@settings(max_examples=60, deadline=None)
@given(lists=trajectories)
def test_metrics_agree_with_plain_computation(name, preset, lists):
    values = METRICS[name](tokens_of(lists), preset).values
    for value, trajectory in zip(values, lists, strict=True):
        if not trajectory:
            assert np.isnan(value)
            continue
        r, s, h = zip(*trajectory, strict=True)
        try:
            expected = PLAIN[name, preset](r, s, h)
        except ZeroDivisionError:
            assert np.isnan(value)
            continue
        assert value == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(lists=trajectories)
def test_metrics_that_share_sums_do_not_disturb_one_another(lists):
    shared = tokens_of(lists)
    for name, preset in PLAIN:
        alone = METRICS[name](tokens_of(lists), preset).values
        np.testing.assert_array_equal(METRICS[name](shared, preset).values, alone)


def test_rsr_is_the_surprisal_weighted_mean_of_token_ratios():
    rng = np.random.default_rng(0)
    r, s = rng.integers(1, 300, 50), rng.exponential(size=50).astype(np.float32)
    tokens = Tokens(r.astype(np.uint32), s, s, np.array([0, 50]))
    weighted = np.average(np.minimum(r, 100) / s.astype(float), weights=s)
    assert rsr(tokens).values[0] == pytest.approx(weighted)


def test_the_filter_keeps_the_most_surprising_share_and_breaks_ties_by_position():
    tokens = tokens_of([[(10, 1.0, 0), (20, 2.0, 0), (30, 2.0, 0), *[(1, 0.5, 0)] * 3]])
    assert avg_rsr_token_filtered(tokens).values[0] == pytest.approx(20 / 2.0)


@settings(max_examples=30, deadline=None)
@given(lists=trajectories, seed=st.integers(0, 100))
def test_the_order_of_trajectories_does_not_matter(lists, seed):
    order = np.random.default_rng(seed).permutation(len(lists))
    for name, preset in PLAIN:
        values = METRICS[name](tokens_of(lists), preset).values
        shuffled = METRICS[name](tokens_of([lists[i] for i in order]), preset).values
        np.testing.assert_allclose(shuffled, values[order], rtol=1e-12)


# --- datasets ----------------------------------------------------------------------------------------------------


def rows(teacher, metric_name, numerators, denominators=None, problems=None):
    values = [
        n if denominators is None or n is None else n / d
        for n, d in zip(numerators, denominators or numerators, strict=True)
    ]
    n = len(values)
    return pl.DataFrame(
        {
            "student": "s",
            "teacher": teacher,
            "generation": "",
            "trajectory": [f"{teacher}{i}" for i in range(n)],
            "problem": problems or [f"p{i}" for i in range(n)],
            "metric": metric_name,
            "preset": "",
            "value": values,
            "numerator": numerators if denominators else [None] * n,
            "denominator": denominators or [None] * n,
            "tokens": 10,
            "truncated": False,
            "artefact": "a",
        },
        schema_overrides=dict.fromkeys(["value", "numerator", "denominator"], pl.Float64),
    )


def test_a_ratio_is_a_ratio_of_means_at_dataset_level():
    (row,) = dataset_scores(rows("t", "rsr", [2.0, 9.0], [1.0, 3.0])).to_dicts()
    assert row["value"] == pytest.approx(11 / 4)  # Eq. 9; the mean of ratios is 2.5
    (row,) = dataset_scores(rows("t", "avg_rank", [2.0, 9.0])).to_dicts()
    assert row["value"] == pytest.approx(5.5)


def test_missing_values_are_counted_and_never_zero():
    (row,) = dataset_scores(rows("t", "avg_rank", [2.0, None, 4.0])).to_dicts()
    assert (row["value"], row["n"], row["missing"]) == (3.0, 2, 1)
    (row,) = dataset_scores(rows("t", "avg_rank", [None, None])).to_dicts()
    assert (row["value"], row["low"], row["error"], row["n"], row["missing"]) == (None, None, None, 0, 2)


def test_the_interval_is_that_of_a_mean_over_problems():
    x = np.random.default_rng(0).normal(5, 1, 6)
    table = dataset_scores(rows("t", "avg_rank", x.tolist()))
    error = x.std(ddof=1) / np.sqrt(6)
    assert table["error"][0] == pytest.approx(error)
    low, high = stats.t.interval(0.95, 5, x.mean(), error)
    assert (table["low"][0], table["high"][0]) == pytest.approx((low, high))
    # Twice the same problems: no more certain than once.
    twice = rows("t", "avg_rank", [*x, *x], problems=[f"p{i}" for i in range(6)] * 2)
    assert dataset_scores(twice)["error"][0] == pytest.approx(error)


def test_one_problem_has_no_interval():
    (row,) = dataset_scores(rows("t", "rsr", [2.0, 4.0], [1.0, 1.0], problems=["p", "p"])).to_dicts()
    assert (row["value"], row["low"], row["high"], row["error"]) == (3.0, None, None, None)


# --- declarations ------------------------------------------------------------------------------------------------


def test_declarations_are_complete():
    for m in METRICS.values():
        assert m.formula and m.source and m.title and m.cost
        assert "" in m.presets


def test_a_metric_of_ones_own_is_one_function():
    try:

        @metric(
            name="largest_surprisal",
            title="Largest surprisal",
            formula="max of s",
            unit="nats",
            direction="lower",
            levels=("trajectory", "dataset"),
            needs="tokens",
            per_student=True,
            source="mine",
        )
        def largest_surprisal(tokens):
            return Parts(np.maximum.reduceat(tokens.surprisal, tokens.offsets[:-1]).astype(float))

        assert METRICS["largest_surprisal"](tokens_of([[(1, 2.0, 0), (1, 3.0, 0)]])).values.tolist() == [3.0]
        with pytest.raises(ValueError, match="declared already"):
            metric(
                **{
                    f: getattr(largest_surprisal, f)
                    for f in (
                        "name",
                        "title",
                        "formula",
                        "unit",
                        "direction",
                        "levels",
                        "needs",
                        "per_student",
                        "source",
                    )
                }
            )(lambda t: None)  # type: ignore[arg-type,return-value]
    finally:
        METRICS.pop("largest_surprisal", None)


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match=r"unknown metric 'rrs': did you mean 'rsr'\?"):
        by_name("rrs")
    with pytest.raises(InputError, match=r"did you mean .*'avg_surprisal'"):
        by_name("surprisal")
    with pytest.raises(
        InputError, match=r"those of one forward pass are rsr, .*avg_rank.*; docs/baselines\.md has the others$"
    ):
        by_name("nonsense")
    with pytest.raises(InputError, match=r"rsr has no preset 'r_max=7'"):
        METRICS["rsr"](tokens_of([[(1, 1.0, 0)]]), "r_max=7")
    with pytest.raises(InputError, match="not computed from token statistics"):
        METRICS["g_norm"](tokens_of([[(1, 1.0, 0)]]))
    assert [m.name for m in select(["grad", "g_norm"])] == ["g_norm", "grace"]


def test_declarations_load_nothing_heavy():
    """Models, clients and influence functions are imported only where they are asked for."""
    check = "import sys, rsr.metrics; print({'torch', 'transformers', 'openai', 'kronfluence'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    assert found == "set()\n"
