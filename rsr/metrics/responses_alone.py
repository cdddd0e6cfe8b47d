"""IFD: how little the prompt helps the student with a response (measured by `rsr.features.responses_alone`)."""

import numpy as np
import polars as pl

from rsr.metrics.base import Parts, metric
from rsr.tokens.tokens import divide


@metric(
    name="ifd",
    title="IFD",
    formula="mean of s with the prompt / mean of s without it",
    unit="",
    direction="higher",
    levels=("trajectory", "dataset"),
    needs="responses_alone",
    per_student=True,
    source="arXiv 2308.12032 and its authors' code",
    note="Instruction-following difficulty. Its source takes the highest below 1: above, the prompt misleads the student. Selecting by it, "
    "look at values above 1. There a response without its prompt stands behind '### Response:', here behind the token that precedes it in "
    "the chat. Responses of several turns are taken together. A dataset's value is the mean, since the source gives none.",
)
def ifd(rows: pl.DataFrame) -> Parts:
    nats, alone = (rows[name].fill_null(np.nan).to_numpy() for name in ("nats", "nats_alone"))
    return Parts(divide(nats, alone))
