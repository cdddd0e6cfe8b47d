"""Turns of chats, as API exports, ShareGPT and trainers hold them, to messages."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from rsr.data import images
from rsr.data.formats.values import as_json, as_list, check_encodable, encodable, is_held, kind, literal, one_of, text
from rsr.data.images import Image
from rsr.data.messages import Message, Role, ToolCall
from rsr.errors import InputError

SPEAKERS: dict[str, Role] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "function_response": "tool",
    "ipython": "tool",
}
CALLERS = ("function_call", "tool_call")  # turns of ShareGPT that hold the assistant's calls as JSON
SPEAKER, CONTENT = ("role", "from"), ("content", "value")
REASONING = ("reasoning_content", "reasoning", "thinking")
THOUGHT = "content (thinking)"  # its parts that think
REASONING_APART = ("reasoning_details", "thinking_blocks")  # the same again, in a provider's own form
# What a student would have to see or be trained on otherwise, and does not.
NOT_READ = frozenset(("refusal", "images", "image", "videos", "video", "audios", "audio", "documents"))
READ = frozenset((*SPEAKER, *CONTENT, *REASONING, "tool_calls", "function_call"))
READ_OF_TOOL = READ | {"name", "tool_call_id"}
CALL = ("id", "type", "index", "function", "name", "arguments", "parameters")


def message(turn: Any, index: int, unread: Counter[str]) -> Message:
    """The message of a turn.

    Args:
        unread: counts the fields that hold something and are not read.

    Raises:
        InputError: it is no turn, or holds what changes a chat and is not read.
    """
    if not isinstance(turn, Mapping):
        raise InputError(f"message {index} is an object with 'role' and 'content', not {kind(turn)}")
    where = f"message {index}"
    for name in turn:
        if name in NOT_READ and is_held(turn[name]):
            raise InputError(f"{where} has {name!r}, which is not read: leave such records out, or remove the field")
    turn, role = _speaker(turn, where)
    content, thought, seen = _content(turn, role, where)
    reasoning, content = _reasoning(turn, thought, content, where)
    calls = _calls(turn, where, unread)
    if role != "assistant" and (reasoning or calls):
        raise InputError(f"{where} is the {role}'s and has {'reasoning' if reasoning else 'calls of tools'}")
    read = READ_OF_TOOL if role == "tool" else READ
    for name in turn:
        if name not in read and is_held(turn[name]):
            unread[name] += 1
    if role != "tool":
        return Message(role, content, reasoning, calls, images=seen)
    name, call = (turn.get(field) for field in ("name", "tool_call_id"))
    return Message(
        role,
        content,
        name=None if name is None else text(name, f"'name' of {where}"),
        tool_call_id=None if call is None else text(call, f"'tool_call_id' of {where}"),
        images=seen,
    )


def _speaker(turn: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], Role]:
    """A turn and its role. A turn of ShareGPT that is a call becomes the assistant's, with that call."""
    speaker = one_of(turn, SPEAKER, where)
    if speaker in CALLERS or (speaker == "function" and "from" in turn and _is_call(turn.get("value"))):
        given = one_of(turn, CONTENT, where)
        calls = literal(given, f"the call of {where}") if isinstance(given, str) else given
        rest = {name: value for name, value in turn.items() if name not in (*SPEAKER, *CONTENT)}
        return {**rest, "tool_calls": calls if isinstance(calls, list) else [calls]}, "assistant"
    if not isinstance(speaker, str) or speaker not in SPEAKERS:
        raise InputError(f"{where} has the role {speaker!r}; known are {', '.join([*SPEAKERS, *CALLERS])}")
    return turn, SPEAKERS[speaker]


def _is_call(value: Any) -> bool:
    """Whether a turn from "function" calls it: others hold there what it answered."""
    try:
        call = json.loads(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return isinstance(call, dict) and {"name", "arguments"} <= {*call}


def _content(turn: Mapping[str, Any], role: Role, where: str) -> tuple[str, str, tuple[Image, ...]]:
    """What is said, what is thought, and what is shown: content may be a list of parts."""
    content = one_of(turn, CONTENT, where)
    if content is None and (role == "assistant" or any(turn.get(name) in ("", []) for name in CONTENT)):
        return "", "", ()
    if not isinstance(content, list):
        return text(content, f"the content of {where}"), "", ()
    spoken: list[str] = []
    thoughts: list[str] = []
    seen: list[Image] = []
    for part in content:
        if isinstance(part, Mapping) and part.get("type") in images.PARTS:
            if role == "assistant":
                raise InputError(
                    f"{where} is the assistant's and has an image, which no student writes: leave such records out"
                )
            seen.append(images.image(part, sum(map(len, spoken)), f"the image {len(seen)} of {where}"))
            continue
        said, thought = _part(part, where)
        if thought and spoken:
            raise InputError(f"the content of {where} thinks after it has spoken, which is not read")
        spoken += [said] * bool(said)
        thoughts += [thought] * bool(thought)
    return "".join(spoken), "".join(thoughts), tuple(seen)


def _part(part: Any, where: str) -> tuple[str, str]:
    """What a part of a content says and thinks."""
    if not isinstance(part, Mapping):
        raise InputError(f"a part of the content of {where} is an object with 'type' and 'text', not {kind(part)}")
    form = part.get("type") or "text"
    what = f"a part of the content of {where}"
    if form in ("text", "input_text", "output_text") and isinstance(part.get("text"), str):
        return encodable(part["text"], what), ""
    if form in ("thinking", "reasoning"):
        thought = one_of(part, ("thinking", "reasoning", "text"), what)
        if isinstance(thought, list):
            return "", "".join(_part(inner, where)[0] for inner in thought)
        return "", text(thought, what)
    raise InputError(f"the content of {where} has a part of type {form!r}, which is not read: leave such records out")


def _reasoning(turn: Mapping[str, Any], thought: str, content: str, where: str) -> tuple[str | None, str]:
    """The reasoning that is kept apart, and the content without it."""
    given = one_of({**turn, THOUGHT: thought} if thought else turn, (THOUGHT, *REASONING), where)
    if given is None:
        apart = [name for name in REASONING_APART if is_held(turn.get(name))]
        if apart and "<think>" not in content:
            raise InputError(f"{where} has {apart[0]!r} and no 'reasoning': write its text there")
        return None, content
    reasoning = text(given, f"the reasoning of {where}")
    if content.startswith("<think>"):
        tagged, closed, rest = content.removeprefix("<think>").partition("</think>")
        if not closed or tagged.strip() != reasoning.strip():
            raise InputError(f"the reasoning of {where} and that in the tags of its content differ: keep one of them")
        content = rest.lstrip("\n")
    return reasoning, content


def _calls(turn: Mapping[str, Any], where: str, unread: Counter[str]) -> tuple[ToolCall, ...]:
    listed = as_list(turn["tool_calls"], f"'tool_calls' of {where}") if is_held(turn.get("tool_calls")) else []
    calls = tuple(_call(call, where, unread) for call in listed)
    if not is_held(turn.get("function_call")):
        return calls
    legacy = (_call(turn["function_call"], where, unread),)
    if calls and [(c.name, c.value) for c in calls] != [(c.name, c.value) for c in legacy]:
        raise InputError(f"'function_call' and 'tool_calls' of {where} differ: keep one of them")
    return calls or legacy


def _call(call: Any, where: str, unread: Counter[str]) -> ToolCall:
    what = f"a call of {where}"
    function = call.get("function", call) if isinstance(call, Mapping) else call
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        raise InputError(f"{what} is an object with 'name' and 'arguments', not {kind(function)} without them")
    if call.get("type") not in (None, "function"):
        raise InputError(f"{what} is of type {call['type']!r}, which is not read: leave such records out")
    check_encodable(dict(call), what)
    held = {**function, **call}
    unread.update(f"tool_calls.{name}" for name, value in held.items() if name not in CALL and is_held(value))
    arguments = one_of(function, ("arguments", "parameters"), what)
    if not isinstance(arguments, str):
        if arguments is not None and not isinstance(arguments, Mapping):
            raise InputError(f"the arguments of {what} are an object or its JSON text, not {kind(arguments)}")
        arguments = as_json(arguments or {}, f"the arguments of {what}")
    identity = call.get("id")
    return ToolCall(function["name"], arguments, None if identity is None else str(identity))
