"""Selection against a plain re-computation, and its invariance to order."""

import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsr.errors import InputError
from rsr.selection.rules import CANDIDATES, Rule, choose

rows = st.lists(
    st.fixed_dictionaries(
        {
            "teacher": st.sampled_from("abc"),
            "problem": st.sampled_from(["p1", "p2", "p3"]),
            "value": st.sampled_from([None, 1.0, 2.0, 2.5, math.nan]),
            "tokens": st.none() | st.integers(1, 9),
            "correct": st.sampled_from([None, True, False]),
            "cluster": st.integers(0, 3),
        }
    ),
    min_size=1,
    max_size=14,
)
size = st.sampled_from([{}, {"top": 2}, {"share": 0.5}, {"tokens": 15}])
rules = st.builds(
    lambda size, **kept: Rule(**kept, **size),
    size,
    correct=st.sampled_from(["first", "only", "ignore"]),
    per_problem=st.sampled_from([None, 1, 2]),
    quota=st.sampled_from([None, 1, 2]),
    min_response_tokens=st.sampled_from([None, 3]),
    max_response_tokens=st.sampled_from([None, 7]),
    distinct=st.booleans(),
)
directions = st.sampled_from(["lower", "higher"])


def table(given):
    """Candidates; the content is a hash that neither row order nor names decide."""
    full = [
        row
        | {"generation": "", "trajectory": str(i), "group": row["teacher"], "content": f"{(i * 7919 + 13) % 101:03d}"}
        for i, row in enumerate(given)
    ]
    return pl.DataFrame(full, schema=CANDIDATES)


def names(frame):
    return frame["trajectory"].to_list()


def plainly(frame, direction, rule):
    """The same in plain Python."""
    rows = [r for r in frame.iter_rows(named=True) if r["value"] is not None and not math.isnan(r["value"])]
    if rule.tokens or rule.min_response_tokens or rule.max_response_tokens:
        rows = [r for r in rows if r["tokens"] is not None]
    rows = [r for r in rows if not rule.min_response_tokens or r["tokens"] >= rule.min_response_tokens]
    rows = [r for r in rows if not rule.max_response_tokens or r["tokens"] <= rule.max_response_tokens]
    if rule.correct == "only":
        rows = [r for r in rows if r["correct"]]
    sign = 1 if direction == "lower" else -1
    rank = {True: 0, None: 1, False: 2}
    rows.sort(key=lambda r: (rank[r["correct"]] if rule.correct == "first" else 0, sign * r["value"], r["content"]))

    def at_most(n, key):
        kept, counts = [], dict[str, int]()
        for r in rows:
            counts[r[key]] = counts.get(r[key], 0) + 1
            if counts[r[key]] <= n:
                kept.append(r)
        return kept

    if rule.distinct:
        rows = at_most(1, "cluster")
    if rule.per_problem:
        rows = at_most(rule.per_problem, "problem")
    if rule.quota:
        rows = at_most(rule.quota, "teacher")
    if rule.top:
        rows = rows[: rule.top]
    if rule.share:
        rows = rows[: max(1, math.floor(rule.share * len(rows)))]
    if rule.tokens:
        while sum(r["tokens"] for r in rows) > rule.tokens:
            rows.pop()
    return sorted(rows, key=lambda r: r["problem"])


@settings(max_examples=300, deadline=None)
@given(rows, directions, rules)
def test_selection_is_the_plain_recomputation(given, direction, rule):
    frame = table(given)
    expected = [r["trajectory"] for r in plainly(frame, direction, rule)]
    if not expected:
        with pytest.raises(InputError, match="nothing is selected"):
            choose(frame, direction, rule)
        return
    choice = choose(frame, direction, rule)
    assert names(choice.chosen) == expected
    assert sorted(names(choice.chosen) + names(choice.left_out)) == sorted(names(frame))
    assert choice.left_out["reason"].null_count() == 0


@settings(max_examples=100, deadline=None)
@given(rows, directions, rules, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(given, direction, rule, random):
    frame = table(given)
    order = list(range(len(frame)))
    random.shuffle(order)
    try:
        one = choose(frame, direction, rule)
    except InputError:
        with pytest.raises(InputError):
            choose(frame[order], direction, rule)
        return
    other = choose(frame[order], direction, rule)
    assert one.chosen.equals(other.chosen)
    assert one.left_out.equals(other.left_out)
    assert one.ties == other.ties


def of(*values, **columns):
    given = [
        {"teacher": "a", "problem": "p", "value": v, "tokens": 1, "correct": None, "cluster": None} for v in values
    ]
    return table(given).with_columns(**{name: pl.Series(of) for name, of in columns.items()})


def test_ties_are_counted_where_they_decide():
    assert choose(of(1.0, 1.0, 2.0), "lower", Rule(per_problem=1)).ties == 1
    assert choose(of(1.0, 1.0, 2.0), "lower", Rule(per_problem=2)).ties == 0
    assert choose(of(1.0, 1.0, correct=[True, False]), "lower", Rule(per_problem=1)).ties == 0
    assert choose(of(1.0, 1.0, correct=[True, False]), "lower", Rule(per_problem=1, correct="ignore")).ties == 1


def test_a_missing_score_is_never_selected():
    choice = choose(of(None, 3.0, math.nan), "lower", Rule(per_problem=None))
    assert names(choice.chosen) == ["1"]
    assert choice.left_out["reason"].to_list() == ["without a score"] * 2


def test_what_overlaps_with_an_evaluation_set_makes_room_for_another_answer():
    choice = choose(of(1.0, 2.0, 3.0, overlap=["test.jsonl", None, None]), "lower", Rule())
    assert names(choice.chosen) == ["1"]
    assert (
        dict(zip(names(choice.left_out), choice.left_out["reason"], strict=True))["0"] == "overlapping with test.jsonl"
    )


def test_nothing_that_can_be_selected_is_said():
    with pytest.raises(InputError, match=r"all of 2 candidates are not known to be correct: .*--answer 'last number'"):
        choose(of(1.0, 2.0, correct=[False, False]), "lower", Rule(correct="only"))
    with pytest.raises(InputError, match="all of 1 candidates are beyond the budget of 5 tokens"):
        choose(of(1.0).with_columns(tokens=pl.lit(9, pl.Int64)), "lower", Rule(tokens=5))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"top": 0}, "top 0 is too small"),
        ({"share": 1.5}, "share 1.5 is no share"),
        ({"top": 1, "share": 0.5}, "top and share are both sizes"),
        ({"per_problem": 0}, "per_problem 0 is too small"),
    ],
)
def test_rules_out_of_range(wrong, message):
    with pytest.raises(InputError, match=message):
        Rule(**wrong)
