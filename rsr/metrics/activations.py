"""SCAS: what it would cost a student to learn from a response (measured by `rsr.features.activations`)."""

import numpy as np
import polars as pl

from rsr.metrics.base import Parts, metric


@metric(
    name="scas",
    title="SCAS",
    formula="(1 - l) a^2 cos(a, a) + l a q cos(a, q), a and q mean surprisals of response and prompt, cos the mean cosine of two of their "
    "tokens' activations, l = 0.5",
    unit="nats^2",
    direction="lower",
    levels=("trajectory", "dataset"),
    needs="activations",
    per_student=True,
    source="arXiv 2605.26872 and its authors' code",
    note="Activations are outputs of the last mlp.up_proj, at the tokens themselves. Pairs of a token with itself count, as in the authors' "
    "default. Special tokens count nowhere. Of several turns all responses are taken together, and for the prompt all else before the last "
    "one's end; the source knows one turn. It scores the student anew in each round of training, here once before. A dataset's value is "
    "the mean, since the source gives none.",
)
def scas(rows: pl.DataFrame, balance: float = 0.5) -> Parts:
    names = ("nats", "prompt_nats", "alike", "alike_prompt")
    nats, prompt_nats, alike, alike_prompt = (rows[name].fill_null(np.nan).to_numpy() for name in names)
    return Parts((1 - balance) * nats**2 * alike + balance * nats * prompt_nats * alike_prompt)
