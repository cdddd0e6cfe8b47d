"""Temperature and top-p sampling whose noise belongs to the sample, not to the batch."""

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LogitsProcessor


def drawn(scores: torch.Tensor, uniform: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """Scores whose largest is the token that the noise draws, by inverse distribution function.

    Args:
        scores: logits, shape (batch, vocabulary).
        uniform: one number from [0, 1) for each row, shape (batch,).
    """
    probability, token = torch.softmax(scores.double() / temperature, dim=-1).sort(dim=-1, descending=True, stable=True)
    cumulated = probability.cumsum(dim=-1)
    # The nucleus: the most probable tokens up to the first that reaches top_p.
    nucleus = (cumulated - probability < top_p).sum(dim=-1, keepdim=True)
    mass = cumulated.gather(1, nucleus - 1)
    place = torch.minimum(torch.searchsorted(cumulated, uniform.double()[:, None] * mass, right=True), nucleus - 1)
    return torch.full_like(scores, -torch.inf).scatter(1, token.gather(1, place), 0.0)


class NucleusSampling(LogitsProcessor):
    """Draws with given noise inside `generate`, which takes the largest score (do_sample=False).

    Args:
        noise: uniform numbers, shape (batch, tokens).
        prompt_length: length of the padded prompts.
    """

    def __init__(self, temperature: float, top_p: float, noise: NDArray[np.float64], prompt_length: int) -> None:
        self.temperature, self.top_p = temperature, top_p
        self.noise, self.prompt_length = noise, prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        step = input_ids.shape[1] - self.prompt_length
        uniform = torch.as_tensor(self.noise[:, step], device=scores.device)
        return drawn(scores, uniform, self.temperature, self.top_p)
