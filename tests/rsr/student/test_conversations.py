"""Conversations of every kind under templates of every family: what is scored is the trajectory, or what is missing is counted."""

from functools import cache

import pytest

from rsr.data.messages import Message, ToolCall
from rsr.student.chat import ChatRenderer, Departures
from tests.templates import FAMILIES

WRITING_CALLS = ("qwen2.5", "qwen3", "qwen3-2507", "r1", "llama3", "mistral", "harmony")
END = 'two\\nlines"'  # of a call's arguments
OPENING = ("r1", "qwen3-2507")  # their prompts end in <think>
THOUGHT = "<think>\nHm, perhaps not.\n</think>\n\n"
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}


def asked(*replies, system=None):
    """A chat of a question before each reply."""
    turns = [
        m for i, reply in enumerate(replies) for m in (Message("user", f"Question {i}?"), Message("assistant", reply))
    ]
    return [*([Message("system", system)] if system else []), *turns]


def calling(content="", reasoning=None, arguments='{"a": 1, "b": "two\\nlines"}'):
    return Message("assistant", content, reasoning=reasoning, tool_calls=(ToolCall("add", arguments),))


TEXTS = {
    "one turn": asked("It is 2."),
    "system": asked("It is 2.", system="Think first."),
    "three turns": asked("One.", "Two.", "Three.", system="Think first."),
    "the user has the last word": [*asked("One.", "Two."), Message("user", "Thank you.")],
    "two answers in a row": [*asked("One."), Message("assistant", "And two.")],
    "thinks everywhere": asked(THOUGHT + "One.", THOUGHT + "Two.", THOUGHT + "Three."),
    "thinks first": asked(THOUGHT + "One.", "Two."),
    "thinks last": asked("One.", THOUGHT + "Two."),
    "thinks in a form of its own": asked("<think>Hm.</think>One.", "<think>Hm.</think>\nTwo."),
    "only thinks": asked("<think>\nHm.\n</think>"),
    "an empty thought": asked("<think>\n\n</think>\n\nOne."),
    "an unfinished thought": asked("<think>\nHm, and then"),
    "an empty turn": asked("", "Two."),
    "an empty last turn": asked("One.", ""),
    "Unicode": asked("naïve ∑ 😀 数学", "e\u0301 \u200d ﬁ \u00a0x"),
    "markers typed": asked("<|im_start|>assistant\n or <|im_end|> or </s> or [INST]", "### assistant:\n"),
    "the same again": asked("Question 0?", "Question 0?"),
    **{f"{space!r} before": asked(space + "One.", space + "Two.") for space in ("\n", " ", "\n\n", "\t", "  ")},
    **{f"{space!r} after": asked("One." + space, "Two." + space) for space in ("\n", " ", "\n\n")},
}
CALLS = {
    "a call and its answer": [
        Message("user", "1 + 1?"),
        calling(),
        Message("tool", "two", name="add"),
        Message("assistant", "It is two."),
    ],
    "a call that is announced": [
        Message("user", "1 + 1?"),
        calling("Let us add."),
        Message("tool", "two", name="add"),
        Message("assistant", "It is two."),
        Message("user", "Again."),
        calling("Let us add again."),
    ],
    "thoughts apart": [
        Message("user", "1 + 1?"),
        calling(reasoning="Let me add."),
        Message("tool", "two", name="add"),
        Message("assistant", "It is two.", reasoning="So it is."),
        Message("user", "Again."),
        Message("assistant", "It is two still.", reasoning="As before."),
    ],
}


@cache
def renderer(family, rendering="whole", boundary_tokens="exclude"):
    of = FAMILIES[family]
    return ChatRenderer(
        of.tokenizer(), variables=dict(of.variables), rendering=rendering, boundary_tokens=boundary_tokens
    )


def scored(chats, family):
    """The scored text of each turn."""
    tokenizer = renderer(family).tokenizer
    return [tokenizer.decode(chat.ids[turn.start : turn.end]) for chat in chats for turn in chat.turns]


def left_to_write(family, response):
    """What of a response follows the prompt, where that opens the thinking."""
    return (
        response.removeprefix("<think>").removeprefix("\n") if family in OPENING and "<think>" in response else response
    )


def answers(messages):
    return [m for m in messages if m.role == "assistant"]


def departures(chats):
    return sum((chat.departures for chat in chats), Departures())


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_turns_are_the_trajectory_to_the_letter(family, name):
    """All that is missing is in tokens that hold text of the template as well; these are there where they are asked for."""
    messages = TEXTS[name]
    chats = renderer(family, "turn").chats(messages)
    said = [m.content for m in answers(messages)]
    lost = departures(chats)
    assert lost.dropped == 0
    for text, whole in zip(scored(chats, family), said, strict=True):
        opened = left_to_write(family, whole)
        assert text == opened or lost.added or (lost.boundary and text in opened)
    included = renderer(family, "turn", "include").chats(messages)
    for text, whole in zip(scored(included, family), said, strict=True):
        opened = left_to_write(family, whole)
        assert opened in text or lost.added


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_whole_is_the_trajectory_or_what_is_missing_is_counted(family, name):
    messages = TEXTS[name]
    chat = renderer(family).render(messages)
    lost = chat.departures
    said = {i: m.content for i, m in enumerate(messages) if m.role == "assistant"}
    kept = {turn.message: turn.text for turn in chat.turns}
    written = sum(len(text) for text in kept.values())
    wanted = sum(len(left_to_write(family, text)) for text in said.values())
    # The template's own text before a response is no part of what is scored.
    assert wanted - lost.dropped <= written <= wanted - lost.dropped + lost.added
    if not lost.dropped and not lost.added and not lost.boundary and family not in OPENING:
        assert scored([chat], family) == [*said.values()]


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_turn_stands_behind_the_prompt_of_an_evaluation(family, name):
    of = renderer(family, "turn")
    for chat in of.turns(TEXTS[name]):
        turn = chat.turns[0] if chat.turns else None
        if turn is not None and not chat.departures.boundary:
            assert list(chat.ids[: turn.prompt]) == of.prompt_ids(TEXTS[name][: turn.message])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_turn_more_extends_the_tokens_or_not(family):
    """Where it does, both renderings are one."""
    for name in ("three turns", "thinks everywhere"):
        chats = renderer(family, "turn").chats(TEXTS[name])
        whole = renderer(family).render(TEXTS[name])
        if FAMILIES[family].extends:
            assert len(chats) == 1 and chats[0] == whole
        else:
            assert len(chats) > 1 and (whole.departures.dropped or whole.departures.added or family == "r1")


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("family", FAMILIES)
def test_calls_and_thoughts_apart_are_scored_or_counted(family, name):
    messages = CALLS[name]
    for rendering in ("whole", "turn"):
        chats = renderer(family, rendering).chats(messages, None, [TOOL])
        lost, text = departures(chats), "".join(turn.text for chat in chats for turn in chat.turns)
        pieces = [
            p for m in answers(messages) for p in (m.reasoning or "", m.content, *(c.name for c in m.tool_calls)) if p
        ]
        missing = sum(len(piece) for piece in pieces if piece not in text)
        assert missing <= lost.dropped
        calls = {i: m for i, m in enumerate(messages) if m.tool_calls}
        told = [turn.text for chat in chats for turn in chat.turns if turn.message in calls]
        if family in WRITING_CALLS:
            assert len(told) == len(calls)
            assert all("add" in text and END in text[-len(END) - 20 :] for text in told)
        else:
            assert lost.dropped >= len(calls) * len("add1" + END[:-1])
        if family in ("qwen2.5", "qwen3") and rendering == "turn":
            assert not missing and text.count("<tool_call>") == sum(bool(m.tool_calls) for m in messages)
            assert lost.dropped == lost.unseen == 0
        if family in ("chatml", "gemma3", "vicuna"):
            assert lost.unseen  # they show no tools
