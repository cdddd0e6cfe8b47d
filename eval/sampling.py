"""The interface of sampling: token ids in, token ids and the reason of their end out, whatever generates them.

The ways are eval/batches.py, eval/continuous.py and eval/endpoint.py; docs/sampling.md compares them.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

FinishReason = Literal["stop", "length"]
Source = tuple[int, str, str, int]  # seed, benchmark, problem, number of the sample


@dataclass(frozen=True)
class Request:
    """One answer that is wanted; k samples of a prompt are k requests of different sources.

    Attributes:
        prompt: token ids.
        room: new tokens at most.
        source: what its chance follows from, and from nothing else.
    """

    prompt: tuple[int, ...]
    room: int
    source: Source


@dataclass(frozen=True)
class Completion:
    """What was generated for a request.

    Attributes:
        tokens: token ids, without the token that ended them.
        finish_reason: "stop" by a token that ends a turn, "length" where the room was used up.
    """

    tokens: tuple[int, ...]
    finish_reason: FinishReason


class Sampler(Protocol):
    """A way to answer requests."""

    def answers(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        """Every request's place and completion, as these come in.

        Raises:
            InputError: an answer cannot be had; those that came in before stand.
        """

    def facts(self) -> Mapping[str, Any]:
        """With what it computes, as far as this is no part of a key."""


def ended(tokens: Sequence[int], end_tokens: Collection[int]) -> Completion:
    """A completion of tokens up to the first that ends a turn."""
    end = next((i for i, token in enumerate(tokens) if token in end_tokens), None)
    return Completion(tuple(tokens[:end]), "length" if end is None else "stop")


def noise(source: Sequence[str | int], tokens: int) -> NDArray[np.float64]:
    """Uniform numbers of one sample, one a token: the same for a source on every machine."""
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_digest(source)[:16], "big"))).random(tokens)


def seed(source: Sequence[str | int]) -> int:
    """A seed of one sample for a server that draws by itself; below 2**31."""
    return int.from_bytes(_digest(source)[:4], "big") >> 1


def _digest(source: Sequence[str | int]) -> bytes:
    return hashlib.sha256("\x1f".join(map(str, source)).encode()).digest()
