"""What sampling has to know of a model, wherever its weights are: prompts by the one chat renderer, and where answers end."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from eval.benchmarks import Benchmark
from rsr.data.messages import Message
from rsr.errors import InputError
from rsr.student import pretrained
from rsr.student import student as students
from rsr.student.chat import ChatRenderer
from rsr.student.settings import Loading
from rsr.student.student import Student


@dataclass(frozen=True)
class ChatModel:
    """A model that answers chats.

    Attributes:
        max_positions: longest sequence, prompt and answer; None where its configuration does not say.
        end_tokens: that end an answer: first the one that ends a turn in the chat template, then whatever else ends a text of
            this model.
    """

    name: str
    renderer: ChatRenderer
    max_positions: int | None
    end_tokens: tuple[int, ...]

    def prompts(self, benchmark: Benchmark) -> dict[str, tuple[int, ...]]:
        """Token ids of a benchmark's prompts by the ids of its problems.

        Raises:
            InputError: the template refuses a chat.
        """
        task = copy(benchmark.task)
        task.build_all_requests(
            samples=list(range(len(benchmark.documents))), apply_chat_template=True, chat_template=self._text
        )
        return {request.doc["id"]: self.ids(request.args[0]) for request in task.instances}

    def _text(self, chat: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True) -> str:
        """A template that refuses a system message is an error, not a reason to drop it."""
        messages = [Message(m["role"], m["content"]) for m in chat]
        return self.renderer.text(messages, generation_prompt=add_generation_prompt)

    def ids(self, text: str) -> tuple[int, ...]:
        """Token ids of a rendered chat."""
        return tuple(self.renderer.tokenizer(text, add_special_tokens=False)["input_ids"])

    def room(self, prompt: int, limit: int) -> int:
        """New tokens for a prompt of so many tokens: up to the limit, or to the model's last position.

        Raises:
            InputError: there is none.
        """
        room = limit if self.max_positions is None else min(limit, self.max_positions - prompt)
        if room < 1:
            raise InputError(
                f"a prompt of {prompt} tokens leaves no room in the {self.max_positions} positions of {self.name}"
            )
        return room

    def text(self, prompt: Sequence[int], tokens: Sequence[int]) -> str:
        """An answer as text."""
        decode = self.renderer.tokenizer.decode
        text = str(decode([*tokens], skip_special_tokens=False, clean_up_tokenization_spaces=False))
        # Where the template has opened the thinking, it belongs to the answer: an unfinished one must be seen as such.
        return f"<think>{text}" if str(decode([*prompt])).rstrip().endswith("<think>") else text


def of_student(student: Student) -> ChatModel:
    """A model that is loaded here."""
    ends = _end_tokens(student.renderer, student.model.generation_config)
    return ChatModel(student.name, student.renderer, student.max_positions, ends)


def of_files(model: str | Path, loading: Loading, name: str) -> ChatModel:
    """A model whose weights are elsewhere, by its configuration and tokenizer.

    Raises:
        InputError: see `rsr.student.student.load`.
    """
    source: dict[str, Any] = {"revision": loading.revision, "trust_remote_code": loading.trust_remote_code}
    renderer = students.load_renderer(model, **loading.of_chats, **source)
    config = pretrained.load_config(model, **source)
    try:
        own = GenerationConfig.from_pretrained(model, revision=loading.revision or "main")
    except OSError:  # a model may come without one
        own = GenerationConfig.from_model_config(config)
    return ChatModel(name, renderer, pretrained.positions_of(config), _end_tokens(renderer, own))


def _end_tokens(renderer: ChatRenderer, own: GenerationConfig) -> tuple[int, ...]:
    others = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
    tokens = [renderer.eot_id(), renderer.tokenizer.eos_token_id, *others]
    return tuple(dict.fromkeys(token for token in tokens if token is not None))
