"""Sampling by `generate` in fixed batches: the same samples whatever the batch, and a batch is as long as its longest answer."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessorList

from eval.nucleus import NucleusSampling
from eval.sampling import Completion, Request, ended, noise
from eval.settings import Evaluation
from rsr.student.student import Student


class Batches:
    """A `eval.sampling.Sampler`.

    Args:
        end_tokens: that end a turn; the first pads.
    """

    def __init__(self, student: Student, end_tokens: Sequence[int], evaluation: Evaluation) -> None:
        self.student, self.end_tokens, self.evaluation = student, list(end_tokens), evaluation
        # A model's own generation settings (top_k, repetition penalty, ...) would otherwise fill in what is not said here.
        student.model.generation_config = GenerationConfig()

    def facts(self) -> Mapping[str, Any]:
        return {"device": self.student.device.type, "batch_size": self.evaluation.batch_size}

    def answers(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        by_length = sorted(range(len(requests)), key=lambda i: len(requests[i].prompt))
        for first in range(0, len(by_length), self.evaluation.batch_size):
            batch = by_length[first : first + self.evaluation.batch_size]
            yield from zip(batch, self._generate([requests[i] for i in batch]), strict=True)

    def _generate(self, batch: Sequence[Request]) -> list[Completion]:
        limit, longest = max(r.room for r in batch), max(len(r.prompt) for r in batch)
        padding = [longest - len(r.prompt) for r in batch]
        pad, device = self.end_tokens[0], self.student.device
        ids = torch.tensor([[pad] * n + [*r.prompt] for n, r in zip(padding, batch, strict=True)])
        mask = torch.tensor([[0] * n + [1] * len(r.prompt) for n, r in zip(padding, batch, strict=True)])
        chosen, sampling = self.evaluation, LogitsProcessorList()
        if chosen.temperature > 0:
            noises = np.stack([noise(r.source, limit) for r in batch])
            sampling.append(NucleusSampling(chosen.temperature, chosen.top_p, noises, longest))
        with torch.inference_mode():
            model: Any = self.student.model
            written = model.generate(
                ids.to(device),
                attention_mask=mask.to(device),
                generation_config=GenerationConfig(
                    max_new_tokens=limit, do_sample=False, eos_token_id=self.end_tokens, pad_token_id=pad
                ),
                logits_processor=sampling,
            )[:, longest:].tolist()
        # What a batch went on writing for the others' sake is cut away.
        return [ended(tokens[: r.room], self.end_tokens) for r, tokens in zip(batch, written, strict=True)]
