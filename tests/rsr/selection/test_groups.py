"""Orders within groups: an order of all that is that of no group, and what has none."""

import polars as pl
import pytest

from rsr.data import discovery
from rsr.errors import InputError
from rsr.metrics.aggregate import SCHEMA
from rsr.selection.conclusions import of_groups
from rsr.selection.groups import rank_by
from tests.clients import chat


def table(values):
    """Rows of RSR by (teacher, trajectory)."""
    row = {"student": "s", "generation": "", "metric": "rsr", "preset": "", "tokens": 10}
    rows = [
        row | {"teacher": t, "trajectory": i, "problem": i, "value": v, "numerator": v, "denominator": 1.0}
        for (t, i), v in values.items()
    ]
    return pl.DataFrame([{name: r.get(name) for name in SCHEMA} for r in rows], schema=SCHEMA)


def test_an_order_of_all_may_be_that_of_no_group():
    # In either group a is the better one; a has its hard problems where b has its easy ones.
    kinds = {f"p{i}": "easy" if i < 12 else "hard" for i in range(15)} | {"q": "alone"}
    values = {
        (t, p): (1.0 if t == "a" else 2.0) + (8 if kind == "hard" else 0) for t in "ab" for p, kind in kinds.items()
    }
    values |= {("a", f"p{i}"): 30.0 for i in range(12, 14)}
    sources = discovery.read(
        {t: [chat(i, "x", id=p, source=kind) for i, (p, kind) in enumerate(kinds.items())] for t in "ab"}
    )
    ranked = rank_by(table(values), sources, "source", resamples=200)
    assert [p.dataset for p in ranked.whole.places] == ["b", "a"] and ranked.whole.problems == 16
    easy, hard, alone = ranked.groups
    assert (easy.name, easy.trajectories, easy.agreement) == ("easy", 24, -1.0)
    assert easy.ranking is not None and [p.dataset for p in easy.ranking.places] == ["a", "b"]
    assert (hard.name, hard.agreement) == ("hard", 1.0)
    assert alone.ranking is None and "at least 2 are needed" in alone.reason
    with pytest.raises(InputError, match=r"its record has no 'origin' to group by; it has .*source"):
        rank_by(table(values), sources, "origin")
    with pytest.raises(InputError, match="the scores hold none of these trajectories"):
        rank_by(table({("c", "p0"): 1.0}), sources, "source")


def test_an_order_of_all_that_hides_groups_is_told():
    """Of four teachers, as in agent traces: the whole is in the order of some groups, and nearly upside down in another."""
    orders = {"books": "abcd", "forum": "abdc", "web": "dcab"}
    sizes = {"books": 12, "web": 6, "forum": 4}
    problems = [(f"{kind}{i}", kind) for kind, size in sizes.items() for i in range(size)]
    values = {(t, p): 2.0 + orders[kind].index(t) / 10 for t in "abcd" for p, kind in problems}
    sources = discovery.read(
        {t: [chat(i, "x", id=p, source=kind) for i, (p, kind) in enumerate(problems)] for t in "abcd"}
    )
    ranked = rank_by(table(values), sources, "source", resamples=200)
    assert [place.dataset for place in ranked.whole.places] == [*"abcd"]
    assert [group.agreement for group in ranked.groups] == pytest.approx([1, -2 / 3, 2 / 3])
    assert of_groups(ranked) == [
        "the order of all is not that within every source: agreement from -0.67 (web) to +1.00 (books)",
        "a, the first of all, is not the first in: web (d, settled)",
    ]
    alike = {key: 2.0 + "abcd".index(key[0]) / 10 for key in values}
    assert of_groups(rank_by(table(alike), sources, "source", resamples=200)) == [
        "the order of all is that within every source"
    ]
