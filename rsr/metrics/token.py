"""Metrics that are functions of token ranks r, surprisals s and entropies h under the student.

Each takes the tokens of many trajectories and gives numerator and denominator per trajectory (see `Parts`). The variants
of Tables 5 and 14 are presets of RSR where they change a parameter of it, and metrics of their own where they do not.
"""

from itertools import pairwise

import numpy as np

from rsr.metrics.base import Floats, Parts, metric
from rsr.tokens.tokens import Tokens, divide, once

R_MAX = 100  # the paper's clip
BOTH = ("trajectory", "dataset")


def clipped_rank(tokens: Tokens, r_max: int | None = R_MAX) -> Floats:
    """min(r, r_max); r itself where r_max is None."""
    return (tokens.rank if r_max is None else np.minimum(tokens.rank, r_max)).astype(np.float64)


def _surprisal(tokens: Tokens) -> Floats:
    return tokens.surprisal.astype(np.float64)


@once
def _mean_rank(tokens: Tokens, r_max: int | None = R_MAX, power: float = 1.0) -> Floats:
    if r_max is None or power == 1:
        return tokens.mean(clipped_rank(tokens, r_max) ** power)
    # There are few clipped ranks, and a power takes longer than looking it up.
    powers = np.arange(r_max + 1.0) ** power
    return tokens.mean(powers[np.minimum(tokens.rank, r_max)])


@once
def _mean_surprisal(tokens: Tokens, power: float = 1.0) -> Floats:
    return tokens.mean(_surprisal(tokens) ** power)


@once
def _mean_entropy(tokens: Tokens) -> Floats:
    return tokens.mean(tokens.entropy.astype(np.float64))


@once
def _sum_of_products(tokens: Tokens) -> Floats:
    return tokens.sum(_surprisal(tokens) * clipped_rank(tokens))


def _token_ratio(tokens: Tokens) -> Floats:
    """r / s of each token, not clipped. A token that the student is sure of in float32 (s = 0) has the smallest s that
    float32 can tell from 0 beside 1, where the paper's mean would be infinite.
    """
    return tokens.rank / np.maximum(_surprisal(tokens), np.finfo(np.float32).eps)


@metric(
    name="rsr",
    title="RSR",
    formula="sum of min(r, r_max) / sum of s; for a dataset sum of trajectory means / sum of trajectory means",
    unit="ranks per nat",
    direction="lower",
    levels=BOTH,
    needs="tokens",
    per_student=True,
    source="Eq. 7 (trajectory), Eq. 9 (dataset), variants in Tables 5 and 14",
    note="r_max = 100. A power applies to the clipped rank or the surprisal of each token.",
    presets={
        "": {},
        "r_max=50": {"r_max": 50},
        "r_max=500": {"r_max": 500},
        "no clipping": {"r_max": None},
        "r^1.05": {"rank_power": 1.05},
        "r^0.95": {"rank_power": 0.95},
        "s^1.05": {"surprisal_power": 1.05},
        "s^0.95": {"surprisal_power": 0.95},
    },
)
def rsr(tokens: Tokens, r_max: int | None = R_MAX, rank_power: float = 1.0, surprisal_power: float = 1.0) -> Parts:
    return Parts(_mean_rank(tokens, r_max, rank_power), _mean_surprisal(tokens, surprisal_power))


@metric(
    name="rsr_simple_average",
    title="RSR, simple average",
    formula="RSR of a trajectory; for a dataset the mean over trajectories instead of the ratio of means",
    unit="ranks per nat",
    direction="lower",
    levels=BOTH,
    needs="tokens",
    per_student=True,
    source="Table 14",
)
def rsr_simple_average(tokens: Tokens) -> Parts:
    return Parts(rsr(tokens).values)


@metric(
    name="avg_surprisal",
    title="Mean surprisal",
    formula="mean of s",
    unit="nats per token",
    direction="lower",
    levels=BOTH,
    needs="tokens",
    per_student=True,
    source="Eq. 10; GRAPE, arXiv 2502.04194",
)
def avg_surprisal(tokens: Tokens) -> Parts:
    return Parts(_mean_surprisal(tokens))


@metric(
    name="avg_rank",
    title="Mean rank",
    formula="mean of r",
    unit="ranks",
    direction="lower",
    levels=BOTH,
    needs="tokens",
    per_student=True,
    source="Table 4",
)
def avg_rank(tokens: Tokens) -> Parts:
    return Parts(_mean_rank(tokens, None))


@metric(
    name="avg_rank_clipped",
    title="Mean clipped rank",
    formula="mean of min(r, r_max)",
    unit="ranks",
    direction="lower",
    levels=BOTH,
    needs="tokens",
    per_student=True,
    source="Table 14",
)
def avg_rank_clipped(tokens: Tokens, r_max: int | None = R_MAX) -> Parts:
    return Parts(_mean_rank(tokens, r_max))


@metric(
    name="avg_token_length",
    title="Token length",
    formula="number of response tokens",
    unit="tokens",
    direction="higher",
    levels=BOTH,
    needs="tokens",
    per_student=False,
    source="Table 4",
    note="The paper prints one length per teacher for all students, though their tokenizers differ.",
)
def avg_token_length(tokens: Tokens) -> Parts:
    lengths = tokens.lengths.astype(np.float64)
    return Parts(np.where(lengths > 0, lengths, np.nan))


@metric(
    name="avg_entropy",
    title="Mean entropy",
    formula="mean of h, the entropy of the predictive distribution",
    unit="nats per token",
    direction="lower",
    levels=BOTH,
    needs="tokens",
    per_student=True,
    source="Table 14",
)
def avg_entropy(tokens: Tokens) -> Parts:
    return Parts(_mean_entropy(tokens))


@metric(
    name="avg_rsr_token",
    title="Mean token RSR",
    formula="mean of r / s, ranks not clipped",
    unit="ranks per nat",
    direction="lower",
    levels=("token", *BOTH),
    needs="tokens",
    per_student=True,
    source="Table 5",
    note="Governed by tokens of nearly no surprisal; one whose surprisal float32 rounds to 0 counts with 1.2e-7 nats.",
)
def avg_rsr_token(tokens: Tokens) -> Parts:
    return Parts(tokens.mean(_token_ratio(tokens)))


@metric(
    name="avg_rsr_token_filtered",
    title="Mean token RSR, filtered",
    formula="mean of r / s over the 30 % of a trajectory's tokens with the highest surprisal (at least one)",
    unit="ranks per nat",
    direction="lower",
    levels=BOTH,
    needs="tokens",
    per_student=True,
    source="Table 5",
    note="Of tokens with equal surprisal at the threshold the earlier count.",
)
def avg_rsr_token_filtered(tokens: Tokens, share: float = 0.3) -> Parts:
    kept = np.maximum(1, np.floor(share * tokens.lengths + 1e-9)).astype(np.int64)
    ratios, means = _token_ratio(tokens), np.full(len(kept), np.nan)
    for i, (first, last) in enumerate(pairwise(tokens.offsets)):
        if first < last:
            s = tokens.surprisal[first:last]
            threshold = np.partition(s, len(s) - kept[i])[len(s) - kept[i]]
            above = s > threshold
            ties = np.flatnonzero(s == threshold)[: kept[i] - np.count_nonzero(above)]
            above[ties] = True
            means[i] = ratios[first:last][above].sum() / kept[i]
    return Parts(means)


@metric(
    name="surprisal_weighted_sum_of_rank",
    title="Surprisal-weighted rank",
    formula="sum of s min(r, r_max) / sum of s",
    unit="ranks",
    direction="lower",
    levels=BOTH,
    needs="tokens",
    per_student=True,
    source="Table 14",
)
def surprisal_weighted_sum_of_rank(tokens: Tokens) -> Parts:
    return Parts(divide(_sum_of_products(tokens), tokens.sum(_surprisal(tokens))))


@metric(
    name="rank_weighted_sum_of_surprisal",
    title="Rank-weighted surprisal",
    formula="sum of min(r, r_max) s / sum of min(r, r_max)",
    unit="nats",
    direction="lower",
    levels=BOTH,
    needs="tokens",
    per_student=True,
    source="Table 14",
)
def rank_weighted_sum_of_surprisal(tokens: Tokens) -> Parts:
    return Parts(divide(_sum_of_products(tokens), tokens.sum(clipped_rank(tokens))))


@metric(
    name="rank_minus_surprisal",
    title="Rank minus surprisal",
    formula="mean of min(r, r_max) - s",
    unit="ranks less nats",
    direction="lower",
    levels=BOTH,
    needs="tokens",
    per_student=True,
    source="Table 14",
)
def rank_minus_surprisal(tokens: Tokens) -> Parts:
    return Parts(tokens.mean(clipped_rank(tokens) - _surprisal(tokens)))


@metric(
    name="rank_times_surprisal",
    title="Rank times surprisal",
    formula="mean of min(r, r_max) s",
    unit="ranks times nats",
    direction="lower",
    levels=BOTH,
    needs="tokens",
    per_student=True,
    source="Table 14",
)
def rank_times_surprisal(tokens: Tokens) -> Parts:
    return Parts(divide(_sum_of_products(tokens), tokens.lengths.astype(np.float64)))


@metric(
    name="rank_entropy_ratio",
    title="Rank-entropy ratio",
    formula="sum of min(r, r_max) / sum of h; for a dataset sum of trajectory means / sum of trajectory means",
    unit="ranks per nat",
    direction="lower",
    levels=BOTH,
    needs="tokens",
    per_student=True,
    source="Table 14",
)
def rank_entropy_ratio(tokens: Tokens) -> Parts:
    return Parts(_mean_rank(tokens), _mean_entropy(tokens))
