"""Metrics that are functions of token ranks r and surprisals s under the student."""

from rsr.metrics.base import Metric, declare

RSR = declare(
    Metric(
        name="rsr",
        title="RSR",
        formula="sum of min(r, r_max) / sum of s; for a dataset sum of trajectory means / sum of trajectory means",
        unit="ranks per nat",
        direction="lower",
        levels=("trajectory", "dataset"),
        needs="tokens",
        per_student=True,
        source="Eq. 7 (trajectory), Eq. 9 (dataset)",
    )
)

AVG_SURPRISAL = declare(
    Metric(
        name="avg_surprisal",
        title="Mean surprisal",
        formula="mean of s",
        unit="nats per token",
        direction="lower",
        levels=("trajectory", "dataset"),
        needs="tokens",
        per_student=True,
        source="Eq. 10; GRAPE, arXiv 2502.04194",
    )
)

AVG_RANK = declare(
    Metric(
        name="avg_rank",
        title="Mean rank",
        formula="mean of r",
        unit="ranks",
        direction="lower",
        levels=("trajectory", "dataset"),
        needs="tokens",
        per_student=True,
        source="Table 4",
    )
)

AVG_RANK_CLIPPED = declare(
    Metric(
        name="avg_rank_clipped",
        title="Mean clipped rank",
        formula="mean of min(r, r_max)",
        unit="ranks",
        direction="lower",
        levels=("trajectory", "dataset"),
        needs="tokens",
        per_student=True,
        source="Table 14",
    )
)

AVG_TOKEN_LENGTH = declare(
    Metric(
        name="avg_token_length",
        title="Token length",
        formula="number of response tokens",
        unit="tokens",
        direction="higher",
        levels=("trajectory", "dataset"),
        needs="tokens",
        per_student=False,
        source="Table 4",
        note="The paper prints one length per teacher for all students, though their tokenizers differ.",
    )
)

AVG_RSR_TOKEN = declare(
    Metric(
        name="avg_rsr_token",
        title="Mean token RSR",
        formula="mean of r / s, ranks not clipped",
        unit="ranks per nat",
        direction="lower",
        levels=("token", "trajectory", "dataset"),
        needs="tokens",
        per_student=True,
        source="Table 5",
    )
)

AVG_RSR_TOKEN_FILTERED = declare(
    Metric(
        name="avg_rsr_token_filtered",
        title="Mean token RSR, filtered",
        formula="mean of r / s over the 30 % of a trajectory's tokens with the highest surprisal",
        unit="ranks per nat",
        direction="lower",
        levels=("trajectory", "dataset"),
        needs="tokens",
        per_student=True,
        source="Table 5",
    )
)
