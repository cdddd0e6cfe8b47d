"""The one chat renderer, for scoring, training and evaluation.

A chat is rendered with the student's chat template and tokenised once, as a whole. Where a response lies is known by position
(`rsr.student.responses`): nothing is searched for in a chat, so that markers typed inside a message change nothing.

A chat of several turns has two renderings. "whole" is the chat as training on the whole conversation sees it: what the template
drops from earlier turns is not there, and is counted. "turn" has every response behind its own prefix, as the student would meet
it, to the letter.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rsr.data.messages import Message
from rsr.errors import InputError
from rsr.student.images import LEAVE_OUT, ImageProcessor, ShownImages
from rsr.student.responses import Response, ResponseFinder, difference
from rsr.student.settings import BoundaryTokens, Rendering
from rsr.student.template import ANOTHER, ChatTemplate, begins_texts
from rsr.student.tokenisation import Ints, tokenised

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPELT = 2**15  # tokens that are decoded at a time
Mask = Literal["response", "response+eot"]


@dataclass(frozen=True)
class Turn:
    """Token positions of one assistant turn: the response is [start, end), `eot` its end-of-turn token, if any.

    Attributes:
        prompt: where the student begins to write: at `start`, unless the template puts text of its own between, such as an
            empty thought.
        message: index of its message in the chat.
        text: the response as it stands in the chat.
        characters: of that text, where each token of the response starts.
    """

    start: int
    end: int
    eot: int | None
    prompt: int = field(default=-1, compare=False)
    message: int = field(default=-1, compare=False)
    text: str = field(default="", compare=False, repr=False)
    characters: tuple[int, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True)
class Departures:
    """Where a rendered chat departs from its trajectory.

    Attributes:
        dropped: characters of responses that the template leaves out.
        added: characters that the template writes into responses.
        boundary: tokens that hold an end of a response and text of the template as well.
        unseen: messages of others, and lists of tools, that the template does not show in full.
    """

    dropped: int = 0
    added: int = 0
    boundary: int = 0
    unseen: int = 0

    def __add__(self, other: "Departures") -> "Departures":
        return Departures(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class RenderedChat:
    """A tokenised chat.

    Attributes:
        ids: token ids of the whole chat, after truncation.
        turns: assistant turns, after truncation; those cut away entirely are gone.
        length: number of tokens before truncation.
        shared: how many tokens it begins with as the last chat of its trajectory does; 0 for that one.
        images: None where it has none.
    """

    ids: tuple[int, ...]
    turns: tuple[Turn, ...]
    length: int
    departures: Departures = Departures()
    shared: int = field(default=0, compare=False)
    images: ShownImages | None = field(default=None, compare=False)

    @property
    def truncated(self) -> bool:
        return len(self.ids) < self.length

    def positions(self, mask: Mask = "response") -> list[int]:
        """Positions of the tokens under a mask: of the responses, or of all that the student writes in a turn, its end included.

        Raises:
            InputError: the mask wants an end-of-turn token and the template writes none.
        """
        positions: list[int] = []
        for turn in self.turns:
            if mask == "response":
                positions += range(turn.start, turn.end)
                continue
            if turn.eot is None:
                raise InputError(f"the chat template ends a response without an end-of-turn token: {ANOTHER}")
            positions += range(turn.start if turn.prompt < 0 else turn.prompt, turn.end)
            if turn.eot < len(self.ids):
                positions.append(turn.eot)
        return positions


class ChatRenderer:
    """Renders chats for one tokenizer and template.

    Args:
        tokenizer: a fast tokenizer (offsets are needed).
        template, variables: see `ChatTemplate`.
        embeddings: of the model; a chat with a token beyond them is refused. None knows of no model.
        rendering: how `chats` renders chats of several turns.
        boundary_tokens: whether a token counts as part of a response that holds text of the template as well.
        processor: of images; None refuses chats that have some.

    Raises:
        InputError: there is no template, or the tokenizer is not a fast one.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerFast",
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
        embeddings: int | None = None,
        rendering: Rendering = "whole",
        boundary_tokens: BoundaryTokens = "exclude",
        processor: ImageProcessor | None = None,
    ) -> None:
        if not tokenizer.is_fast:
            raise InputError("the tokenizer gives no character offsets: a fast tokenizer is needed")
        self.tokenizer = tokenizer
        self.template = ChatTemplate(tokenizer, template, variables)
        self.embeddings = embeddings
        self.processor = processor
        self.rendering, self.boundary_tokens = rendering, boundary_tokens
        # Ids that mark structure, as opposed to ordinary added words such as <think>.
        self._special = frozenset(tokenizer.all_special_ids)
        self._added = frozenset(tokenizer.added_tokens_decoder)

    def identity(self) -> dict[str, Any]:
        """What shapes the rendering."""
        chosen = {"rendering": self.rendering, "boundary_tokens": self.boundary_tokens}
        usual = {"rendering": "whole", "boundary_tokens": "exclude"}  # in no key: older ones have them without a name
        return self.template.identity() | {k: v for k, v in chosen.items() if v != usual[k]}

    def text(self, messages: Sequence[Message], tools: Sequence[Any] = (), *, generation_prompt: bool = False) -> str:
        """The chat as text; see `ChatTemplate.text`."""
        return self.template.text(messages, tools, generation_prompt=generation_prompt)

    def prompt_ids(self, messages: Sequence[Message], tools: Sequence[Any] = ()) -> list[int]:
        """Token ids of a prompt that ends where the student begins to answer."""
        return [*map(int, self._tokenise(self.text(messages, tools, generation_prompt=True))[0])]

    def chats(
        self, messages: Sequence[Message], max_length: int | None = None, tools: Sequence[Any] = ()
    ) -> list[RenderedChat]:
        """What is scored of a trajectory, in the rendering that was chosen; its turns are in order.

        In "turn", a chat that the next one goes on from is one with it: a model that reads from left to right scores both at once.
        The others know what they share with the last.

        Raises:
            InputError: see `render`.
        """
        if self.rendering == "whole":
            return [self.render(messages, max_length, tools)]
        joined: list[tuple[str, list[Response]]] = []
        for text, response in self._turns(messages, tools):
            before, responses = joined[-1] if joined else ("", [])
            goes_on = bool(responses) and text.startswith(before[: responses[-1].end])
            joined[-1:] = [(text, [*responses, response])] if goes_on else [*joined[-1:], (text, [response])]
        chats = self._chats(joined, messages, max_length, tools)
        # The cache of a prefix knows of no images.
        return chats if any(chat.images for chat in chats) else _sharing(chats)

    def turns(
        self, messages: Sequence[Message], max_length: int | None = None, tools: Sequence[Any] = ()
    ) -> list[RenderedChat]:
        """A chat of each response, behind its own prefix.

        Raises:
            InputError: see `render`.
        """
        alone = [(text, [response]) for text, response in self._turns(messages, tools)]
        return self._chats(alone, messages, max_length, tools)

    def _turns(self, messages: Sequence[Message], tools: Sequence[Any]) -> Iterator[tuple[str, Response]]:
        finder = self._finder(messages, tools)
        yield from (finder.turn(i) for i, message in enumerate(messages) if message.role == "assistant")

    def _chats(
        self,
        texts: Sequence[tuple[str, list[Response]]],
        messages: Sequence[Message],
        max_length: int | None,
        tools: Sequence[Any],
    ) -> list[RenderedChat]:
        """Chats of one trajectory; what each adds to the one before is looked for in it."""
        ends = [0, *(responses[-1].message for _, responses in texts)]
        return [
            self._rendered(
                text,
                responses,
                max_length,
                self._unseen(text, messages[start:end], () if start else tools),
                messages[:end],
            )
            for (text, responses), (start, end) in zip(texts, pairwise(ends), strict=True)
        ]

    def render(
        self, messages: Sequence[Message], max_length: int | None = None, tools: Sequence[Any] = ()
    ) -> RenderedChat:
        """Tokenise a chat as a whole and find its responses.

        Args:
            max_length: keep this many tokens, cutting on the right; None keeps all.
            tools: schemas of the tools that the assistant may call.

        Raises:
            InputError: the template rewrites a response, and how.
        """
        text, responses = self._finder(messages, tools).whole()
        return self._rendered(text, responses, max_length, self._unseen(text, messages, tools), messages)

    def _finder(self, messages: Sequence[Message], tools: Sequence[Any]) -> ResponseFinder:
        if self.processor is None and any(message.images for message in messages):
            raise InputError(
                "a message has an image, and nothing here shows it to the student: scoring does, by a student with a processor "
                f"of images in its folder; {LEAVE_OUT}"
            )
        return ResponseFinder(self.template, messages, tools)

    def _unseen(self, text: str, messages: Sequence[Message], tools: Sequence[Any]) -> int:
        """Messages of others, and lists of tools, that the text of a chat does not hold, plain or as JSON."""
        others = (message for message in messages if message.role != "assistant")
        said = [part.strip() for message in others for part in message.spoken]
        unseen = [part for part in said if part not in text and json.dumps(part, ensure_ascii=False)[1:-1] not in text]
        shown = not tools or self.text(messages, tools) != self.text(messages)
        return len(unseen) + (not shown)

    def _rendered(
        self,
        text: str,
        responses: Sequence[Response],
        max_length: int | None,
        unseen: int,
        messages: Sequence[Message],
    ) -> RenderedChat:
        """
        Args:
            messages: those in the text.
        """
        images, shown = [image for message in messages for image in message.images], None
        if not images:
            ids, offsets = self._tokenise(text)
        else:
            assert self.processor is not None  # as the finder saw to
            text, responses, encoding, shown = self.processor.shown(text, responses, images)
            ids = np.array(encoding["input_ids"], np.int64)
            offsets = np.array(encoding["offset_mapping"], np.int64).reshape(-1, 2)
            self._check_embedded(ids)
            if max_length is not None and max_length < shown.end:
                raise InputError(f"max_length={max_length} cuts into its images: raise it, or {LEAVE_OUT}")
        kept = len(ids) if max_length is None else min(len(ids), max_length)
        found = [self._turn(response, text, ids, offsets, kept) for response in responses if response.start >= 0]
        return RenderedChat(
            ids=tuple(ids[:kept].tolist()),
            turns=tuple(turn for turn, _ in found if turn.start < kept),
            length=len(ids),
            departures=Departures(
                dropped=sum(response.dropped for response in responses),
                added=sum(response.added for response in responses),
                boundary=sum(boundary for _, boundary in found),
                unseen=unseen,
            ),
            images=shown,
        )

    def _tokenise(self, text: str) -> tuple[Ints, Ints]:
        ids, offsets = tokenised(self.tokenizer, text)
        self._check_embedded(ids)
        return ids, offsets

    def _check_embedded(self, ids: Ints) -> None:
        highest = int(ids.max(initial=0))
        if self.embeddings is not None and highest >= self.embeddings:
            raise InputError(
                f"the tokenizer writes {self.tokenizer.decode([highest])!r} as token {highest}, and the model has embeddings "
                f"for {self.embeddings} alone: take the model's own tokenizer, or resize its embeddings"
            )

    def _turn(self, response: Response, text: str, ids: Ints, offsets: Ints, kept: int) -> tuple[Turn, int]:
        """The tokens of a response, and how many of them hold text of the template as well."""
        first, last = response.start, response.end
        if first == 0:
            raise InputError(
                f"message {response.message}: nothing stands before the response, so that its first token has no score: "
                f"{ANOTHER}"
            )
        # A character may be spelt by several tokens, all with its offsets; a token may spell several characters.
        start = _first(offsets[:, 1] > first)
        stop = end = start + _first(offsets[start:, 0] >= last)
        at_edges = {i for i in (start, end - 1) if start < end and (offsets[i, 0] < first or offsets[i, 1] > last)}
        if self.boundary_tokens == "exclude":
            start, end = start + (start in at_edges), max(end - (end - 1 in at_edges), start + (start in at_edges))
        if start < end:
            self._check_spelling(ids[start:end], offsets[start:end], text, response.message)
        eot = stop if stop < len(ids) and (ids[stop] in self._special or ids[stop] in self._added) else None
        return Turn(
            start,
            min(end, kept),
            eot,
            prompt=start if response.prompt == first else _first(offsets[:, 1] > response.prompt),
            message=response.message,
            text=text[first:last],
            characters=tuple((offsets[start : min(end, kept), 0] - first).clip(0).tolist()),
        ), len(at_edges)

    def _check_spelling(self, ids: Ints, offsets: Ints, text: str, index: int) -> None:
        """The tokens must spell the response, up to the tokenizer's own Unicode normalisation.

        Where some thousand tokens at a time spell their parts as they stand there, the whole is not spelt at once.
        """
        parts, content = [*_parts(ids, offsets, text)], text[offsets[0, 0] : offsets[-1, 1]]
        if len(parts) > 1 and all(self._spells(self._decoded(of), part) for of, part in parts):
            return
        spelt = self._decoded(ids)
        if not self._spells(spelt, content) and not self._spells(spelt, content.lstrip(" ")):
            raise InputError(
                f"message {index}: the tokenizer does not keep the response verbatim: {difference(content, spelt)}: leave such "
                "chats out (on-error skip), or take what it cannot spell out of them"
            )

    def _decoded(self, ids: Ints) -> str:
        return str(self.tokenizer.decode(ids.tolist(), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _spells(self, spelt: str, content: str) -> bool:
        normalizer = self.tokenizer.backend_tokenizer.normalizer
        return spelt == content or (normalizer is not None and spelt == normalizer.normalize_str(content))

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

    def lost_beginning(self, messages: Sequence[Message], tools: Sequence[Any] = ()) -> str | None:
        """The token that the tokenizer begins a text with, where the template begins these messages without it."""
        begun = (
            not begins_texts(self.tokenizer) or self.render(messages, None, tools).ids[0] == self.tokenizer.bos_token_id
        )
        return None if begun else str(self.tokenizer.bos_token)


def _sharing(chats: Sequence[RenderedChat]) -> list[RenderedChat]:
    """The chats with what they share with the last that has a turn; it never grows shorter from one to the next."""
    trunk = max((i for i, chat in enumerate(chats) if chat.turns), default=0)
    kept, ids = [*chats], np.array(chats[trunk].ids if chats else ())
    shared = len(ids)
    for i in range(trunk, -1, -1):
        own = np.array(chats[i].ids)[: len(ids)]
        shared = min(shared, _first(own != ids[: len(own)]), chats[i].turns[0].start - 1)
        kept[i] = replace(chats[i], shared=shared if i < trunk else 0)
    return kept


def _parts(ids: Ints, offsets: Ints, text: str) -> Iterator[tuple[Ints, str]]:
    """Some thousand tokens at a time, and what they spell: no character is spelt on both sides of a cut."""
    apart = np.flatnonzero(offsets[1:, 0] == offsets[:-1, 1]) + 1
    after = np.searchsorted(apart, np.arange(SPELT, len(ids) - SPELT, SPELT))
    cuts = dict.fromkeys(apart[after[after < len(apart)]].tolist())
    for start, end in pairwise([0, *cuts, len(ids)]):
        yield ids[start:end], text[offsets[start, 0] : offsets[end - 1, 1]]


def _first(truths: "np.ndarray[Any, Any]") -> int:
    """Index of the first that is true, or their number."""
    return int(truths.argmax()) if truths.any() else len(truths)
