"""Metrics that hold tokens against what the student's predictive distribution expects at the same positions.

They need columns that a token store may lack: the sum of squared probabilities and the expected clipped rank.
"""

import numpy as np
from numpy.typing import NDArray

from rsr.metrics.base import Floats, Parts, metric
from rsr.metrics.token import BOTH, avg_entropy, avg_rank_clipped, avg_surprisal
from rsr.tokens.token_weights import ranktuner
from rsr.tokens.tokens import Tokens, divide


def _wide(column: NDArray[np.float32] | None) -> Floats:
    assert column is not None  # the metric declares it
    return column.astype(np.float64)


@metric(
    name="lark_learnability",
    title="LARK's learnability",
    formula="rho = mean of (1 - 2 p + sum of squared probabilities) / mean of s, p = exp(-s)",
    unit="1 / nats",
    direction="higher",
    levels=BOTH,
    needs="tokens",
    columns=("squares",),
    per_student=True,
    source="arXiv 2605.30651",
    note="The factor alone, over the whole vocabulary: `--weights lark` makes the gain and the weights of it, for the answers to one "
    "problem. Its authors' code takes the 50 likeliest tokens, renormalised, and the end of the turn, which a token store "
    "does not hold. A dataset's value is the mean, since the source gives none.",
)
def lark_learnability(tokens: Tokens) -> Parts:
    p = np.exp(-tokens.surprisal.astype(np.float64))
    return Parts(divide(tokens.mean(1 - 2 * p + _wide(tokens.squares)), avg_surprisal(tokens).values))


@metric(
    name="avg_rank_indicator",
    title="Mean relative rank indicator",
    formula="mean of 2^(f(min(r, 100)) - f(E min(R, 100))), f(x) = 1 / log2(x + 1), R drawn from the predictive distribution",
    unit="",
    direction="higher",
    levels=("token", *BOTH),
    needs="tokens",
    columns=("expected_rank",),
    per_student=True,
    source="arXiv 2602.01745 (RankTuner)",
    note="Its source weighs the loss of a token by one over the indicator and scores no data: mean and direction are this project's. There "
    "the rank and its expectation are not clipped; a token store keeps the expectation of the clipped one.",
)
def avg_rank_indicator(tokens: Tokens) -> Parts:
    return Parts(tokens.mean(1 / ranktuner(tokens)))


@metric(
    name="calibrated_rsr",
    title="Calibrated RSR",
    formula="[sum of min(r, 100) / sum of E min(R, 100)] / [sum of s / sum of h], R drawn from the predictive distribution; for a "
    "dataset mean of the first / mean of the second",
    unit="",
    direction="lower",
    levels=BOTH,
    needs="tokens",
    columns=("expected_rank",),
    per_student=True,
    source="this project; pre-registered in docs/calibrated_rsr.md",
    note="About 1 for the student's own samples, and for tokens drawn from a small set as the student expects them. Tied logits "
    "share the best rank and lower it: bfloat16 ties often, head_dtype=float32 breaks ties.",
)
def calibrated_rsr(tokens: Tokens) -> Parts:
    ranks = divide(avg_rank_clipped(tokens).values, tokens.mean(_wide(tokens.expected_rank)))
    return Parts(ranks, divide(avg_surprisal(tokens).values, avg_entropy(tokens).values))
