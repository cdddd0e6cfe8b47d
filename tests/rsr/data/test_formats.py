"""Formats: what each holds of a chat is kept, refused or counted, and never dropped."""

import gzip
import json
from itertools import product
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from rsr.data import discovery, places
from rsr.data.formats import chats, turns
from rsr.data.messages import Message, ToolCall
from rsr.data.trajectories import by_teacher
from rsr.errors import InputError

SCHEMA: dict[str, Any] = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}
CALL: dict[str, Any] = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 1}'}}
AGENT: list[dict[str, Any]] = [
    {"role": "developer", "content": "Use the tool."},
    {"role": "user", "content": "1 + 1?"},
    {"role": "assistant", "content": None, "reasoning": "I add.", "tool_calls": [CALL]},
    {"role": "tool", "content": "2", "tool_call_id": "c1", "name": "add"},
    {"role": "assistant", "content": "It is 2."},
]
MESSAGES = (
    Message("developer", "Use the tool."),
    Message("user", "1 + 1?"),
    Message("assistant", "", "I add.", (ToolCall("add", '{"a": 1, "b": 1}', "c1"),)),
    Message("tool", "2", name="add", tool_call_id="c1"),
    Message("assistant", "It is 2."),
)
ATIF: dict[str, Any] = {
    "schema_version": "ATIF-v1.7",
    "session_id": "s",
    "agent": {"name": "a", "version": "1", "tool_definitions": [SCHEMA]},
    "steps": [
        {"step_id": 1, "source": "system", "message": "Use the tool."},
        {"step_id": 2, "source": "user", "message": [{"type": "text", "text": "1 + 1?"}]},
        {
            "step_id": 3,
            "source": "agent",
            "message": "",
            "reasoning_content": "I add.",
            "tool_calls": [{"tool_call_id": "c1", "function_name": "add", "arguments": {"a": 1, "b": 1}}],
            "observation": {"results": [{"source_call_id": "c1", "content": "2"}]},
            "metrics": {"prompt_tokens": 5},
        },
        {"step_id": 4, "source": "agent", "message": "It is 2.", "observation": {"results": [{"content": "Done?"}]}},
        {"step_id": 5, "source": "agent", "message": "Yes."},
    ],
}
EXCHANGE = [Message("user", "1 + 1?"), Message("assistant", "2")]
TURNS = [m.as_dict() for m in EXCHANGE]


def read(*records, **settings):
    (dataset,) = by_teacher(((f"record {i}", r) for i, r in enumerate(records)), "teacher", **settings)
    return dataset


def test_an_agents_chat_is_kept_whole_and_shapes_every_digest():
    dataset = read({"messages": AGENT, "tools": [SCHEMA]})
    (t,) = dataset.trajectories
    assert t.messages == MESSAGES and t.tool_schemas == [SCHEMA] and not dataset.unread
    as_dicts = [m.as_dict() for m in t.messages]
    assert as_dicts[2]["tool_calls"] == [CALL | {"function": {"name": "add", "arguments": {"a": 1, "b": 1}}}]
    assert read({"messages": as_dicts, "tools": json.dumps([SCHEMA])}).digest() == dataset.digest()
    less = [AGENT[2] | {"tool_calls": []}, AGENT[2] | {"reasoning": None}]
    others = [read({"messages": [*AGENT[:2], reply, *AGENT[3:]], "tools": [SCHEMA]}) for reply in less]
    others += [read({"messages": AGENT})]
    assert (
        len({d.digest() for d in [dataset, *others]})
        == len({d.trajectories[0].sha256 for d in [dataset, *others]})
        == 4
    )
    # The problem is what is asked, whatever the tools answer the teacher.
    asked = read({"messages": [*AGENT[:3], AGENT[3] | {"content": "3"}, AGENT[4]], "tools": [SCHEMA]})
    assert asked.trajectories[0].problem == t.problem != others[-1].trajectories[0].problem


def test_harbors_trajectories():
    (t,) = read(ATIF).trajectories
    assert t.tool_schemas == [SCHEMA]
    answer = Message("tool", "2", tool_call_id="c1")
    ends = (Message("user", "Done?"), Message("assistant", "Yes."))
    assert t.messages == (Message("system", "Use the tool."), *MESSAGES[1:3], answer, MESSAGES[4], *ends)
    elsewhere = {"source": "agent", "message": "x", "observation": {"results": [{"subagent_trajectory_ref": [{}]}]}}
    with pytest.raises(InputError, match="is another agent's trajectory, which is not read"):
        read(ATIF | {"steps": [*ATIF["steps"], elsewhere]})


@pytest.mark.parametrize("field", [*turns.REASONING, "content"])
def test_reasoning_is_kept_once_wherever_it_is(field):
    reply = {"role": "assistant", "content": "2", "thinking": None}
    thought = [{"type": "thinking", "thinking": "one and one"}, {"type": "text", "text": "2"}]
    reply |= {field: thought if field == "content" else "one and one"}
    expected = Message("assistant", "2", "one and one")
    for more in ({}, {"reasoning": "one and one"}, {"reasoning_details": [{"text": "one and one"}]}):
        assert read({"messages": [TURNS[0], reply | more]}).trajectories[0].messages[1] == expected
    tagged = {"role": "assistant", "content": "<think>\none and one\n</think>\n\n2", "reasoning": "one and one"}
    assert read({"messages": [TURNS[0], tagged]}).trajectories[0].messages[1] == expected


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "1 + 1?", "completion": "2"},
        {"prompt": TURNS[:1], "completion": TURNS[1:]},
        {"problem": "1 + 1?", "solution": "2", "messages": None},
        {"instruction": "1 + 1?", "output": "2"},
        {"messages": [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "2"}]},
        {"conversations": TURNS},
        {"conversations": [{"from": "user", "value": "1 + 1?"}, {"from": "model", "value": "2"}]},
    ],
)
def test_formats_of_one_exchange_are_equal(record):
    dataset = read(record)
    assert list(dataset.trajectories[0].messages) == EXCHANGE
    assert dataset.digest() == read({"messages": TURNS}).digest()
    assert not dataset.unread


def test_sharegpt_with_calls_in_turns_of_their_own():
    call = json.dumps({"name": "add", "arguments": {"a": 1, "b": 1}})
    speakers = [("human", "1 + 1?"), ("function_call", call), ("observation", "2"), ("gpt", "It is 2.")]
    record = {
        "conversations": [{"from": speaker, "value": value} for speaker, value in speakers],
        "tools": json.dumps([SCHEMA]),
    }
    (t,) = read(record).trajectories
    assert [m.role for m in t.messages] == ["user", "assistant", "tool", "assistant"]
    assert t.messages[1] == Message("assistant", "", None, (ToolCall("add", '{"a": 1, "b": 1}'),))
    assert t.tool_schemas == [SCHEMA]
    legacy = {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": '{"a": 1, "b": 1}'}}
    older = [TURNS[0], legacy, {"role": "function", "name": "add", "content": "2"}, AGENT[4]]
    (other,) = read({"messages": older, "functions": [SCHEMA["function"]]}).trajectories
    assert other.messages[1] == t.messages[1] and other.tools == t.tools


def test_arguments_that_are_no_object_stay_as_they_are():
    for arguments in ('{"a": 1', '{"a": 1, "a": 2}', "[1]"):
        call = CALL | {"function": {"name": "add", "arguments": arguments}}
        (t,) = read({"messages": [TURNS[0], {"role": "assistant", "content": "", "tool_calls": [call]}]}).trajectories
        assert t.messages[1].tool_calls[0].value == arguments


FORMS: dict[str, dict[str, Any]] = {
    "messages": {"messages": TURNS},
    "conversations": {"conversations": [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "2"}]},
    "steps": ATIF,
    "alpaca": {"instruction": "1 + 1?", "output": "2"},
    "prompt": {"prompt": "1 + 1?", "completion": "2"},
    "problem": {"problem": "1 + 1?", "solution": "2"},
}
MARKED = "marked by this test"
OF_RECORDS = (*chats.COUNTED, *chats.NOT_READ, *chats.SYSTEM, *chats.TOOLS, *turns.REASONING)
OF_TURNS = (
    *turns.NOT_READ,
    *turns.REASONING,
    *turns.REASONING_APART,
    *("tool_calls", "function_call", "name", "tool_call_id", "weight"),
)
VALUES = [
    MARKED,
    {"name": MARKED, "arguments": {}},
    [MARKED],
    [[MARKED, "x"]],
    [{"name": MARKED}],
    [{"type": "text", "text": MARKED}],
    [TURNS[0], {"role": "assistant", "content": MARKED}],
]


def accounted(record, name):
    """Whether a value that stands in a field of a record is kept, refused, or counted."""
    try:
        dataset = read(record)
    except InputError:
        return True
    t = dataset.trajectories[0]
    return MARKED in repr((t.messages, t.tools)) or any(note.startswith(name) for note in dataset.unread)


def test_a_known_field_is_kept_refused_or_counted_in_every_format():
    for (form, record), name, value in product(FORMS.items(), dict.fromkeys(OF_RECORDS), VALUES):
        assert accounted(record | {name: value}, name), (form, name, value)
    for form, key in (("messages", "messages"), ("conversations", "conversations"), ("steps", "steps")):
        for at, name, value in product(range(len(FORMS[form][key])), dict.fromkeys(OF_TURNS), VALUES):
            listed = [turn | {name: value} if i == at else turn for i, turn in enumerate(FORMS[form][key])]
            assert accounted(FORMS[form] | {key: listed}, name), (form, at, name, value)


RECORDS: list[dict[str, Any]] = [
    {"id": "p1", "messages": AGENT, "tools": [SCHEMA], "teacher": "one"},
    {"id": "p2", "messages": [*AGENT[:2], AGENT[4]], "tools": None, "teacher": "one"},
]


def save(folder, records):
    """As datasets.save_to_disk writes: streams of Arrow and a state that names them."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05d}-of-{len(records):05d}.arrow" for i in range(len(records))]
    for name, record in zip(names, records, strict=True):
        table = pa.Table.from_pylist([record])
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    (folder / "cache-1.arrow").write_bytes(b"")
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))


def test_files_of_every_kind_read_alike(tmp_path):
    lines = "\n".join(map(json.dumps, RECORDS))
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8-sig")
    (tmp_path / "b.json").write_text(json.dumps(RECORDS))
    (tmp_path / "c.json").write_text(lines)  # JSON Lines by another name
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    with pa.CompressedOutputStream(str(tmp_path / "e.jsonl.zst"), "zstd") as file:
        file.write(lines.encode())
    pl.DataFrame(RECORDS).write_parquet(tmp_path / "f.parquet")
    save(tmp_path / "g", RECORDS)
    sources = discovery.read(tmp_path)
    assert [s.dataset.name for s in sources] == [*"abcdefg"]
    assert len({s.dataset.digest() for s in sources}) == 1
    for source in sources:
        (first, second) = source.dataset.trajectories
        assert tuple(first.messages) == MESSAGES and [*first.messages] == [*first.messages]
        assert first.tool_schemas == [SCHEMA] and second.tools == ()
        assert source.records[1]["id"] == "p2" and not source.dataset.unread
    ((name, _, place),) = places.find(tmp_path / "g")
    assert (name, place) == ("g", tmp_path / "g")
    (tmp_path / "g" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(InputError, match=r"data-00001-of-00002.arrow, one of its 2 files, is not there"):
        discovery.read(tmp_path / "g")


def test_a_file_that_is_not_read_is_named(tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(json.dumps({"messages": TURNS}))
    for name in ("more.csv", "notes.txt", "x.jsonl.bz2", "y.zip", "README.md", ".hidden"):
        (tmp_path / name).write_text("x")
    first, second = discovery.read(tmp_path)
    assert first.dataset.unread == ("more.csv, notes.txt, x.jsonl.bz2 and 1 more beside it",)
    assert not second.dataset.unread
    (tmp_path / "b.jsonl").rename(tmp_path / ".b.jsonl")
    (only,) = discovery.read(tmp_path)
    assert only.dataset.unread == ("more.csv, notes.txt, x.jsonl.bz2 and 2 more beside it",)


def test_jobs_of_harbor_are_datasets_of_their_trials(tmp_path):
    for job, trial in (("job1", "t1"), ("job1", "t2"), ("job2", "t1")):
        folder = tmp_path / job / trial / "agent"
        folder.mkdir(parents=True)
        (folder / "trajectory.json").write_text(json.dumps(ATIF, indent=1))
        (folder.parent / "result.json").write_text("{}")
        (folder.parent / "log.txt").write_text("")
    first, second = discovery.read(tmp_path)
    assert [(s.dataset.name, len(s.dataset.trajectories)) for s in (first, second)] == [("job1", 2), ("job2", 1)]
    assert first.dataset.trajectories[0].problem == second.dataset.trajectories[0].problem
    assert first.records[1] == ATIF and not first.dataset.unread
    assert [s.dataset.name for s in discovery.read(tmp_path / "job1")] == ["job1"]


def test_several_teachers_in_one_file_are_datasets_and_fields_may_be_named(tmp_path):
    rows = [
        {"model": model, "uid": f"p{i}", "question": "1 + 1?", "answer": "2", "is_right": i, "origin": "book"}
        for i in (0, 1)
        for model in ("one", "two")
    ]
    path = tmp_path / "all.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    fields = {"teacher": "model", "id": "uid", "problem": "question", "solution": "answer", "correct": "is_right"}
    for data in (path, rows, pl.DataFrame(rows)):
        one, two = discovery.read(data, fields=fields)
        assert (one.dataset.name, two.dataset.name) == ("one", "two")
        assert [(t.id, t.correct, t.answer) for t in two.dataset.trajectories] == [
            ("p0", False, None),
            ("p1", True, None),
        ]
        assert list(one.dataset.trajectories[0].messages) == EXCHANGE
        assert one.records[one.dataset.trajectories[1].row]["solution"] == "2"
        assert discovery.field_of(two, two.dataset.trajectories[0], "origin") == "book"
    named = [{"teacher": row["model"], "messages": TURNS} for row in rows]
    assert [s.dataset.name for s in discovery.read(named)] == ["one", "two"]
    assert [s.dataset.name for s in discovery.read({"all": [row | {"id": i} for i, row in enumerate(named)]})] == [
        "all"
    ]
    with pytest.raises(InputError, match=r"NAME=FILE. are of one teacher: leave out the field"):
        discovery.read(f"mine={path}", fields=fields)
    with pytest.raises(InputError, match="some records name no teacher, and others name 'two'"):
        discovery.read([*named, {"messages": TURNS}])
    with pytest.raises(InputError, match=r"some records name no teacher$"):
        discovery.read([{"model": ["one"], "messages": TURNS}], fields={"teacher": "model"})
    with pytest.raises(InputError, match="no record has a field 'verdict'"):
        discovery.read(rows, fields=fields | {"correct": "verdict"})
    with pytest.raises(InputError, match="no field is read as 'quality'; those that are: teacher, generation, id"):
        discovery.read(rows, fields={"quality": "is_right"})


def test_a_part_of_a_data_set_on_the_hub(tmp_path, monkeypatch):
    commit = "0" * 40
    snapshot = tmp_path / "datasets--owner--name" / "snapshots" / commit
    for place in ("data/train-00000-of-00001.jsonl", "data/test-00000-of-00001.jsonl", "more/a.jsonl"):
        (snapshot / place).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / place).write_text(json.dumps({"messages": TURNS}))
    for reference in ("main", "refs/pr/1"):
        file = tmp_path / "datasets--owner--name" / "refs" / reference
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="holds the splits test, train"):
        discovery.read("hub:owner/name")
    for place, name in (("/more", "a"), ("/data/train-00000-of-00001.jsonl", "train")):
        for revision in ("", "@refs/pr/1"):
            assert discovery.read(f"hub:owner/name{place}{revision}")[0].dataset.name == name


def test_splits_in_one_object_are_no_teachers():
    with pytest.raises(InputError, match="the data: holds the splits test, train"):
        discovery.read({"train": [{"messages": TURNS}], "test": [{"messages": TURNS}]})
