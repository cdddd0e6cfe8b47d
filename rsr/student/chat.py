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

from rsr.data.messages import Message
from rsr.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Mask = Literal["response", "response+eot"]
PROBE = "\ue000"  # a private-use character: in no template
PINNED_CLOCK = "{%- macro strftime_now(format) -%}{{ pinned_date }}{%- endmacro -%}"
OPENED_TAG = re.compile(
    r"<[\w:]*(think|thought|reason)\w*>\s*\Z", re.I
)  # ends the prompt of students that always think


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
        variables: passed to the template, such as {"date_string": "26 Jul 2024"} for Llama 3; "strftime_now" is a text that
            stands for today's date, in whatever format a template asks for it.
        embeddings: of the model; a chat with a token beyond them is refused. None knows of no model.

    Raises:
        InputError: there is no template, or the tokenizer is not a fast one.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerFast",
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
        embeddings: int | None = None,
    ) -> None:
        if not tokenizer.is_fast:
            raise InputError("the tokenizer gives no character offsets: a fast tokenizer is needed")
        self.tokenizer = tokenizer
        self.template = _own_template(tokenizer) if template is None else _begun(template, tokenizer)
        self.variables = dict(variables or {})
        self.embeddings = embeddings
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
        # The clock is hidden, so that a template that asks for it fails; a pinned date stands in its place.
        pinned = self.variables.get("strftime_now")
        try:
            text = self.tokenizer.apply_chat_template(
                [{"role": m.role, "content": m.content} for m in messages],
                chat_template=self.template if pinned is None else PINNED_CLOCK + self.template,
                add_generation_prompt=generation_prompt,
                tokenize=False,
                **self.variables | {"strftime_now": None, "pinned_date": pinned},
            )
        except (jinja2.TemplateError, ValueError) as error:
            raise InputError(f"the chat template refuses the messages: {_line(error)}") from error
        except Exception as error:  # a template is a program: whatever it raises
            if isinstance(error, TypeError) and "strftime_now" in self.template and pinned is None:
                raise InputError(
                    "the chat template writes today's date, so that scores would change from day to day: pin it, as the "
                    "template would write it, with the template variable strftime_now (such as '26 Jul 2024')"
                ) from error
            raise InputError(f"the chat template fails: {type(error).__name__}: {_line(error)}") from error
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
        answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
        befores = [self.text(messages[:i], generation_prompt=True) for i in answers]
        replies = [_reply(before, messages[i].content) for before, i in zip(befores, answers, strict=True)]
        text = self.text(messages)
        if answers == [len(messages) - 1] and not text.startswith(befores[0] + replies[0]):
            text = self._with_thinking(messages, befores[0], replies[0]) or text
        encoding = self._tokenise(text)
        ids, offsets = encoding["input_ids"], encoding["offset_mapping"]
        turns = [
            self._turn(messages[i].content, i, before, reply, text, ids, offsets)
            for i, before, reply in zip(answers, befores, replies, strict=True)
        ]
        kept = len(ids) if max_length is None else min(len(ids), max_length)
        return RenderedChat(
            ids=tuple(ids[:kept]),
            turns=tuple(t.cut(kept) for t in turns if t.start < kept),
            length=len(ids),
        )

    def _tokenise(self, text: str) -> Any:
        encoding = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        highest = max(encoding["input_ids"], default=0)
        if self.embeddings is not None and highest >= self.embeddings:
            raise InputError(
                f"the tokenizer writes {self.tokenizer.decode([highest])!r} as token {highest}, and the model has embeddings "
                f"for {self.embeddings} alone: take the model's own tokenizer, or resize its embeddings"
            )
        return encoding

    def _with_thinking(self, messages: Sequence[Message], before: str, reply: str) -> str | None:
        """The chat as the student writes it, where its generation prompt opens the thinking that the template then takes out of
        the chat (DeepSeek-R1): the reply goes on from the prompt, and ends as the template ends any. None for others.
        """
        if reply == messages[-1].content:
            return None
        *_, end = self.text([*messages[:-1], Message("assistant", PROBE)]).partition(PROBE)
        return before + reply + end

    def _turn(
        self,
        message: str,
        index: int,
        before: str,
        content: str,
        text: str,
        ids: list[int],
        offsets: list[tuple[int, int]],
    ) -> Turn:
        """The turn of a message whose `content` the student writes after the text `before`."""
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
            at_start = offsets[start][0] < first
            token = self.tokenizer.decode([ids[start] if at_start else ids[end - 1]])
            of_template = before[-1].isspace() and not content[0].isspace() if at_start else not content[-1].isspace()
            mend = (
                "take the white space out of the template, in a .jinja file of your own"
                if of_template
                else "remove white space at the ends of the response"
            )
            raise InputError(
                f"message {index}: the tokenizer joins the response with the template's text around it into one token "
                f"({token!r}): {mend}"
            )
        self._check_spelling(ids[start:end], content, index)
        opened = len(message) - len(content)
        eot = end if end < len(ids) and (ids[end] in self._special or ids[end] in self._added) else None
        return Turn(start, end, eot, index, tuple(max(0, at - first) + opened for at, _ in offsets[start:end]))

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
        """Token id that the template ends a response with; None where it writes none.

        Raises:
            InputError: the template keeps no response verbatim, with thinking or without.
        """
        reasons = []
        for response in ("?", "<think>\n?\n</think>\n\n?"):  # some templates rewrite what does not think
            try:
                chat = self.render([Message("user", "?"), Message("assistant", response)])
            except InputError as error:
                reasons.append(str(error))
                continue
            eot = chat.turns[0].eot
            return None if eot is None else chat.ids[eot]
        raise InputError(f"the end-of-turn token of {self.tokenizer.name_or_path} cannot be found: {reasons[-1]}")

    def lost_beginning(self, messages: Sequence[Message]) -> str | None:
        """The token that the tokenizer begins a text with, where the template begins these messages without it."""
        begun = not _begins_texts(self.tokenizer) or self.render(messages).ids[0] == self.tokenizer.bos_token_id
        return None if begun else str(self.tokenizer.bos_token)

    def prose(self) -> list[str]:
        """Text of the template's own, such as a default system prompt, in a chat without system message."""
        text = self.text([Message("user", PROBE), Message("assistant", PROBE)])
        # Role names and markers are single words; three words in a row are prose.
        return [match.group().strip() for match in re.finditer(r"[^\n<>|]*\w+(?:[ ,]+\w+){2,}[^\n<>|]*", text)]


def _own_template(tokenizer: "PreTrainedTokenizerFast") -> str:
    """The tokenizer's template; of several, as transformers does, the one named "default"."""
    own: Any = tokenizer.chat_template
    if isinstance(own, str):
        return own
    if not own:
        raise InputError(
            "the tokenizer has no chat template: choose one, template=chatml, template=llama3 or a .jinja file"
        )
    if "default" not in own:
        raise InputError(
            f"the tokenizer has templates named {', '.join(own)}, and none named default: write the one that is meant into a "
            ".jinja file, and choose that"
        )
    return str(own["default"])


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _reply(before: str, content: str) -> str:
    """What of a response is left to write after the prompt: all, or what follows a tag, such as <think>, that both hold."""
    tag = OPENED_TAG.search(before)
    return (content.removeprefix(tag.group()) if tag else content) or content


def _refuse_rewriting(text: str, before: str, content: str, index: int) -> NoReturn:
    if (tag := OPENED_TAG.search(before)) and not text.startswith(before + content[:1]):
        raise InputError(
            f"message {index}: the chat template's prompt ends in {tag.group()!r}, and the response does not begin with it, or "
            "is not the only one of the chat: such a student is scored on single responses that begin with it"
        )
    if text.startswith(before + content.strip()):
        raise InputError(
            f"message {index}: the chat template trims the response: remove white space at the ends of the response"
        )
    if text.startswith(before) and text[len(before) :].lstrip().startswith(content):
        raise InputError(
            f"message {index}: the chat template writes white space between its header and the response, which its "
            "generation prompt does not: let the two agree, in a .jinja file of your own"
        )
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
