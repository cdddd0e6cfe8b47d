"""Token statistics of many trajectories, flat."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from inspect import signature
from typing import Concatenate, ParamSpec

import numpy as np
from numpy.typing import NDArray

P = ParamSpec("P")

EXPECTED_UP_TO = 100  # the clip of the ranks whose expectation is kept: the paper's
LATER = ("squares", "expected_rank", "repeated")  # columns that tokens may lack


@dataclass(frozen=True)
class Tokens:
    """Statistics of the response tokens of n trajectories, one after the other.

    Attributes:
        rank: uint32 (tokens,), 1 + number of vocabulary entries with a strictly larger logit (from vLLM: the number at
            least as large); not clipped.
        surprisal: float32 (tokens,), -ln p(token | what stands before it), nats.
        entropy: float32 (tokens,), of the predictive distribution, nats; NaN where the engine does not give it.
        offsets: int64 (n + 1,); trajectory i has the tokens offsets[i] to offsets[i + 1].
        squares: float32 (tokens,), sum of the squared probabilities of the predictive distribution; None where they were not kept.
        expected_rank: float32 (tokens,), what min(rank, 100) is expected to be of a token drawn from the predictive distribution;
            None where it was not asked for.
        repeated: bool (tokens,), whether the token lies in a run that the trajectory held before (`rsr.tokens.repetition`);
            None where it was not kept.
    """

    rank: NDArray[np.uint32]
    surprisal: NDArray[np.float32]
    entropy: NDArray[np.float32]
    offsets: NDArray[np.int64]
    squares: NDArray[np.float32] | None = None
    expected_rank: NDArray[np.float32] | None = None
    repeated: NDArray[np.bool_] | None = None
    _known: dict[Hashable, NDArray[np.float64]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Response tokens per trajectory."""
        return np.diff(self.offsets)

    def parted(self, lengths: Sequence[int] | NDArray[np.int64]) -> "Tokens":
        """The same tokens in parts of these lengths, each taken for a trajectory."""
        return replace(self, offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def part(self, start: int, stop: int) -> "Tokens":
        """The trajectories from start to before stop."""
        offsets = self.offsets[start : stop + 1]
        tokens = slice(offsets[0], offsets[-1])
        return self._at(tokens, offsets - offsets[0])

    def kept(self, mask: NDArray[np.bool_]) -> "Tokens":
        """The tokens under a mask of shape (tokens,); a trajectory may be left without any."""
        offsets = np.concatenate([[0], np.cumsum(mask)])[self.offsets]
        return self._at(mask, offsets)

    def _at(self, at: slice | NDArray[np.bool_], offsets: NDArray[np.int64]) -> "Tokens":
        later = {name: None if (kept := getattr(self, name)) is None else kept[at] for name in LATER}
        return Tokens(self.rank[at], self.surprisal[at], self.entropy[at], offsets, **later)

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums over each trajectory, in float64; 0 for one without tokens."""
        # reduceat would give an empty segment the value that follows it.
        filled = self.lengths > 0
        sums = np.zeros(len(filled))
        if filled.any():
            sums[filled] = np.add.reduceat(values.astype(np.float64, copy=False), self.offsets[:-1][filled])
        return sums

    def mean(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Means over each trajectory; NaN for one without tokens."""
        return divide(self.sum(values), self.lengths.astype(np.float64))


def joined(parts: Sequence[Tokens]) -> Tokens:
    """The trajectories of several, in order; statistics that one of them lacks are None."""
    lengths = np.concatenate([part.lengths for part in parts])
    columns = {name: [getattr(part, name) for part in parts] for name in LATER}
    later = {
        name: None if any(values is None for values in of_each) else np.concatenate(of_each)
        for name, of_each in columns.items()
    }
    return Tokens(
        np.concatenate([part.rank for part in parts]),
        np.concatenate([part.surprisal for part in parts]),
        np.concatenate([part.entropy for part in parts]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        **later,
    )


def once(
    statistic: Callable[Concatenate[Tokens, P], NDArray[np.float64]],
) -> Callable[Concatenate[Tokens, P], NDArray[np.float64]]:
    """A statistic of trajectories that many metrics share: computed once for the same tokens and parameters."""

    parameters = signature(statistic)

    @wraps(statistic)
    def known(tokens: Tokens, /, *args: P.args, **kwargs: P.kwargs) -> NDArray[np.float64]:
        bound = parameters.bind(tokens, *args, **kwargs)
        bound.apply_defaults()
        key = (statistic, *bound.args[1:])
        if key not in tokens._known:
            tokens._known[key] = statistic(tokens, *args, **kwargs)
        return tokens._known[key]

    return known


def divide(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """A ratio that is NaN, never infinite, where the denominator is 0."""
    return np.asarray(np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator != 0))
