"""What LLaMA-Factory is told of a training set, and what it could not read."""

import pytest

from rsr.data import export
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
