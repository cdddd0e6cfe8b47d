"""A student's chat template: chats as text."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from rsr.data.messages import Message
from rsr.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PROBE = "\ue000"  # a private-use character: in no template
PINNED_CLOCK = "{%- macro strftime_now(format) -%}{{ pinned_date }}{%- endmacro -%}"
THOUGHTS = ("reasoning_content", "thinking", "reasoning")  # names by which templates ask for a message's reasoning
ANOTHER = "take another template (template=chatml, llama3 or a .jinja file of your own)"


class ChatTemplate:
    """The chat template of one tokenizer.

    Args:
        template: a Jinja template; None takes the tokenizer's own. A packaged one is begun as the tokenizer begins a text.
        variables: passed to the template, such as {"date_string": "26 Jul 2024"} for Llama 3; "strftime_now" is a text that
            stands for today's date, in whatever format a template asks for it.

    Attributes:
        named: as a tokenizer holds it: the template, or several by name.
        source: the template.
        tool_use: the template of chats with tools.

    Raises:
        InputError: there is no template.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerFast", template: str | None, variables: Mapping[str, Any] | None
    ) -> None:
        self.tokenizer = tokenizer
        named = _own_templates(tokenizer) if template is None else {"default": _begun(template, tokenizer)}
        self.named = named["default"] if [*named] == ["default"] else named
        self.source = named["default"]
        self.tool_use = named.get("tool_use", self.source)
        self.variables = dict(variables or {})

    def identity(self) -> dict[str, Any]:
        """Hash of the template, its variables, and the special tokens that it may write."""
        of_tools = {} if self.tool_use == self.source else {"tool_use_sha256": _sha256(self.tool_use)}
        return {
            "special_tokens": {name: str(token) for name, token in self.tokenizer.special_tokens_map.items()},
            "template_sha256": _sha256(self.source),
            "template_variables": self.variables,
            **of_tools,
        }

    def text(self, messages: Sequence[Message], tools: Sequence[Any] = (), *, generation_prompt: bool = False) -> str:
        """The chat as text.

        Args:
            tools: schemas of the tools that the assistant may call.

        Raises:
            InputError: the template refuses the messages, or writes today's date.
        """
        return self._apply([self._as_dict(message) for message in messages], tools, generation_prompt)

    def spelling(self, message: Message) -> str:
        """A message's reasoning and content as a student that thinks in tags writes them."""
        return message.content if message.reasoning is None else _thinking(message.reasoning, message.content)

    def _as_dict(self, message: Message) -> dict[str, Any]:
        held = message.as_dict()
        if message.reasoning is None:
            return held
        held.pop("reasoning_content")
        if self.thought is None:
            return held | {"content": self.spelling(message)}
        return held | {self.thought: message.reasoning}

    @cached_property
    def thought(self) -> str | None:
        """The name by which the template asks for a message's reasoning; None where it knows of none."""
        for name in THOUGHTS:
            thinking = {"role": "assistant", "content": "?", name: PROBE}
            if PROBE in self._apply([{"role": "user", "content": "?"}, thinking], (), False):
                return name
        return None

    def _apply(self, messages: list[dict[str, Any]], tools: Sequence[Any], generation_prompt: bool) -> str:
        source = self.tool_use if tools else self.source
        # The clock is hidden, so that a template that asks for it fails; a pinned date stands in its place.
        pinned = self.variables.get("strftime_now")
        try:
            text = self.tokenizer.apply_chat_template(
                messages,
                tools=list(tools) or None,
                chat_template=source if pinned is None else PINNED_CLOCK + source,
                add_generation_prompt=generation_prompt,
                tokenize=False,
                **self.variables | {"strftime_now": None, "pinned_date": pinned},
            )
        except (jinja2.TemplateError, ValueError) as error:
            raise InputError(
                f"the chat template refuses the messages: {_line(error)}: {ANOTHER}, or leave such chats out (on-error skip)"
            ) from error
        except Exception as error:  # a template is a program: whatever it raises
            if isinstance(error, TypeError) and "strftime_now" in source and pinned is None:
                raise InputError(
                    "the chat template writes today's date, so that scores would change from day to day: pin it, as the "
                    "template would write it, with the template variable strftime_now (such as '26 Jul 2024')"
                ) from error
            raise InputError(f"the chat template fails: {type(error).__name__}: {_line(error)}: {ANOTHER}") from error
        return str(text)

    def prose(self) -> list[str]:
        """Text of the template's own, such as a default system prompt, in a chat without system message."""
        text = self.text([Message("user", PROBE), Message("assistant", PROBE)])
        # Role names and markers are single words; three words in a row are prose.
        return [match.group().strip() for match in re.finditer(r"[^\n<>|]*\w+(?:[ ,]+\w+){2,}[^\n<>|]*", text)]


def _thinking(thought: str, content: str) -> str:
    return f"<think>\n{thought}\n</think>\n\n{content}"


def probe_of(message: Message, *, calls: bool = False) -> Message:
    """The same message with `PROBE` in the place of what it says, in thought and aloud.

    Args:
        calls: in the place of the names of the tools that it calls, too.
    """
    thinks_aloud = "</think>" in message.content
    return replace(
        message,
        content=_thinking(PROBE, PROBE) if thinks_aloud else PROBE,
        reasoning=None if message.reasoning is None else PROBE,
        tool_calls=tuple(replace(call, name=PROBE) for call in message.tool_calls) if calls else message.tool_calls,
    )


def load_template(name: str) -> str:
    """A template by name ("chatml", "llama3") or from a .jinja file.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    packaged = _packaged()
    if name in packaged:
        return packaged[name]
    path = Path(name)
    if not path.is_file():
        raise InputError(f"no chat template {name!r}: it is a .jinja file or one of {', '.join(sorted(packaged))}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start}): write the template in UTF-8") from error


def begins_texts(tokenizer: "PreTrainedTokenizerFast") -> bool:
    """Whether a tokenizer puts its token of beginning before any text."""
    return tokenizer.bos_token_id is not None and tokenizer("?")["input_ids"][0] == tokenizer.bos_token_id


def _own_templates(tokenizer: "PreTrainedTokenizerFast") -> dict[str, str]:
    """The tokenizer's templates by name; as transformers does, "tool_use" is for chats with tools, "default" for others."""
    own: Any = tokenizer.chat_template
    if isinstance(own, str):
        return {"default": own}
    if not own:
        raise InputError(
            "the tokenizer has no chat template: choose one, template=chatml, template=llama3 or a .jinja file"
        )
    if "default" not in own:
        raise InputError(
            f"the tokenizer has templates named {', '.join(own)}, and none named default: write the one that is meant into a "
            ".jinja file, and choose that"
        )
    return dict(own)


def _packaged() -> dict[str, str]:
    folder = files("rsr") / "student" / "templates"
    templates = (path for path in folder.iterdir() if path.name.endswith(".jinja"))
    return {path.name.removesuffix(".jinja"): path.read_text(encoding="utf-8") for path in templates}


def _begun(template: str, tokenizer: "PreTrainedTokenizerFast") -> str:
    """A packaged template with the token that a text begins with; any other template is whole."""
    lacks = template in _packaged().values() and begins_texts(tokenizer)
    return "{{- bos_token -}}" + template if lacks else template


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
