"""The one chat renderer, for scoring, training and evaluation.

A chat is rendered with the student's chat template and tokenised once, as a whole. Where a response lies is known by
position: the text up to it is what the template gives for the messages before, with the generation prompt, which is also
what the student sees when it has to answer. Nothing is searched for, so that markers typed inside a message change
nothing, and a template that rewrites, trims or wraps a response is refused with the difference shown.
"""

import difflib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import jinja2

from rsr.data.trajectories import Message
from rsr.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Mask = Literal["response", "response+eot"]


@dataclass(frozen=True)
class Turn:
    """Token positions of one assistant turn: the response is [start, end), `eot` its end-of-turn token, if any.

    Attributes:
        message: index of its message in the chat.
        characters: of the message, where each token of the response starts.
    """

    start: int
    end: int
    eot: int | None
    message: int = field(default=-1, compare=False)
    characters: tuple[int, ...] = field(default=(), compare=False, repr=False)

    def cut(self, length: int) -> "Turn":
        """What is left of it in a chat of so many tokens."""
        end = min(self.end, length)
        return replace(self, end=end, characters=self.characters[: end - self.start])


@dataclass(frozen=True)
class RenderedChat:
    """A tokenised chat.

    Attributes:
        ids: token ids of the whole chat, after truncation.
        turns: assistant turns, after truncation; those cut away entirely are gone.
        length: number of tokens before truncation.
    """

    ids: tuple[int, ...]
    turns: tuple[Turn, ...]
    length: int

    @property
    def truncated(self) -> bool:
        return len(self.ids) < self.length

    def positions(self, mask: Mask = "response") -> list[int]:
        """Positions of the tokens under a mask: of the responses, with or without their end-of-turn tokens.

        Raises:
            InputError: the mask wants an end-of-turn token and the template writes none.
        """
        positions: list[int] = []
        for turn in self.turns:
            positions += range(turn.start, turn.end)
            if mask == "response+eot":
                if turn.eot is None:
                    raise InputError("the chat template ends a response without an end-of-turn token")
                if turn.eot < len(self.ids):
                    positions.append(turn.eot)
        return positions


class ChatRenderer:
    """Renders chats for one tokenizer and template.

    Args:
        tokenizer: a fast tokenizer (offsets are needed).
        template: a Jinja template; None takes the tokenizer's own. A packaged one is begun as the tokenizer begins a text.
        variables: passed to the template, such as {"date_string": "26 Jul 2024"} for Llama 3.

    Raises:
        InputError: there is no template, or the tokenizer is not a fast one.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerFast",
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        if not tokenizer.is_fast:
            raise InputError("the tokenizer gives no character offsets: a fast tokenizer is needed")
        own = tokenizer.chat_template
        if template is None and not isinstance(own, str):
            raise InputError(
                "the tokenizer has no chat template: choose one, template=chatml, template=llama3 or a .jinja file"
            )
        self.tokenizer = tokenizer
        self.template = str(own) if template is None else _begun(template, tokenizer)
        self.variables = dict(variables or {})
        # Ids that mark structure, as opposed to ordinary added words such as <think>.
        self._special = frozenset(tokenizer.all_special_ids)
        self._added = frozenset(tokenizer.added_tokens_decoder)

    def identity(self) -> dict[str, Any]:
        """What shapes the rendering: hash of the template, its variables, and the special tokens that it may write."""
        return {
            "special_tokens": {name: str(token) for name, token in self.tokenizer.special_tokens_map.items()},
            "template_sha256": hashlib.sha256(self.template.encode()).hexdigest(),
            "template_variables": self.variables,
        }

    def text(self, messages: Sequence[Message], *, generation_prompt: bool = False) -> str:
        """The chat as text.

        Raises:
            InputError: the template refuses the messages, or writes today's date.
        """
        try:
            text = self.tokenizer.apply_chat_template(
                [{"role": m.role, "content": m.content} for m in messages],
                chat_template=self.template,
                add_generation_prompt=generation_prompt,
                tokenize=False,
                strftime_now=None,  # hides the clock, so that a template that asks for it fails
                **self.variables,
            )
        except TypeError as error:
            if "strftime_now" not in self.template:
                raise InputError(f"the chat template fails: {error}") from error
            raise InputError(
                "the chat template writes today's date, so that scores would change from day to day: pin it with "
                "template_variables.date_string='26 Jul 2024', or choose a template without a date"
            ) from error
        except (jinja2.TemplateError, ValueError) as error:
            raise InputError(f"the chat template refuses the messages: {error}") from error
        return str(text)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a prompt that ends where the student begins to answer."""
        return list(self._tokenise(self.text(messages, generation_prompt=True))["input_ids"])

    def render(self, messages: Sequence[Message], max_length: int | None = None) -> RenderedChat:
        """Tokenise a chat and find its responses.

        Args:
            max_length: keep this many tokens, cutting on the right; None keeps all.

        Raises:
            InputError: the text under the mask would not be the responses verbatim, and how they differ.
        """
        text = self.text(messages)
        encoding = self._tokenise(text)
        ids, offsets = encoding["input_ids"], encoding["offset_mapping"]
        answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
        turns = [self._turn(messages, i, text, ids, offsets) for i in answers]
        kept = len(ids) if max_length is None else min(len(ids), max_length)
        return RenderedChat(
            ids=tuple(ids[:kept]),
            turns=tuple(t.cut(kept) for t in turns if t.start < kept),
            length=len(ids),
        )

    def _tokenise(self, text: str) -> Any:
        return self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)

    def _turn(
        self, messages: Sequence[Message], index: int, text: str, ids: list[int], offsets: list[tuple[int, int]]
    ) -> Turn:
        content = messages[index].content
        before = self.text(messages[:index], generation_prompt=True)
        if not text.startswith(before + content):
            _refuse_rewriting(text, before, content, index)
        first, last = len(before), len(before) + len(content)
        if first == 0:
            raise InputError(
                f"message {index}: nothing stands before the response, so that its first token has no score"
            )
        # A character may be spelt by several tokens, all with its offsets; a token may spell several characters.
        start = next(i for i, (_, end) in enumerate(offsets) if end > first)
        end = next((i for i in range(start, len(offsets)) if offsets[i][0] >= last), len(offsets))
        if offsets[start][0] < first or offsets[end - 1][1] > last:
            token = ids[start] if offsets[start][0] < first else ids[end - 1]
            raise InputError(
                f"message {index}: the tokenizer joins the response with the template's text around it into one token "
                f"({self.tokenizer.decode([token])!r}): remove white space at the ends of the response"
            )
        self._check_spelling(ids[start:end], content, index)
        eot = end if end < len(ids) and (ids[end] in self._special or ids[end] in self._added) else None
        return Turn(start, end, eot, index, tuple(max(0, at - first) for at, _ in offsets[start:end]))

    def _check_spelling(self, ids: list[int], content: str, index: int) -> None:
        """The tokens must spell the response, up to the tokenizer's own Unicode normalisation."""
        spelt = str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        normalizer = self.tokenizer.backend_tokenizer.normalizer
        for expected in (content, content.lstrip(" ")):
            if spelt == expected or (normalizer is not None and spelt == normalizer.normalize_str(expected)):
                return
        raise InputError(
            f"message {index}: the tokenizer does not keep the response verbatim: {_difference(content, spelt)}"
        )

    def eot_id(self) -> int | None:
        """Token id that the template ends a response with; None where it writes none."""
        chat = self.render([Message("user", "?"), Message("assistant", "?")])
        eot = chat.turns[0].eot
        return None if eot is None else chat.ids[eot]

    def lost_beginning(self, messages: Sequence[Message]) -> str | None:
        """The token that the tokenizer begins a text with, where the template begins these messages without it."""
        begun = not _begins_texts(self.tokenizer) or self.render(messages).ids[0] == self.tokenizer.bos_token_id
        return None if begun else str(self.tokenizer.bos_token)

    def prose(self) -> list[str]:
        """Text of the template's own, such as a default system prompt, in a chat without system message."""
        user, assistant = "\ue000", "\ue001"  # private-use characters: in no template
        text = self.text([Message("user", user), Message("assistant", assistant)])
        # Role names and markers are single words; three words in a row are prose.
        return [match.group().strip() for match in re.finditer(r"[^\n<>|]*\w+(?:[ ,]+\w+){2,}[^\n<>|]*", text)]


def _refuse_rewriting(text: str, before: str, content: str, index: int) -> NoReturn:
    if not text.startswith(before):
        where = _difference(before, text[: len(before)])
        raise InputError(
            f"message {index}: the chat template writes what stands before the response otherwise: {where}"
        )
    rendered = text[len(before) : len(before) + len(content) + 40]
    raise InputError(
        f"message {index}: the chat template does not keep the response verbatim: {_difference(content, rendered)}"
    )


def _difference(expected: str, rendered: str) -> str:
    """The first place where two texts part."""
    blocks = difflib.SequenceMatcher(None, expected[:2000], rendered[:2000], autojunk=False).get_matching_blocks()
    at = blocks[0].size if blocks[0].a == blocks[0].b == 0 else 0
    if at >= 2000:
        at = next((i for i, (a, b) in enumerate(zip(expected, rendered, strict=False)) if a != b), len(rendered))
    return f"at character {at} expected {expected[at : at + 40]!r}, found {rendered[at : at + 40]!r}"


def load_template(name: str) -> str:
    """A template by name ("chatml", "llama3") or from a .jinja file.

    Raises:
        InputError: there is none.
    """
    packaged = _packaged()
    if name in packaged:
        return packaged[name]
    path = Path(name)
    if not path.is_file():
        raise InputError(f"no chat template {name!r}: it is a .jinja file or one of {', '.join(sorted(packaged))}")
    return path.read_text(encoding="utf-8")


def _packaged() -> dict[str, str]:
    folder = files("rsr") / "student" / "templates"
    templates = (path for path in folder.iterdir() if path.name.endswith(".jinja"))
    return {path.name.removesuffix(".jinja"): path.read_text(encoding="utf-8") for path in templates}


def _begun(template: str, tokenizer: "PreTrainedTokenizerFast") -> str:
    """A packaged template with the token that a text begins with; any other template is whole."""
    lacks = template in _packaged().values() and _begins_texts(tokenizer)
    return "{{- bos_token -}}" + template if lacks else template


def _begins_texts(tokenizer: "PreTrainedTokenizerFast") -> bool:
    """Whether a tokenizer puts its token of beginning before any text."""
    return tokenizer.bos_token_id is not None and tokenizer("?")["input_ids"][0] == tokenizer.bos_token_id
