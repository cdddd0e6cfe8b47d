"""What LLaMA-Factory is told of a training set, and what it could not read."""

from dataclasses import replace
from typing import Any

import pytest

from rsr.data import export
from rsr.data.trajectories import parse
from rsr.errors import InputError


def chat(user, assistant, **more):
    return {"conversations": [{"from": user, "value": "1 + 1?"}, {"from": assistant, "value": "2"}], **more}


def test_dataset_info_names_the_words_of_the_records_and_their_system_prompt():
    entry = export.dataset_info([chat("user", "assistant", system="Think.")], "train.json")[export.NAME]
    assert entry["columns"] == {"messages": "conversations", "system": "system"}
    assert entry["tags"] == {
        "role_tag": "from",
        "content_tag": "value",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "system_tag": "system",
    }
    plain = export.dataset_info([chat("human", "gpt")], "train.json")[export.NAME]
    assert plain["columns"] == {"messages": "conversations"}
    assert (plain["tags"]["user_tag"], plain["tags"]["assistant_tag"]) == ("human", "gpt")


@pytest.mark.parametrize(
    "records",
    [
        [chat("human", "gpt"), chat("user", "assistant")],
        [{"conversations": chat("human", "gpt")["conversations"] + chat("user", "gpt")["conversations"]}],
        [chat("human", "gpt"), {"instruction": "1 + 1?", "output": "2"}],
    ],
)
def test_mixed_records_are_refused(records):
    with pytest.raises(InputError, match="the selected records have mixed formats"):
        export.check_shapes(records)


def test_what_is_kept_apart_is_named():
    reply = {"role": "assistant", "content": "2", "reasoning": "one and one", "thinking": None}
    record = {"system": "Think.", "messages": [{"role": "user", "content": "1 + 1?"}, reply]}
    assert export.kept_apart(record) == {"system", "reasoning"}
    assert not export.kept_apart(chat("human", "gpt"))


AGENT: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "reasoning": "I add.", "tool_calls": [{"id": "c", "name": "add", "arguments": {"a": 1}}]},
        {"role": "tool", "content": "2", "tool_call_id": "c"},
        {"role": "assistant", "content": "2"},
    ],
    "tools": [{"name": "add"}],
}


def test_what_is_written_as_messages_is_what_was_read():
    (t,) = parse([("record", AGENT)], "teacher").trajectories
    written = export.as_messages(t)
    assert written["tools"] == [{"type": "function", "function": {"name": "add"}}]
    assert written["messages"][1] == {
        "role": "assistant",
        "content": "<think>\nI add.\n</think>\n\n",
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}],
    }
    (again,) = parse([("record", written)], "teacher").trajectories
    assert export.as_messages(again) == written
    assert [export.suffix_for([t], suffix) for suffix in (".parquet", ".json")] == [".jsonl", ".json"]
    assert export.suffix_for([replace(t, messages=t.messages[:1], tools=())], ".parquet") == ".parquet"


def test_dataset_info_of_agents_and_of_questions_with_answers():
    entry = export.dataset_info([AGENT], "train.json")[export.NAME]
    assert entry["formatting"] == "openai" and entry["columns"] == {"messages": "messages", "tools": "tools"}
    assert entry["tags"]["observation_tag"] == "tool" and entry["tags"]["function_tag"] == "function_call"
    turns = [("human", "?"), ("function_call", "{}"), ("observation", "2"), ("gpt", "2")]
    entry = export.dataset_info([{"conversations": [{"from": f, "value": v} for f, v in turns]}], "t.json")[export.NAME]
    assert entry["formatting"] == "sharegpt"
    assert (entry["tags"]["function_tag"], entry["tags"]["observation_tag"]) == ("function_call", "observation")
    answers = {"problem": "1 + 1?", "solution": "2", "system": "Think."}
    columns = {"prompt": "problem", "response": "solution", "system": "system"}
    assert export.dataset_info([answers], "t.json")[export.NAME]["columns"] == columns
    assert export.dataset_info([{"prompt": AGENT["messages"][:1], "completion": AGENT["messages"][3:]}], "t.json") == {}
    with pytest.raises(
        InputError, match="are trajectories of agents, which no trainer takes as they are: --format messages"
    ):
        export.check_shapes([{"agent": {}, "steps": [{"source": "user", "message": "?"}]}])
