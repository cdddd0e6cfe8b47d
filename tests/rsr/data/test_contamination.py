"""Overlap with evaluation sets."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsr.data import contamination
from rsr.errors import InputError

LONG = "Suppose that a farmer has twenty three cows, and each of them gives exactly seven litres of milk."


@pytest.fixture
def evaluation(tmp_path):
    path = tmp_path / "test.jsonl"
    problems = [LONG, "What is the sum of 2 and 3?", "Find x."]
    path.write_text("".join(json.dumps({"id": f"e{i}", "problem": p}) + "\n" for i, p in enumerate(problems)))
    return contamination.read(path)


def test_thirteen_words_in_a_row_overlap(evaluation):
    of = LONG.rstrip(".").split()
    assert contamination.overlapping([" ".join(of[:13])], evaluation) == {"e0"}
    assert contamination.overlapping([" ".join(of[:12])], evaluation) == set()
    assert contamination.overlapping([" ".join(["Once,", *[w.upper() for w in of[2:15]], "!"])], evaluation) == {"e0"}
    assert contamination.overlapping([" ".join(of[:6] + ["red"] + of[6:12])], evaluation) == set()


def test_shorter_problems_must_be_held_whole_and_the_shortest_are_counted(evaluation):
    assert contamination.overlapping(["So: what is the sum of 2 and 3? Easy."], evaluation) == {"e1"}
    assert contamination.overlapping(["What is the sum of 2 and 4?", "find x"], evaluation) == set()
    assert (evaluation.problems, evaluation.too_short) == (3, 1)


def test_chats_are_evaluation_sets_too(tmp_path):
    path = tmp_path / "chats.json"
    asked = [{"role": "user", "content": [{"type": "text", "text": LONG}]}]
    shared = [{"from": "system", "value": "S"}, {"from": "human", "value": LONG}]
    for record in ({"messages": asked}, {"conversations": shared}, {"prompt": asked, "completion": asked}):
        path.write_text(json.dumps([record]))
        assert contamination.overlapping([LONG], contamination.read(path)) == {f"{path}, line 1"}


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode), st.sampled_from([".json", ".jsonl", ".parquet"]))
def test_no_file_ends_in_another_error(tmp_path_factory, data, suffix):
    path = tmp_path_factory.mktemp("fuzz") / f"a{suffix}"
    path.write_bytes(data)
    with contextlib.suppress(InputError):
        contamination.read(path)
