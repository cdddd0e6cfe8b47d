"""What is rendered is parsed back by the field's parser: transformers' `parse_response`, on the templates that TRL ships."""

import json
import re
from functools import cache

import pytest
from trl import chat_template_utils as trl

from rsr.student.chat import ChatRenderer
from tests.rsr.student.test_conversations import CALLS, TEXTS, TOOL, answers
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
