"""Readers: formats, keys, and one clear line for what is malformed."""

import contextlib
import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsr.data.files import SUFFIXES
from rsr.data.messages import Message
from rsr.data.places import RELEASED, find
from rsr.data.trajectories import parse, read
from rsr.errors import InputError

CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "Think."},
    {"role": "user", "content": "1 + 1?"},
    {"role": "assistant", "content": "It is 2."},
]
MESSAGES = tuple(Message(m["role"], m["content"]) for m in CHAT)


def dataset(*records, **settings):
    return parse([(f"record {i}", r) for i, r in enumerate(records)], "teacher", **settings)


@pytest.mark.parametrize(
    "record",
    [
        {"messages": CHAT},
        {"messages": json.dumps(CHAT)},
        {"messages": repr(CHAT)},
        {"messages": [m | {"content": [{"type": "text", "text": m["content"]}]} for m in CHAT]},
        {
            "conversations": [
                {"from": f, "value": m["content"]} for f, m in zip(("system", "human", "gpt"), CHAT, strict=True)
            ]
        },
        {"system": "Think.", "instruction": "1 + 1?", "output": "It is 2."},
        {"system": "Think.", "messages": CHAT[1:]},
        {"system": "Think.", "messages": CHAT, "tools": [], "history": None},
        {
            "system": "Think.",
            "conversations": [{"from": "user", "value": "1 + 1?"}, {"from": "assistant", "value": "It is 2."}],
        },
    ],
)
def test_formats_give_the_same_trajectory(record):
    assert dataset(record).trajectories[0].messages == MESSAGES
    assert dataset(record).digest() == dataset({"messages": CHAT}).digest()


def test_alpaca_joins_instruction_and_input():
    (t,) = dataset({"instruction": "Add.", "input": "1 and 1", "output": "2"}).trajectories
    assert [m.content for m in t.messages] == ["Add.\n1 and 1", "2"]


def test_the_history_of_alpaca_comes_before_its_question():
    (t,) = dataset({"history": [["1 + 1?", "2"]], "instruction": "And one more?", "output": "3"}).trajectories
    assert [(m.role, m.content) for m in t.messages] == [
        ("user", "1 + 1?"),
        ("assistant", "2"),
        ("user", "And one more?"),
        ("assistant", "3"),
    ]


def test_what_a_message_holds_besides_is_known_by_name():
    reply = CHAT[2] | {"annotations": [{"text": "one and one"}], "name": "solver", "tool_calls": []}
    chats = [{"messages": [*CHAT[:2], reply]}, {"messages": CHAT, "prompt": "1 + 1?"}, {"messages": [*CHAT[:2], reply]}]
    unread = ("annotations of messages (2)", "name of messages (2)", "prompt of records (1)")
    assert dataset(*chats).unread == unread


def test_a_weight_is_read_and_is_no_part_of_what_is_scored():
    (t,) = dataset({"messages": CHAT, "weight": 2}).trajectories
    assert t.weight == 2.0 and dataset({"messages": CHAT, "weight": 2}).digest() == dataset({"messages": CHAT}).digest()


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ("-1", "'weight' is a number from 0, not -1: mend it"),
        ("NaN", "not nan"),
        ("Infinity", "not inf"),
        ('"2"', "not text"),
        ("true", "not true/false"),
        ("null", "the record has no 'weight', which others have: give one to every record, or to none"),
    ],
)
def test_a_weight_that_weighs_nothing_is_refused_by_file_and_line(tmp_path, weight, message):
    lines = [json.dumps({"messages": CHAT})[:-1] + f', "weight": {w}}}\n' for w in ("0", weight, "1")]
    (tmp_path / "a.jsonl").write_text("".join(lines))
    with pytest.raises(InputError, match=f"a.jsonl, line 2: .*{message}"):
        read(tmp_path / "a.jsonl", "a")


def test_files_of_every_format_read_alike(tmp_path):
    records = [{"id": f"p{i}", "messages": CHAT, "answer": str(i)} for i in range(3)]
    (tmp_path / "a.json").write_text(json.dumps(records, indent=1))
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n")
    pl.DataFrame(records).write_parquet(tmp_path / "c.parquet")
    read_all = [read(file, name) for name, _, file in find(tmp_path)]
    assert [d.teacher for d in read_all] == ["a", "b", "c"]
    assert len({d.digest() for d in read_all}) == 1
    assert [t.answer for t in read_all[0].trajectories] == ["0", "1", "2"]


def test_folder_of_teachers_and_generations(tmp_path):
    for teacher, generation in [("b", "gen2"), ("a", "gen1"), ("b", "gen1")]:
        (tmp_path / teacher).mkdir(exist_ok=True)
        (tmp_path / teacher / f"{generation}.json").write_text(json.dumps([{"messages": CHAT}]))
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / RELEASED).mkdir()
    (tmp_path / RELEASED / "chosen.json").write_text(json.dumps([{"messages": CHAT}]))
    assert [t for t, _, _ in find(tmp_path / RELEASED)] == ["chosen"]  # asked for by itself
    assert [(t, g) for t, g, _ in find(tmp_path)] == [("a", "gen1"), ("b", "gen1"), ("b", "gen2")]


def test_problem_keys_count_repeated_prompts_and_are_shared_by_teachers():
    def chat(reply):
        return {"messages": [*CHAT[:2], {"role": "assistant", "content": reply}]}

    one, other = dataset(chat("a"), chat("b")), dataset(chat("c"), chat("d"))
    keys = [t.problem for t in one.trajectories]
    assert len(set(keys)) == 2
    assert keys == [t.problem for t in other.trajectories]


def test_skipping_a_record_shifts_no_key():
    empty = {"messages": [*CHAT[:2], {"role": "assistant", "content": " "}]}
    whole = dataset({"messages": CHAT}, {"messages": CHAT})
    skipped = dataset(empty, {"messages": CHAT}, on_error="skip")
    assert [t.problem for t in skipped.trajectories] == [whole.trajectories[1].problem]
    assert [(s.where, s.reason) for s in skipped.skipped] == [("record 0", "an assistant message is empty")]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("text", "a record is an object with 'messages', not text"),
        ({}, "no 'messages', 'conversations', 'steps', 'instruction' with 'output', 'prompt' with 'completion'"),
        ({"chat": []}, "; it has chat (--field messages=NAME names a field)"),
        ({"question": "?", "response": "!"}, "(--field problem=question --field solution=response reads these)"),
        ({"messages": CHAT, "conversations": CHAT}, "holds 'messages' and 'conversations': remove the one"),
        ({"messages": []}, "'messages' is empty"),
        ({"messages": 3}, "'messages' is a list, not a int"),
        ({"messages": "__import__('os').getcwd()"}, "neither JSON nor a Python literal"),
        ({"messages": CHAT[:2]}, "no assistant message"),
        ({"messages": [*CHAT[:2], {"role": "assistant", "content": ""}]}, "an assistant message is empty"),
        ({"messages": [*CHAT[:2], {"role": "assistant", "content": None}]}, "an assistant message is empty"),
        ({"messages": [{"role": "tutor", "content": "x"}]}, "has the role 'tutor'; known are system, developer, user"),
        ({"messages": [{"role": "user", "content": 3}]}, "the content of message 0 is text, not a int"),
        ({"messages": ["hello"]}, "message 0 is an object with 'role' and 'content', not text"),
        ({"conversations": [{"from": "bot", "value": "x"}]}, "message 0 has the role 'bot'"),
        ({"messages": CHAT, "id": ["x"]}, "'id' is text or a number, not a list"),
        ({"messages": CHAT, "id": "\ud800"}, "'id' holds half a character"),
        ({"messages": [*CHAT[:2], {"role": "assistant", "content": "\ud800"}]}, "message 2 holds half a character"),
        ({"messages": "[{[1]: 2}]"}, "neither JSON nor a Python literal"),
        ({"messages": f"[{'9' * 5000}]"}, "neither JSON nor a Python literal"),
        ({"messages": CHAT[2:]}, "the chat starts with the assistant"),
        ({"messages": CHAT, "system": "Hurry."}, "'system' and the system message of the chat differ"),
        ({"messages": CHAT, "tools": [{"title": "search"}]}, "a tool is an object with a name"),
        ({"messages": CHAT, "images": ["a.png"]}, "the record has 'images', which is not read"),
        ({"messages": CHAT, "correct": 0.5}, "'correct' is true or false, or 1 or 0, not 0.5"),
        ({"messages": CHAT, "history": [["1", "2"]]}, "the record has 'history', which is not read"),
        ({"instruction": "1 + 1?", "output": "2", "history": ["1"]}, "'history' is a list of pairs"),
        ({"messages": [*CHAT[:2], CHAT[2] | {"tool_calls": [{"id": "1"}]}]}, "a call of message 2 is an object with"),
        (
            {"messages": [*CHAT[:2], CHAT[2] | {"thinking": "a", "reasoning": "b"}]},
            "'reasoning' and 'thinking' of message 2",
        ),
        ({"messages": [CHAT[0], CHAT[1] | {"thinking": "a"}, CHAT[2]]}, "message 1 is the user's and has reasoning"),
        (
            {"messages": [*CHAT[:2], CHAT[2] | {"content": [{"type": "video", "url": "a"}]}]},
            "message 2 has a part of type 'video', which is not read",
        ),
        (
            {"messages": [*CHAT[:2], CHAT[2] | {"content": [{"type": "image", "url": "a"}]}]},
            "message 2 is the assistant's and has an image, which no student writes",
        ),
    ],
)
def test_malformed_records_name_the_place_and_the_reason(record, message):
    with pytest.raises(InputError) as error:
        dataset({"messages": CHAT, "id": "fine"}, record)
    assert str(error.value).startswith("record 1: ")
    assert message in str(error.value)


def test_duplicate_ids_are_refused():
    with pytest.raises(InputError, match="record 1: a second record with the id '7'"):
        dataset({"id": 7, "messages": CHAT}, {"id": "7", "messages": CHAT})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"", "holds a list of records, this one starts with nothing"),
        ("a.json", b"3", "this one starts with '3'"),
        ("a.json", b"{}", "no 'messages'"),
        ("a.json", b'{"id": 1}\n{oops', "a.json, line 1: no 'messages'"),
        ("a.jsonl.gz", b"hello", "not a readable .gz file"),
        ("a.jsonl.zst", b"hello", "not a readable .zst file"),
        ("a.arrow", b"hello", "not a readable Arrow file"),
        ("a.json", b"[]", "is empty"),
        ("a.json", b'[\n\n{"mess', "a.json, line 3: not valid JSON"),
        ("a.json", b'[\n{"id": 1}\n', "a.json, line 2: "),
        ("a.json", b'[{"messages": "\xff"}]', "not UTF-8 text (byte 15)"),
        ("a.json", b'[{"a": ' + b"9" * 5000 + b"}]", "a.json, line 1: not valid JSON: Exceeds the limit"),
        ("a.jsonl", b"\n\n", "is empty"),
        ("a.jsonl", b'{"a": 1}\n{oops\n', "a.jsonl, line 1: no 'messages'"),
        ("a.jsonl", b"\n{oops\n", "a.jsonl, line 2: not valid JSON"),
        ("a.parquet", b"PAR1", "not a readable Parquet file"),
        ("a.txt", b"hello", "trajectories are read from .json, .jsonl, .parquet, .arrow"),
    ],
)
def test_bad_files_are_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read(find(path)[0][2], "teacher")
    assert message in str(error.value)
    assert name in str(error.value)


def test_a_truncated_list_names_its_line(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"messages": CHAT}], indent=1)[:-1])
    with pytest.raises(InputError, match="the list is not closed"):
        read(path, "a")


def test_text_after_the_list_is_not_lost(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"messages": CHAT}]) + "\n" + json.dumps([{"messages": CHAT}]))
    with pytest.raises(InputError, match="line 2: there is more text after the end of the list"):
        read(path, "a")


def test_shards_are_one_dataset_and_splits_are_none(tmp_path):
    records = [{"id": str(i), "messages": CHAT} for i in range(4)]
    folder = tmp_path / "hub" / "data"
    folder.mkdir(parents=True)
    for i in (1, 0):
        pl.DataFrame(records[2 * i : 2 * i + 2]).write_parquet(folder / f"train-0000{i}-of-00002.parquet")
    ((teacher, generation, file),) = find(tmp_path / "hub")
    assert (teacher, generation) == ("data", "train")
    for shard in (file, folder / "train-00001-of-00002.parquet"):
        assert [t.id for t in read(shard, "data").trajectories] == ["0", "1", "2", "3"]
    (folder / "test.jsonl").write_text("")
    with pytest.raises(InputError, match="holds the splits test, train: give the file or folder of the one"):
        find(tmp_path / "hub")
    (folder / "test.jsonl").unlink()
    (folder / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(InputError, match=r"is one of 2 shards, and train-00001-of-00002.parquet is not there"):
        find(tmp_path / "hub")


def test_two_files_of_one_teacher_and_generation_are_refused(tmp_path):
    for name in ("gen1.json", "gen1.jsonl"):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / name).write_text(json.dumps([{"messages": CHAT}]))
    with pytest.raises(InputError, match="are the same teacher and generation"):
        find(tmp_path)


def test_missing_places_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file or folder: give a path that is there, or hub:OWNER/NAME"):
        find(tmp_path / "nowhere")
    (tmp_path / "traces").mkdir()
    with pytest.raises(InputError, match=r"traecs: no such file or folder: did you mean .*/traces\?"):
        find(tmp_path / "traecs")
    with pytest.raises(InputError, match="holds no"):
        find(tmp_path)


def test_an_unreachable_hub_is_refused(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        InputError, match=r"hub:nobody/nothing@revision: cannot be downloaded .*; a local copy can be given"
    ):
        find("hub:nobody/nothing@revision")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    ["messages", "role", "content", "conversations", "from", "value", "instruction", "output", "id"]
)
records = st.dictionaries(names, json_values | st.lists(st.dictionaries(names, json_values, max_size=3), max_size=3))


@settings(max_examples=300, deadline=None)
@given(st.lists(records, max_size=3))
def test_no_record_ends_in_another_error(values):
    with contextlib.suppress(InputError):
        assert dataset(*values, on_error="skip").trajectories


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=80), suffix=st.sampled_from([*SUFFIXES]))
def test_no_file_ends_in_another_error(tmp_path_factory, data, suffix):
    path = tmp_path_factory.mktemp("fuzz") / f"a{suffix}"
    path.write_bytes(data)
    with pytest.raises(InputError):
        read(path, "a")


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_a_byte_order_mark_is_no_content(tmp_path, suffix):
    record = json.dumps({"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]})
    path = tmp_path / f"a{suffix}"
    path.write_text(f"[{record}]" if suffix == ".json" else record, encoding="utf-8-sig")
    assert read(path, "a").trajectories[0].messages[0].content == "?"


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"source": "\ud83d"}, "'source'"),
        ({"answer": "\ud83d"}, "'answer'"),
        ({"\ud83d": 1}, "the name of a field"),
        ({"extra": {"list": [{"\ud83d": 1}]}}, "a key in 'extra'"),
    ],
)
def test_half_a_character_is_refused_wherever_it_is(fields, where):
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    with pytest.raises(InputError, match=f"record 0: {where} holds half a character"):
        parse([("record 0", {"messages": messages} | fields)], "a")
