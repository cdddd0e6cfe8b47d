"""Where the responses of a chat lie in its text, by position.

What a student writes in a turn lies between the template's generation prompt and its end of a turn. The message is compared with
it: what the template leaves out of a message, such as the thinking of earlier turns, is counted, and so is what it adds.
"""

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, NoReturn

from rsr.data.messages import Message
from rsr.errors import InputError
from rsr.student.template import ANOTHER, PROBE, ChatTemplate, probe_of

OPENED_TAG = re.compile(
    r"<[\w:]*(think|thought|reason)\w*>\s*\Z", re.I
)  # ends the prompt of students that always think


@dataclass(frozen=True)
class Response:
    """Where the text of a chat has a response, in characters.

    Attributes:
        message: index of its message.
        prompt: where the student begins to write: at `start`, unless the template puts text of its own between.
        start, end: what of it is scored; -1 where the template leaves nothing of it.
        dropped: characters of the message that the text lacks.
        added: characters that the template writes into the response.
    """

    message: int
    prompt: int
    start: int
    end: int
    dropped: int = 0
    added: int = 0


class ResponseFinder:
    """Finds the responses in the text of one chat.

    Args:
        tools: see `ChatTemplate.text`.
    """

    def __init__(self, template: ChatTemplate, messages: Sequence[Message], tools: Sequence[Any] = ()) -> None:
        self.template, self.messages, self.tools = template, list(messages), tools
        self._prompts: dict[int, str] = {}
        specials = sorted(map(re.escape, template.tokenizer.all_special_tokens), key=len, reverse=True)
        self._closing = re.compile(f"(?:{'|'.join(specials)})?\\s*\\Z" if specials else r"\s*\Z")

    def whole(self) -> tuple[str, list[Response]]:
        """The chat as one text, and its responses.

        Raises:
            InputError: a response is rewritten.
        """
        last = len(self.messages) - 1
        answers = [i for i, message in enumerate(self.messages) if message.role == "assistant"]
        if not answers or answers[-1] != last:
            text = self._text(self.messages)
            return text, [self._located(i, self.messages, text)[0] for i in answers]
        text, final = self.turn(last, verbatim=False)
        prompt, before = self._prompt(last), self.messages[:-1]
        if text.startswith(prompt):
            return text, [*(self._located(i, before, prompt, asks=True)[0] for i in answers[:-1]), final]
        return text, [*(self._located(i, self.messages, text)[0] for i in answers[:-1]), final]

    def turn(self, index: int, *, verbatim: bool = True) -> tuple[str, Response]:
        """The chat up to a response, as the student meets it and writes: the response goes on from the generation prompt.

        Args:
            verbatim: where the template drops part of the response, take the response as it is.

        Raises:
            InputError: the response is rewritten, or left out.
        """
        message, prompt, text = self.messages[index], self._prompt(index), self._text(self.messages[: index + 1])
        response, end = self._located(index, self.messages[: index + 1], text)
        if response.start < 0:
            raise InputError(f"message {index}: the chat template writes nothing of the response: {ANOTHER}")
        met = text.startswith(prompt)
        if ((met or not OPENED_TAG.search(prompt)) and not verbatim) or (met and not response.dropped):
            return text, response
        said = _unopened(self.template.spelling(message), prompt)
        _, in_tags, tail = self._text([*self.messages[:index], probe_of(message)]).rpartition(PROBE)
        if message.reasoning is not None and self.template.thought:
            in_tags = ""
        goes_on = prompt + (said + tail if response.dropped and in_tags else text[response.prompt :])
        return goes_on, self._compared(index, said, goes_on, len(prompt), len(goes_on) - len(text) + end)

    def _located(self, index: int, messages: list[Message], text: str, *, asks: bool = False) -> tuple[Response, int]:
        """Where the text of messages has a response, and where it ends the turn.

        Args:
            asks: the text ends in the generation prompt.
        """
        before, message, after = messages[:index], messages[index], messages[index + 1 :]
        prompt = self._prompt(index)
        said = _unopened(self.template.spelling(message), prompt)
        if said and not message.tool_calls and text.startswith(prompt + said):
            end = len(prompt) + len(said)
            return Response(index, len(prompt), len(prompt), end), end
        probe = probe_of(message, calls=True)
        whole = self.template.text([*before, probe, *after], self.tools, generation_prompt=asks)
        head, probed, rest = whole.partition(PROBE)
        if not probed:
            return Response(index, -1, -1, -1, dropped=len(said)), -1
        head = prompt if text.startswith(prompt) else self._head(head, prompt, before)
        following = rest.rpartition(PROBE)[2]
        if message.tool_calls:
            alone = self._text([*before, probe]).rpartition(PROBE)[2]
            following = following.removeprefix(alone.removesuffix(self._closing_of(alone)))
        if not text.startswith(head) or not text.endswith(following):
            _refuse_rewriting(index, head, text[: len(head)])
        end = max(len(head), len(text) - len(following))
        return self._compared(index, said, text, len(head), end), end

    def _head(self, head: str, prompt: str, before: list[Message]) -> str:
        """What stands before a response: as much of the text before its content as ends in the header of its turn."""
        header = prompt.removeprefix(self._text(before))
        bare = OPENED_TAG.sub("", header)
        if not bare or bare == prompt or bare not in head:
            return head
        at = head.rindex(bare)
        return head[:at] + (header if head.startswith(header, at) else bare)

    def _closing_of(self, text: str) -> str:
        match = self._closing.search(text)
        return match.group() if match else ""

    def _compared(self, index: int, said: str, text: str, prompt: int, end: int) -> Response:
        message = self.messages[index]
        start, stop, dropped, added = _compare(message, said, text[prompt:end], index)
        return Response(index, prompt, prompt + start, prompt + stop, dropped, added)

    def _prompt(self, index: int) -> str:
        if index not in self._prompts:
            self._prompts[index] = self.template.text(self.messages[:index], self.tools, generation_prompt=True)
        return self._prompts[index]

    def _text(self, messages: Sequence[Message]) -> str:
        return self.template.text(messages, self.tools)


def _unopened(said: str, prompt: str) -> str:
    """What of a response is left to write after the prompt: all, or what follows a tag, such as <think>, that both hold."""
    tag = OPENED_TAG.search(prompt)
    return (said.removeprefix(tag.group()).removeprefix(tag.group().strip()) if tag else said) or said


def _compare(message: Message, said: str, written: str, index: int) -> tuple[int, int, int, int]:
    """What of the written text is scored, from and to, and the numbers of characters that are dropped and added."""
    trimmed, short = written.strip(), said.strip()
    if message.tool_calls:
        return _pieces_in(message, written)
    if written in said:
        return 0, len(written), len(said) - len(written), 0
    if trimmed and trimmed in said:  # white space before it is the student's to write
        last = len(written.rstrip())
        return 0, last, len(said) - len(trimmed), last - len(trimmed)
    for kept in (said, short):
        if kept in written:
            at = written.rindex(kept) if kept else len(written)
            start = at if written[:at].strip() else 0
            return start, at + len(kept), len(said) - len(kept), len(written) - len(kept)
    if message.reasoning is not None:
        return _pieces_in(message, written)
    if "".join(said.split()) != "".join(written.split()):
        _refuse_rewriting(index, said, written)
    gaps = zip(re.split(r"\S", said), re.split(r"\S", written), strict=True)
    return 0, len(written), *_differences([(a, b) for a, b in gaps if a != b])


def _pieces_in(message: Message, written: str) -> tuple[int, int, int, int]:
    """The same of a message with a form of its own: its marks are the student's to write."""
    missing, rest = 0, written
    for piece in _pieces(message):
        missing += len(piece) * (piece not in rest)
        rest = rest.replace(piece, "", 1)  # it stands for no other piece
    return 0, len(written), missing, 0


def _differences(pairs: Sequence[tuple[str, str]]) -> tuple[int, int]:
    """Characters of the first texts that the second lack, and the other way round."""
    alike = [_alike(*pair) for pair in pairs]
    return (
        sum(len(a) - n for (a, _), n in zip(pairs, alike, strict=True)),
        sum(len(b) - n for (_, b), n in zip(pairs, alike, strict=True)),
    )


def _alike(one: str, other: str) -> int:
    """Characters that two texts begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _pieces(message: Message) -> Iterator[str]:
    """What a message says, in parts that every template writes as they are."""
    yield from (part.strip() for part in (message.reasoning or "", message.content) if part.strip())
    for call in message.tool_calls:
        yield call.name
        yield from _leaves(call.value)


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _leaves(part)
    elif value != "":
        yield json.dumps(value, ensure_ascii=False).strip('"')


def _refuse_rewriting(index: int, expected: str, found: str) -> NoReturn:
    raise InputError(
        f"message {index}: the chat template does not keep the response verbatim: {difference(expected, found)}: {ANOTHER}"
    )


def difference(expected: str, rendered: str) -> str:
    """The first place where two texts part."""
    blocks = difflib.SequenceMatcher(None, expected[:2000], rendered[:2000], autojunk=False).get_matching_blocks()
    at = blocks[0].size if blocks[0].a == blocks[0].b == 0 else 0
    if at >= 2000:
        at = next((i for i, (a, b) in enumerate(zip(expected, rendered, strict=False)) if a != b), len(rendered))
    return f"at character {at} expected {expected[at : at + 40]!r}, found {rendered[at : at + 40]!r}"
