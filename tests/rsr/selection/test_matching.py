"""Arms of equal size hold nothing new, differ in no size, and lose as little as they must."""

from itertools import product
from typing import get_args

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsr.errors import InputError
from rsr.selection.matching import Match, match

row = st.tuples(st.sampled_from("abc"), st.sampled_from(["p1", "p2", "p3"]), st.integers(1, 9))
arms = st.lists(st.lists(row, min_size=1, max_size=6), min_size=2, max_size=3)


def frame(rows):
    named = [(teacher, "", f"{i}", problem, tokens) for i, (teacher, problem, tokens) in enumerate(rows)]
    return pl.DataFrame(named, schema=["teacher", "generation", "trajectory", "problem", "tokens"], orient="row")


def kept(frames, by):
    """What is left of each arm; None where it would be nothing."""
    try:
        return [arm.filter(mask) for arm, mask in zip(frames, match(frames, by), strict=True)]
    except InputError:
        return None


def counts(arm):
    return sorted(arm.group_by("teacher").len().iter_rows())


@given(arms, st.sampled_from(get_args(Match)))
def test_arms_are_equal_in_what_is_asked_for(given, by):
    frames = [frame(rows) for rows in given]
    parts = kept(frames, by)
    if parts is None:
        return
    assert all(len(part) for part in parts)
    totals = [part["tokens"].sum() for part in parts]
    if "tokens" in by:
        assert max(totals) - min(totals) < max(arm["tokens"].max() for arm in frames)
    if by != "tokens":
        assert len({len(part) for part in parts}) == 1
    if "teachers" in by:
        assert all(counts(part) == counts(parts[0]) for part in parts)


@given(arms, st.sampled_from(get_args(Match)))
def test_the_order_of_rows_decides_nothing(given, by):
    frames = [frame(rows) for rows in given]
    parts, turned = kept(frames, by), kept([arm.reverse() for arm in frames], by)
    assert (parts is None) == (turned is None)
    for part, again in zip(parts or [], turned or [], strict=True):
        assert part.equals(again.reverse())


@given(arms, st.sampled_from(["rows", "teachers"]))
def test_no_larger_arms_have_equal_rows(given, by):
    def alike(subset):
        of = [teacher for teacher, _, _ in subset]
        return len(of) if by == "rows" else tuple(map(of.count, "abc"))

    possible = [
        {alike([r for r, keep in zip(rows, mask, strict=True) if keep]) for mask in product([0, 1], repeat=len(rows))}
        for rows in given
    ]
    largest = max(size if by == "rows" else sum(size) for size in set.intersection(*possible))
    parts = kept([frame(rows) for rows in given], by)
    assert largest == (0 if parts is None else len(parts[0]))


def test_equal_tokens_leave_the_smallest_arm_whole_and_the_others_keep_the_same_problems():
    frames = [
        frame([(teacher, f"p{i}", tokens) for i in range(6)]) for teacher, tokens in (("a", 10), ("b", 25), ("c", 30))
    ]
    small, large, larger = kept(frames, "tokens")
    assert small.equals(frames[0]) and (large["tokens"].sum(), larger["tokens"].sum()) == (50, 60)
    assert large["problem"].to_list() == larger["problem"].to_list()


def test_equal_rows_and_tokens_exchange_long_ones_for_short_ones_of_the_same_teacher():
    short = frame([("a", f"p{i}", 10) for i in range(4)])
    long = frame([("a", f"p{i}", n) for i, n in enumerate([10, 10, 10, 50, 50, 50, 50, 50])])
    of_short, of_long = match([short, long], "tokens_and_teachers")
    assert of_short.sum() == of_long.sum() == 3  # of four one would have 50 tokens, and the others never make that up
    assert {*long.filter(of_long)["tokens"]} == {10}


@pytest.mark.parametrize(
    ("rows", "by", "message"),
    [
        ([("a", "p", 3)], "teachers", "nothing would be left of an arm with equal teachers"),
        ([("b", "p", 30)], "tokens", "nothing would be left of an arm with equal tokens"),
        ([("b", "p", None)], "tokens", "the response tokens of 1 trajectories are not known: match rows"),
    ],
)
def test_what_cannot_be_matched_is_said(rows, by, message):
    with pytest.raises(InputError, match=message):
        match([frame([("b", "p", 4)]), frame(rows)], by)
