"""How alike a student's activations at the tokens of a response are, to one another and to those of the prompt.

The activations are the outputs of the last `mlp.up_proj`, taken in the same forward pass that gives the losses (SCAS, arXiv 2605.26872).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import Tensor, nn

from rsr.data.trajectories import Trajectory
from rsr.errors import InputError
from rsr.features.extractor import Columns, Row, render
from rsr.student.chat import RenderedChat, Turn

if TYPE_CHECKING:
    from rsr.tokens.engine import Scorer

LAYER = "mlp.up_proj"
COLUMNS: Columns = {
    "nats": pl.Float64(),  # mean surprisal of the response's tokens
    "prompt_nats": pl.Float64(),  # of the prompt's
    "alike": pl.Float64(),  # mean cosine of two of the response's tokens, each with itself included
    "alike_prompt": pl.Float64(),  # of one of them and one of the prompt's
}


class Activations:
    """Mean surprisals of response and prompt, and mean cosines of their activations (a
    `rsr.features.extractor.FeatureExtractor`).

    The prompt is all that stands before the end of the last response and is neither a response nor a special token.

    Raises:
        InputError: the student has no such layer.
    """

    stage = "activations"
    columns = COLUMNS
    part = 8
    workers = 1

    def __init__(self, scorer: "Scorer") -> None:
        self.scorer = scorer
        self.layer = _last_layer(scorer.student.model)
        self.special = sorted(scorer.student.renderer.tokenizer.all_special_ids)

    def identity(self) -> dict[str, Any]:
        return {
            "version": 1,
            "student": dict(self.scorer.student.identity),
            "scoring": self.scorer.identity,
            "layer": LAYER,
        }

    def __call__(self, trajectory: Trajectory) -> Row:
        chats, row = render(self.scorer.student, trajectory, self.scorer.max_length)
        chats = [chat for chat in chats if chat.positions()]
        if not chats:
            return row
        responses, prompts = (reduce(add, sums) for sums in zip(*map(self._sums, chats), strict=True))
        if not responses.tokens:  # all are special ones
            return row
        return row | {
            "nats": responses.mean_nats,
            "prompt_nats": prompts.mean_nats,
            "alike": float(responses.mean_direction @ responses.mean_direction),
            "alike_prompt": float(responses.mean_direction @ prompts.mean_direction),
            "processed": sum(len(chat.ids) for chat in chats),
        }

    def _sums(self, chat: RenderedChat) -> "tuple[Sums, Sums]":
        """Over the tokens of the responses, and over those of the prompt."""
        ids, positions = np.array(chat.ids), np.array(chat.positions())
        whole = RenderedChat(chat.ids, (Turn(1, len(ids), None),), len(ids))
        with _captured(self.layer) as outputs:
            tokens = self.scorer.score([whole])
        nats = np.concatenate([[np.nan], tokens.surprisal.astype(np.float64)])  # nothing predicts the first
        directions = nn.functional.normalize(outputs[-1][0].double(), dim=-1).cpu().numpy()
        plain = ~np.isin(ids, self.special)
        response = np.isin(np.arange(len(ids)), positions)
        prompt = ~response & (np.arange(len(ids)) < positions[-1])
        of_response, of_prompt = (Sums.of(nats[at], directions[at]) for at in (response & plain, prompt & plain))
        return of_response, of_prompt


@dataclass(frozen=True)
class Sums:
    """Over some tokens.

    Attributes:
        tokens: how many.
        predicted: how many have a surprisal.
        nats: sum of their surprisals.
        direction: sum of their activations at unit length, shape (width,).
    """

    tokens: int
    predicted: int
    nats: float
    direction: NDArray[np.float64]

    @classmethod
    def of(cls, nats: NDArray[np.float64], directions: NDArray[np.float64]) -> "Sums":
        return cls(len(nats), int((~np.isnan(nats)).sum()), float(np.nansum(nats)), directions.sum(axis=0))

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.tokens + other.tokens,
            self.predicted + other.predicted,
            self.nats + other.nats,
            self.direction + other.direction,
        )

    @property
    def mean_nats(self) -> float:
        """0 where there is none, as in the authors' code."""
        return self.nats / max(self.predicted, 1)

    @property
    def mean_direction(self) -> NDArray[np.float64]:
        return self.direction / max(self.tokens, 1)


def _last_layer(model: nn.Module) -> nn.Module:
    found: list[nn.Module] = [module for name, module in model.named_modules() if name.endswith(LAYER)]
    if not found:
        raise InputError(
            f"the student has no {LAYER}, whose outputs are compared: leave out metrics that need activations"
        )
    return found[-1]


@contextmanager
def _captured(layer: nn.Module) -> Iterator[list[Tensor]]:
    """The outputs of a layer, as they come."""
    outputs: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
        outputs.append(output)

    handle = layer.register_forward_hook(keep)
    try:
        yield outputs
    finally:
        handle.remove()
