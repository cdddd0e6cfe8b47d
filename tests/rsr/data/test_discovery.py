"""Where datasets and score sets come from; and that nothing read ends in another error than InputError."""

import contextlib
import json
import random
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsr.data import contamination, discovery
from rsr.errors import InputError
from rsr.metrics import score_sets, score_tables
from tests.clients import chat, write

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def ids(source):
    return [t.id for t in source.dataset.trajectories]


def test_a_sample_is_the_same_problems_in_any_order_and_any_file(tmp_path):
    records = [chat(i, f"answer {i}", id=f"p{i}") for i in range(50)]
    shuffled = random.Random(0).sample(records, len(records))
    more = [*records, *(chat(i, "x", id=f"q{i}") for i in range(50))]
    paths = [write(tmp_path / f"{n}.jsonl", r) for n, r in enumerate((records, shuffled, more))]
    one, other, third = discovery.read(paths, sample=10)
    assert set(ids(one)) == set(ids(other))
    assert len(ids(one)) == len(ids(third)) == 10
    assert set(ids(third)) & {f"p{i}" for i in range(50)} <= set(ids(one))
    assert ids(one) == sorted(ids(one), key=lambda i: int(i[1:]))  # in the order of the file
    assert [one.records[t.row]["id"] for t in one.dataset.trajectories] == ids(one)


def test_places_may_be_named_and_are_read_in_the_order_of_names(tmp_path):
    path = write(tmp_path / "a" / "gen1.json", [chat(0, "x")])
    other = write(tmp_path / "b" / "gen1.json", [chat(0, "y")])
    for places in ([path, other], [path.parent, other.parent]):
        with pytest.raises(
            InputError, match=rf"are both called 'gen1': name them, as in a={path} b={other}, or give the folder"
        ):
            discovery.read(places)
    assert [s.dataset.name for s in discovery.read([f"z={path}", f"y={other}"])] == ["y", "z"]


def test_a_file_whose_name_holds_an_equals_sign(tmp_path):
    path = write(tmp_path / "lr=1.jsonl", [chat(0, "x")])
    assert discovery.read(path)[0].dataset.name == "lr=1"


def test_a_column_without_value_is_not_given():
    source = discovery.read([chat(0, "x", id=None, answer=None) | {"conversations": None}])[0]
    assert source.dataset.trajectories[0].answer is None


@settings(max_examples=150, deadline=None)
@given(json_values | st.lists(json_values, max_size=3))
def test_no_object_ends_in_another_error(value):
    with contextlib.suppress(InputError):
        discovery.read(value if isinstance(value, list | dict) else [value])


fields = st.sampled_from([*score_sets.REFERENCE, "id", "problem", "question", "messages", "role", "content", "text"])
lines = st.lists(st.dictionaries(fields, json_values | st.integers(-(10**400), 10**400), max_size=6), max_size=3)


@settings(max_examples=200, deadline=None)
@given(lines | st.binary(max_size=60))
def test_no_score_set_or_evaluation_set_ends_in_another_error(tmp_path_factory, given_lines):
    path = tmp_path_factory.mktemp("fuzz") / "a.jsonl"
    if isinstance(given_lines, bytes):
        path.write_bytes(given_lines)
    else:
        path.write_text("\n".join(json.dumps(line) for line in given_lines))
    for read in (score_sets.read, contamination.read):
        with contextlib.suppress(InputError):
            read(path)


@settings(max_examples=60, deadline=None)
@given(json_values | st.fixed_dictionaries({"key": st.fixed_dictionaries({"stage": st.just("scores")})}), st.binary())
def test_no_damaged_score_table_ends_in_another_error(tmp_path_factory, manifest, table):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for name in (score_tables.TRAJECTORIES, score_tables.DATASETS):
        (folder / name).write_bytes(table)
    with pytest.raises(InputError):
        score_tables.read(folder)


def test_a_table_of_another_kind_is_no_score_table(tmp_path):
    (tmp_path / "manifest.json").write_text('{"key": {"stage": "scores"}}')
    for name in (score_tables.TRAJECTORIES, score_tables.DATASETS):
        pl.DataFrame({"a": [1]}).write_parquet(tmp_path / name)
    with pytest.raises(InputError, match=r"cannot be read .*; remove"):
        score_tables.read(tmp_path)


@pytest.mark.parametrize("value", [0, -1, 10**400, None, "1", float("inf"), float("nan")])
def test_a_score_of_the_reference_is_a_positive_number(tmp_path, value):
    sample = dict.fromkeys(score_sets.REFERENCE, 2) | {"avg_surprisal": value}
    write(tmp_path / "a.jsonl", [sample])
    with pytest.raises(InputError, match="a score is not a positive number"):
        score_sets.read(tmp_path / "a.jsonl")


def test_tables_and_what_numpy_makes_of_their_columns():
    chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    plain: list[dict[str, Any]] = [{"id": 7, "messages": chat}, {"id": 8, "messages": chat, "answer": "4"}]
    expected = discovery.read(plain)[0].dataset
    as_numpy = [row | {"id": np.int64(row["id"]), "messages": np.array(chat, dtype=object)} for row in plain]
    as_numpy[0]["answer"] = float("nan")
    pandas = pytest.importorskip("pandas")
    for data in (as_numpy, pl.DataFrame(plain), pandas.DataFrame(as_numpy)):
        assert discovery.read(data)[0].dataset == expected
    assert json.dumps(discovery.read(as_numpy)[0].records) == json.dumps(plain)
