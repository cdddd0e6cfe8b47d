"""Sampling whose noise belongs to the sample, not to the batch."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import LogitsProcessor

if TYPE_CHECKING:
    from numpy.typing import NDArray


def noise(key: Sequence[str | int], tokens: int) -> "NDArray[np.float64]":
    """Uniform numbers of one sample, one a token: the same for a key on every machine."""
    seed = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(seed, "big"))).random(tokens)


class NucleusSampling(LogitsProcessor):
    """Temperature and top-p sampling by inverse distribution function, with given noise.

    Generation takes the largest logit of what this returns, which is the token drawn; so batch size, order and resuming
    do not change a sample. Used with do_sample=False.

    Args:
        noise: uniform numbers, shape (batch, tokens).
        prompt_length: length of the padded prompts.
    """

    def __init__(self, temperature: float, top_p: float, noise: "NDArray[np.float64]", prompt_length: int) -> None:
        self.temperature, self.top_p = temperature, top_p
        self.noise, self.prompt_length = noise, prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        step = input_ids.shape[1] - self.prompt_length
        drawn = torch.as_tensor(self.noise[:, step], dtype=torch.float64, device=scores.device)[:, None]
        probability, token = torch.softmax(scores.double() / self.temperature, dim=-1).sort(
            dim=-1, descending=True, stable=True
        )
        cumulated = probability.cumsum(dim=-1)
        # The nucleus: the most probable tokens up to the first that reaches top_p.
        nucleus = (cumulated - probability < self.top_p).sum(dim=-1, keepdim=True)
        mass = cumulated.gather(1, nucleus - 1)
        place = torch.minimum(torch.searchsorted(cumulated, drawn * mass, right=True), nucleus - 1)
        chosen = token.gather(1, place)
        return torch.full_like(scores, -torch.inf).scatter(1, chosen, 0.0)
