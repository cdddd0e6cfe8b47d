"""Weights of response tokens in training, from what the student made of them before."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from rsr.tokens.tokens import EXPECTED_UP_TO, Tokens

Floats = NDArray[np.float64]


def ranktuner(tokens: Tokens) -> Floats:
    """RankTuner's relative scale (arXiv 2602.01745), shape (tokens,): 1 where a rank is what the student expects of its own
    samples, more where it is worse.

    It is 2^(f(E[R]) - f(R)) with f(x) = 1 / log2(x + 1), here with ranks that are clipped as their expectation in the store is.
    """
    assert tokens.expected_rank is not None  # whoever scores asks for it

    def decayed(rank: Floats) -> Floats:
        return np.asarray(1 / np.log2(rank + 1))

    rank = np.minimum(tokens.rank, EXPECTED_UP_TO).astype(np.float64)
    return np.asarray(2 ** (decayed(tokens.expected_rank.astype(np.float64)) - decayed(rank)))


def rsi(tokens: Tokens) -> Floats:
    """How near the relative surprisal index s / H (arXiv 2606.31575) is to 1, shape (tokens,): 1 where a token is as surprising as
    the student expects, less where it is less or more so.

    Its source keeps tokens whose index lies in an interval. The weight here is the index, or one over it where it is above 1, and 0
    where there was no choice.
    """
    # Where a student is all but sure, rounding may leave either just below 0.
    surprisal, entropy = (np.maximum(column, 0).astype(np.float64) for column in (tokens.surprisal, tokens.entropy))
    larger = np.maximum(surprisal, entropy)
    return np.divide(np.minimum(surprisal, entropy), larger, out=np.zeros_like(larger), where=larger > 0)


WEIGHTS: Mapping[str, Callable[[Tokens], Floats]] = {"ranktuner": ranktuner, "rsi": rsi}
