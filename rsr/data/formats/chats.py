"""The chat of a record, in whatever format it is."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rsr.data.formats import answers, atif, turns
from rsr.data.formats.values import as_json, as_list, is_held, kind, literal, one_of, text
from rsr.data.messages import Message
from rsr.errors import InputError

Shape = Literal["messages", "conversations", "steps", "alpaca", "prompt", "problem"]


@dataclass(frozen=True)
class Format:
    """How a record holds its chat.

    Attributes:
        needs: the fields that it is known by.
        turns: the turns of a record.
        reads: fields that it reads besides.
    """

    needs: tuple[str, ...]
    turns: Callable[[Mapping[str, Any]], list[Any]]
    reads: tuple[str, ...] = ()


FORMATS: dict[Shape, Format] = {  # the first that fits
    "messages": Format(("messages",), lambda record: as_list(record["messages"], "'messages'")),
    "conversations": Format(("conversations",), lambda record: as_list(record["conversations"], "'conversations'")),
    "steps": Format(("steps",), atif.turns),
    "alpaca": Format(("instruction", "output"), answers.alpaca, ("input", "history", *turns.REASONING)),
    "prompt": Format(("prompt", "completion"), answers.prompt_and_completion, turns.REASONING),
    "problem": Format(("problem", "solution"), answers.problem_and_solution, turns.REASONING),
}
# Usual names of a question and its answer, to say how they may be read.
ASKED = ("problem", "question", "prompt", "query", "instruction", "input")
SAID = ("solution", "response", "completion", "output", "generation", "model_answer")
SYSTEM, TOOLS = ("system", "system_prompt"), ("tools", "functions")
# What a student would have to see or be trained on otherwise, and does not.
NOT_READ = turns.NOT_READ | {"chat_template_kwargs", "history"}
# What may be of a chat, and is counted where the record's format does not read it.
COUNTED = frozenset(
    (
        *(name for known in FORMATS.values() for name in (*known.needs, *known.reads)),
        *(
            "chosen",
            "rejected",
            "tool_choice",
            "parallel_tool_calls",
            "subagent_trajectories",
            "continued_trajectory_ref",
        ),
    )
)


@dataclass(frozen=True)
class Chat:
    """What a record holds.

    Attributes:
        tools: see `rsr.data.trajectories.Trajectory`.
        unread: fields of its messages, and of itself, that hold something of a chat and are not read, with their number.
    """

    messages: list[Message]
    tools: tuple[str, ...]
    unread: Counter[str]


def _fields_for(record: Mapping[str, Any]) -> str:
    """How the fields of a record that is not known may be named."""
    asked, said = (next((name for name in names if name in record), None) for names in (ASKED, SAID))
    if asked and said:
        return f"--field problem={asked} --field solution={said} reads these"
    return "--field messages=NAME names a field"


def shape(record: Mapping[str, Any]) -> Shape:
    """The format of a record.

    Raises:
        InputError: it is none of the known ones, or holds two chats.
    """
    fitting = [name for name, known in FORMATS.items() if all(record.get(need) is not None for need in known.needs)]
    if "steps" in fitting and not atif.is_trajectory(record):
        fitting.remove("steps")
    if not fitting:
        known = ", ".join(" with ".join(map(repr, form.needs)) for form in FORMATS.values())
        raise InputError(f"no {known}; it has {', '.join(map(str, record)) or 'nothing'} ({_fields_for(record)})")
    chats = [name for name in fitting if name in ("messages", "conversations", "steps") and is_held(record[name])]
    if len(chats) > 1:
        raise InputError(f"the record holds {' and '.join(map(repr, chats))}: remove the one that is not meant")
    return next(iter(chats), fitting[0])


def chat(record: Mapping[str, Any]) -> Chat:
    """The chat of a record.

    Raises:
        InputError: it has none, or one that is not read whole.
    """
    form = FORMATS[shape(record)]
    for name in record:
        if name in NOT_READ and name not in form.reads and is_held(record[name]):
            raise InputError(f"the record has {name!r}, which is not read: leave such records out, or remove the field")
    of_messages: Counter[str] = Counter()
    messages = [turns.message(turn, i, of_messages) for i, turn in enumerate(form.turns(record))]
    unread = Counter({f"{name} of messages": number for name, number in of_messages.items()})
    for name in record:
        if name in COUNTED and name not in (*form.needs, *form.reads) and is_held(record[name]):
            unread[f"{name} of records"] += 1
    return Chat(_with_system(record, messages), _tools(record), unread)


def _with_system(record: Mapping[str, Any], messages: list[Message]) -> list[Message]:
    system = text(one_of(record, SYSTEM, "the record") or "", "'system'")
    if not system or messages[0] == Message("system", system):
        return messages
    if messages[0].role == "system":
        raise InputError("'system' and the system message of the chat differ: keep one of them")
    return [Message("system", system), *messages]


def _tools(record: Mapping[str, Any]) -> tuple[str, ...]:
    held = {name: record[name] for name in TOOLS if is_held(record.get(name))}
    if is_held(of_agent := atif.tools(record)):
        held["the agent's tool_definitions"] = of_agent
    given = one_of(held, [*held], "the record")
    return () if given is None else tuple(_tool(tool) for tool in as_list(given, "'tools'"))


def _tool(tool: Any) -> str:
    """A tool as chat templates want it: those of older exports lack its type."""
    if isinstance(tool, str):
        tool = literal(tool, "a tool")
    function = tool.get("function", tool) if isinstance(tool, Mapping) else tool
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InputError(f"a tool is an object with a name, not {kind(function)} without one")
    bare = {name: value for name, value in tool.items() if name != "type"}
    return as_json(tool if "function" in tool else {"type": "function", "function": bare}, "a tool")
