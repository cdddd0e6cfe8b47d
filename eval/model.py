"""A student as lm-eval sees it: prompts by the one chat renderer, answers with token ids and the reason they ended."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from lm_eval.models.huggingface import HFLM
from transformers import GenerationConfig, LogitsProcessorList

from eval.sampling import NucleusSampling, noise
from rsr.data.messages import Message
from rsr.errors import InputError
from rsr.student.student import Student

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance


@dataclass(frozen=True)
class Answer:
    """One sampled answer.

    Attributes:
        prompt: token ids of the prompt.
        tokens: token ids of the answer, without the token that ended it.
        finish_reason: "stop" by an end-of-turn token, "length" at the limit.
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    text: str
    finish_reason: Literal["stop", "length"]


class StudentLM(HFLM):  # type: ignore[misc]
    """lm-eval's Hugging Face model around a loaded student.

    Args:
        seed: of the sampling; a sample's noise follows from seed, benchmark, problem and number of the sample alone.
        advance: called with the number of answers whenever a batch is done.

    Attributes:
        answers: what `generate_until` returned last, in full.
    """

    def __init__(
        self, student: Student, batch_size: int, seed: int, advance: Callable[[int], None] = lambda answers: None
    ) -> None:
        super().__init__(
            pretrained=student.model,
            tokenizer=student.renderer.tokenizer,
            backend="causal",
            batch_size=batch_size,
            max_length=student.max_positions,
        )
        self.student, self.seed, self.advance = student, seed, advance
        self.stop_tokens = _stop_tokens(student)
        # A model's own generation settings (top_k, repetition penalty, ...) would otherwise fill in what is not said here.
        student.model.generation_config = GenerationConfig()
        self.answers: list[Answer] = []

    def apply_chat_template(self, chat_history: list[dict[str, Any]], add_generation_prompt: bool = True) -> str:
        """Render a prompt; a template that refuses a system message is an error, not a reason to drop it."""
        messages = [Message(m["role"], m["content"]) for m in chat_history]
        return self.student.renderer.text(messages, generation_prompt=add_generation_prompt)

    def generate_until(self, requests: "list[Instance]", disable_tqdm: bool = False) -> list[str]:
        """Answer requests; repeated requests are further samples of the same problem."""
        occurrences: Counter[tuple[str | None, int | None]] = Counter()
        numbered = []
        for request in requests:
            number = occurrences[request.task_name, request.doc_id]
            occurrences[request.task_name, request.doc_id] += 1
            numbered.append((request, number, self.prompt_ids(request.args[0])))
        by_length = sorted(range(len(numbered)), key=lambda i: len(numbered[i][2]))
        answers: dict[int, Answer] = {}
        for first, last in pairwise([*range(0, len(by_length), self.batch_size), len(by_length)]):
            batch = by_length[first:last]
            answers |= dict(zip(batch, self._answer([numbered[i] for i in batch]), strict=True))
            self.advance(len(batch))
        self.answers = [answers[i] for i in range(len(numbered))]
        return [answer.text for answer in self.answers]

    def prompt_ids(self, text: str) -> list[int]:
        return list(self.student.renderer.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _answer(self, batch: "Sequence[tuple[Instance, int, list[int]]]") -> list[Answer]:
        settings: dict[str, Any] = batch[0][0].args[1]
        lengths = [len(prompt) for _, _, prompt in batch]
        rooms = [self._room(length, settings["max_gen_toks"]) for length in lengths]
        limit, longest = max(rooms), max(lengths)
        pad = self.stop_tokens[0]
        ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for _, _, prompt in batch])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for _, _, prompt in batch])
        sampling = []
        if settings["temperature"] > 0:
            drawn = [noise([self.seed, str(r.task_name), str(r.doc["id"]), number], limit) for r, number, _ in batch]
            sampling.append(NucleusSampling(settings["temperature"], settings["top_p"], np.stack(drawn), longest))
        with torch.inference_mode():
            model: Any = self.student.model
            written = model.generate(
                ids.to(self.student.device),
                attention_mask=mask.to(self.student.device),
                generation_config=GenerationConfig(
                    max_new_tokens=limit, do_sample=False, eos_token_id=self.stop_tokens, pad_token_id=pad
                ),
                logits_processor=LogitsProcessorList(sampling),
            )[:, longest:].tolist()
        # What a batch went on writing for the others' sake is cut away.
        return [
            self._ended(prompt, tokens[:room])
            for (_, _, prompt), tokens, room in zip(batch, written, rooms, strict=True)
        ]

    def _room(self, prompt: int, limit: int) -> int:
        """New tokens for a prompt: up to the limit, or to the model's last position."""
        positions = self.student.max_positions
        room = limit if positions is None else min(limit, positions - prompt)
        if room < 1:
            raise InputError(
                f"a prompt of {prompt} tokens leaves no room in the {positions} positions of {self.student.name}"
            )
        return room

    def _ended(self, prompt: list[int], tokens: list[int]) -> Answer:
        end = next((i for i, token in enumerate(tokens) if token in self.stop_tokens), None)
        kept = tokens[:end]
        text = str(
            self.student.renderer.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )
        # Where the template has opened the thinking, it belongs to the answer: an unfinished one must be seen as such.
        if str(self.student.renderer.tokenizer.decode(prompt)).rstrip().endswith("<think>"):
            text = f"<think>{text}"
        return Answer(tuple(prompt), tuple(kept), text, "length" if end is None else "stop")


def _stop_tokens(student: Student) -> list[int]:
    """The token that ends a turn in the chat template, then whatever else ends a text of this model."""
    own = student.model.generation_config.eos_token_id
    others = own if isinstance(own, list) else [own]
    tokens = [student.renderer.eot_id(), student.renderer.tokenizer.eos_token_id, *others]
    return list(dict.fromkeys(token for token in tokens if token is not None))
