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


WEIGHTS: Mapping[str, Callable[[Tokens], Floats]] = {"ranktuner": ranktuner}
