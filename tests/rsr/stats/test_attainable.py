from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import differential_evolution
from scipy.stats import rankdata, spearmanr

from rsr.errors import InputError
from rsr.stats.attainable import (
    Attainable,
    attainable_pearson,
    attainable_spearman,
    cell,
    rounding_interval,
    verdict,
    weak_orders,
)


def column(*prints: str):
    return [cell([rounding_interval(p)]) for p in prints]


def test_rounding_interval_keeps_the_printed_digits():
    assert rounding_interval("0.5") == (0.45, 0.55)
    assert rounding_interval("0.50") == (0.495, 0.505)
    assert rounding_interval("671") == (670.5, 671.5)
    assert rounding_interval("-0.520", 1e-5) == pytest.approx((-0.5205e-5, -0.5195e-5))


def test_prints_that_agree_are_intersected_and_others_are_alternatives():
    assert cell([rounding_interval("2.89"), rounding_interval("2.888")]) == (rounding_interval("2.888"),)
    assert cell([rounding_interval("47.3"), rounding_interval("47.8")]) == ((47.25, 47.35), (47.75, 47.85))


# Prints with one digit, of unrounded numbers on a grid of 0.02: coarse enough to tie, fine enough to order freely.
GRID = [i / 50 for i in range(-2, 23)]
prints = st.lists(st.sampled_from(["0.1", "0.2", "0.3"]), min_size=3, max_size=4)


def unrounded(interval):
    return [g for g in GRID if interval[0] < g < interval[1]]


@given(prints)
def test_orders_are_those_of_brute_force(values):
    col = column(*values)
    brute = {tuple(int(2 * r) for r in rankdata(choice)) for choice in product(*(unrounded(c[0]) for c in col))}
    assert {tuple(order) for order in weak_orders(col).tolist()} == brute


def test_spearman_set_is_that_of_brute_force():
    for x, y in product(product(["0.1", "0.2"], repeat=2), product(["0.1", "0.2"], repeat=3)):
        columns = column(*x, "0.2"), column(*y)
        orders = [{tuple(rankdata(c)) for c in product(*(unrounded(i[0]) for i in col))} for col in columns]
        brute = [spearmanr(a, b).statistic for a, b in product(*orders) if len(set(a)) > 1 and len(set(b)) > 1]
        found = attainable_spearman([columns[0]], [columns[1]], shared_scores=False).values
        assert found == pytest.approx(np.unique(np.round(brute, 12)), abs=1e-9)


def test_alternatives_and_mixed_precision_widen_the_set():
    accuracy = column("1", "2", "3", "4")
    fixed = attainable_spearman([column("1", "2", "3", "4")], [accuracy], shared_scores=False)
    assert fixed.values == (1.0,)
    twice = column("1", "2", "3", "4")
    twice[0] = cell([rounding_interval("1"), rounding_interval("9")])
    assert attainable_spearman([twice], [accuracy], shared_scores=False).low == pytest.approx(-0.2)
    coarse = [cell([rounding_interval("2.4")]), cell([rounding_interval("2")]), *column("3", "4")]
    assert attainable_spearman([coarse], [accuracy], shared_scores=False).values == pytest.approx(
        (0.8, 0.9486832981, 1.0)
    )


def test_scores_shared_by_students_are_ordered_once():
    """One unrounded column cannot serve one student ascending and the other descending."""
    tied, up, down = column("1", "1", "1"), column("1", "2", "3"), column("3", "2", "1")
    shared = attainable_spearman([tied, tied], [up, down], shared_scores=True)
    free = attainable_spearman([tied, tied], [up, down], shared_scores=False)
    assert shared.values == (0.0,)
    assert (free.low, free.high) == (-1.0, 1.0)


def test_mean_over_students_is_that_of_brute_force():
    x = [column("0.1", "0.1", "0.2"), column("0.1", "0.2", "0.2")]
    y = [column("0.1", "0.2", "0.2"), column("0.2", "0.1", "0.1")]
    each = [attainable_spearman([a], [b], shared_scores=False).values or () for a, b in zip(x, y, strict=True)]
    both = attainable_spearman(x, y, shared_scores=False).values
    assert both == pytest.approx(sorted({round((a + b) / 2, 9) for a, b in product(*each)}))


def test_too_many_ties_are_refused():
    with pytest.raises(InputError, match="too many of them are equal"):
        weak_orders(column(*["0.1"] * 9))


def pearson(x, y):
    return np.corrcoef(x, y)[0, 1]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000), n=st.integers(3, 7), noise=st.sampled_from([0.3, 2.0]), digits=st.sampled_from([0, 1])
)
def test_no_unrounded_numbers_leave_the_pearson_bracket(seed, n, noise, digits):
    rng = np.random.default_rng(seed)
    x = rng.normal(scale=5, size=n)
    y = x + noise * rng.normal(size=n)
    printed = [[f"{v:.{digits}f}" for v in values] for values in (x, y)]
    assume(all(np.ptp(np.array(p, float)) >= 4 for p in printed))
    boxes = [np.array([rounding_interval(p) for p in values]) for values in printed]
    bracket = attainable_pearson([column(*printed[0])], [column(*printed[1])])
    assert bracket.slack <= 0.5 * (bracket.high - bracket.low)

    def draw(corner):
        for box in boxes:
            weight = rng.integers(0, 2, n) if corner else rng.random(n)
            yield box[:, 0] + weight * (box[:, 1] - box[:, 0])

    found = [pearson(x, y), *(pearson(*draw(corner)) for corner in [False] * 200 + [True] * 600)]
    assert min(found) >= bracket.low - bracket.slack - 1e-12
    assert max(found) <= bracket.high + bracket.slack + 1e-12


def test_pearson_extremes_are_those_of_a_global_search():
    x, y = ["1.0", "1.3", "1.9", "2.2"], ["3", "5", "4", "8"]
    box = [rounding_interval(p) for p in x + y]
    bracket = attainable_pearson([column(*x)], [column(*y)])
    for sign, end in ((1, bracket.low), (-1, bracket.high)):
        search = differential_evolution(
            lambda z, sign=sign: sign * pearson(z[:4], z[4:]), box, seed=0, tol=1e-10, maxiter=400
        )
        assert sign * search.fun == pytest.approx(end, abs=1e-5)


def test_verdicts():
    exact = Attainable(low=-0.86, high=-0.84, values=(-0.86, -0.84))
    assert verdict("0.85", -0.8545, exact) == "equal"
    assert verdict("0.84", -0.86, exact) == "attainable"
    assert verdict("0.85", -0.86, exact) == "not attainable"  # between two attainable values
    assert verdict("0.95", -0.86, exact) == "not attainable"
    interval = Attainable(low=0.60, high=0.64, spans=((0.60, 0.64),), slack=0.01)
    assert verdict("0.62", 0.70, interval) == "attainable"
    assert verdict("0.650", 0.70, interval) == "undecided"
    assert verdict("0.66", 0.70, interval) == "not attainable"
    gap = Attainable(low=0.1, high=0.9, spans=((0.1, 0.2), (0.8, 0.9)), slack=0.001)
    assert verdict("0.5", 0.15, gap) == "not attainable"


def test_contradicting_prints_leave_a_gap_between_pearson_intervals():
    x = column("1.00", "2.00", "3.00")
    y = column("1.00", "2.00", "3.00")
    y[0] = cell([rounding_interval("1.00"), rounding_interval("9.00")])
    found = attainable_pearson([x], [y])
    assert len(found.spans) == 2
    assert (found.low, found.high) == pytest.approx((-0.79, 1.0), abs=0.02)
    assert found.allows("0.50") is False
