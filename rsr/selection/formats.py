"""What one record of a training set looks like, in the formats that trainers read."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from rsr.data import export
from rsr.data.trajectories import Trajectory
from rsr.errors import InputError

# The sources' records unchanged, or every trajectory as it was scored, in the words of TRL, ShareGPT or Alpaca.
Format = Literal["records", "messages", "prompt-completion", "sharegpt", "alpaca"]
FORMATS: tuple[Format, ...] = get_args(Format)
SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt"}  # ShareGPT's words for roles


def convert(trajectory: Trajectory, form: Format) -> dict[str, Any]:
    """A trajectory as a record of a format other than "records".

    Raises:
        InputError: the format has no place for a message of it.
    """
    given = export.as_messages(trajectory)
    messages = given.pop("messages")
    if form == "messages":
        return given | {"messages": messages}
    if form == "prompt-completion":
        *prompt, completion = messages
        if [message["role"] for message in messages].index("assistant") < len(prompt):
            raise InputError(
                f"trajectory {trajectory.id}: prompt-completion teaches the last message alone, and not the only response: "
                "write messages (--format messages)"
            )
        return given | {"prompt": prompt, "completion": [completion]}
    if any({*message} - {"role", "content"} or message["role"] not in SPEAKERS for message in messages):
        raise InputError(
            f"trajectory {trajectory.id}: {form} has no place for tools: write messages (--format messages)"
        )
    if form == "sharegpt":
        return given | {"conversations": [{"from": SPEAKERS[m["role"]], "value": m["content"]} for m in messages]}
    return given | _alpaca(trajectory.id, messages)


def _alpaca(identity: str, messages: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """The last exchange, and those before it as history; LLaMA-Factory learns the responses of both."""
    system = [m["content"] for m in messages if m["role"] == "system"]
    turns = [m for m in messages if m["role"] != "system"]
    asked, answered = turns[::2], turns[1::2]
    in_turn = [m["role"] for m in turns] == ["user", "assistant"] * len(answered)
    if not in_turn or len(system) > 1 or (system and messages[0]["role"] != "system"):
        raise InputError(
            f"trajectory {identity}: alpaca wants user and assistant in turn: write messages (--format messages)"
        )
    *history, (question, answer) = [(a["content"], b["content"]) for a, b in zip(asked, answered, strict=True)]
    record: dict[str, Any] = {"instruction": question, "input": "", "output": answer}
    # Every record has every column, since readers of tables take the columns of the first.
    return record | {"system": "".join(system), "history": [list(pair) for pair in history]}
