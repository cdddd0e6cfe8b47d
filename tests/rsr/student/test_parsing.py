"""What is rendered is parsed back by the field's parser: transformers' `parse_response`, on the templates that TRL ships.

Held: the words of thought and content, and the calls, are those of the message wherever nothing of it is counted as dropped. White space
at the ends is the parser's to strip, so that it is not compared; `test_conversations.py` compares it, by positions.
"""

import re
from functools import cache

import pytest
from trl import chat_template_utils as trl

from rsr.data.messages import Message
from rsr.student.chat import ChatRenderer
from tests.rsr.student.test_conversations import CALLS, TEXTS, TOOL
from tests.templates import keeping_line_ends

FAMILIES = {
    "qwen2.5": trl.qwen2_5_chat_template,
    "qwen3": trl.qwen3_chat_template,
    "qwen3-2507": trl.qwen3_instruct_2507_chat_template,
    "llama3.2": trl.llama3_2_chat_template,
    "gpt-oss": trl.gptoss_chat_template,
    "r1": trl.deepseek_r1_distill_chat_template,
}
MARKER = re.compile(r"<[|｜][^<>'\"]+[|｜]>")
# What the parser takes otherwise: a marker that is typed ends a message, and a thought without an end goes on to the last token.
BEYOND_THE_PARSER = ("markers typed", "an unfinished thought")
# Qwen3 ends a thought without an answer in white space; R1's parser knows no tools; gpt-oss refuses a thought beside a call and an answer.
BEYOND_THE_TEMPLATE = {
    ("qwen3", "only thinks"),
    ("gpt-oss", "thoughts apart"),
    *(("r1", name) for name in CALLS),
}
PAIRS = [
    (family, name)
    for family in FAMILIES
    for name in (*TEXTS, *CALLS)
    if name not in BEYOND_THE_PARSER and (family, name) not in BEYOND_THE_TEMPLATE
]


@cache
def renderer(family):
    tokenizer = keeping_line_ends()
    tokenizer.add_special_tokens({"additional_special_tokens": sorted({*MARKER.findall(FAMILIES[family])})})
    tokenizer.chat_template = FAMILIES[family]
    trl.add_response_schema(tokenizer)
    return ChatRenderer(tokenizer, variables={"strftime_now": "26 Jul 2024"}, rendering="turn")


def parsed(family, chat, tools):
    """The message that the parser finds in what the student writes in a turn."""
    tokenizer = renderer(family).tokenizer
    written = chat.positions("response+eot")
    return tokenizer.parse_response(
        tokenizer.decode([chat.ids[at] for at in written]), prefix=tokenizer.decode(chat.ids[: written[0]]), tools=tools
    )


def words(*texts):
    """What is said, without white space and the tags of thinking."""
    return "".join(re.sub("</?think>", "", "".join(texts)).split())


@pytest.mark.parametrize(("family", "name"), PAIRS)
def test_parsing_undoes_rendering(family, name):
    messages, tools = (TEXTS | CALLS)[name], [TOOL] if name in CALLS else []
    for chat in renderer(family).turns(messages, None, tools):
        message = messages[chat.turns[0].message]
        found = parsed(family, chat, tools)
        calls = [(call["function"]["name"], call["function"]["arguments"]) for call in found.get("tool_calls", [])]
        assert calls == [(call.name, call.value) for call in message.tool_calls]
        thought, said = found.get("reasoning_content", found.get("thinking", "")), found.get("content", "")
        if not chat.departures.dropped:
            assert words(thought, said) == words(message.reasoning or "", message.content)
        if family.startswith("qwen"):
            apart = message.reasoning or message.content.rpartition("</think>")[0]
            assert words(thought) == words(apart) and not chat.departures.dropped


@pytest.mark.parametrize("space", ["\n", " ", "\n\n", "\t"])
def test_white_space_costs_no_header(space):
    """gpt-oss writes a channel between prompt and answer: it stays, whatever the answer begins with."""
    of = renderer("gpt-oss")
    for reply in (space + "One.", "One." + space):
        (chat,) = of.turns([*TEXTS["one turn"][:1], Message("assistant", reply)])
        turn = chat.turns[0]
        assert of.tokenizer.decode(chat.ids[turn.prompt : turn.start]) == "<|channel|>final<|message|>"
        assert turn.text == reply and chat.departures.dropped == 0
