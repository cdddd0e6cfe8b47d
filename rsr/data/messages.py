"""What a chat consists of: messages, with their reasoning and their calls of tools."""

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from rsr.data.images import Image

Role = Literal["system", "developer", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "developer", "user", "assistant", "tool")
# Who asks: what these say is the prompt. What a tool answers depends on the teacher's calls.
ASKING: tuple[Role, ...] = ("system", "developer", "user")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object none of whose names is there twice: of two values one would be lost."""
    held = dict(pairs)
    if len(held) < len(pairs):
        raise ValueError("a name is there twice")
    return held


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool by an assistant.

    Attributes:
        arguments: JSON text of an object; a text that is no such object, as models write at times, stays as it is.
        id: by which the answer names its call.
    """

    name: str
    arguments: str = "{}"
    id: str | None = None

    @property
    def value(self) -> Any:
        """Its arguments as chat templates want them: an object, or else the text as it is."""
        try:
            parsed = json.loads(self.arguments, object_pairs_hook=_without_repeats)
        except (ValueError, RecursionError):
            return self.arguments
        return parsed if isinstance(parsed, dict) else self.arguments

    def as_dict(self) -> dict[str, Any]:
        """As chat templates, trainers and API exports hold it."""
        call = {"type": "function", "function": {"name": self.name, "arguments": self.value}}
        return call if self.id is None else {"id": self.id, **call}


@dataclass(frozen=True)
class Message:
    """One message of a chat.

    Attributes:
        content: "" where it only thinks or calls.
        reasoning: of an assistant, where it is kept apart from the content.
        tool_calls: of an assistant.
        name: of the tool that answers.
        tool_call_id: the call that a tool answers.
        images: those in its content, in order; not of an assistant.
    """

    role: Role
    content: str
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    name: str | None = None
    tool_call_id: str | None = None
    images: tuple[Image, ...] = ()

    @property
    def spoken(self) -> list[str]:
        """Its content in parts, between which its images stand."""
        edges = [0, *(image.at for image in self.images), len(self.content)]
        return [self.content[start:end] for start, end in pairwise(edges)]

    @property
    def text(self) -> str:
        """All that it says, in no template's form: its reasoning in tags, its content, its calls as JSON lines."""
        thought = "" if self.reasoning is None else f"<think>\n{self.reasoning}\n</think>\n\n"
        calls = [json.dumps({"name": c.name, "arguments": c.value}, ensure_ascii=False) for c in self.tool_calls]
        return thought + "\n".join([*([self.content] if self.content or not calls else []), *calls])

    def as_dict(self) -> dict[str, Any]:
        """As chat templates, trainers and API exports hold it: "reasoning_content", "tool_calls" and the like where it has them."""
        held = {
            "reasoning_content": self.reasoning,
            "tool_calls": [call.as_dict() for call in self.tool_calls] or None,
            "name": self.name,
            "tool_call_id": self.tool_call_id,
        }
        content = self._parts() if self.images else self.content
        return {"role": self.role, "content": content} | {k: v for k, v in held.items() if v is not None}

    def _parts(self) -> list[dict[str, str]]:
        """Its content as the templates of students that see want it; the images themselves are not in a text."""
        first, *others = self.spoken
        parts = [{"type": "text", "text": first}]
        for text in others:
            parts += [{"type": "image"}, {"type": "text", "text": text}]
        return [part for part in parts if part.get("text") != ""]

    def row(self) -> list[Any]:
        """What its digest is made of; a message of role and content alone is these two."""
        held = self.as_dict()
        beside: dict[str, Any] = {k: v for k, v in held.items() if k not in ("role", "content")}
        if self.images:
            beside["images"] = [[image.at, image.sha256] for image in self.images]
        return [self.role, self.content, *([beside] if beside else [])]
