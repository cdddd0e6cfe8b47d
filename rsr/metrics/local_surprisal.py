"""Mean local surprisal: a mean over the steps of a trajectory (scored by `rsr.features.local_surprisal`)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl

from rsr.metrics.base import Floats, Parts, metric


@metric(
    name="avg_surprisal_local",
    title="Mean local surprisal",
    formula="mean of -ln p(token | prompt, the few sentences before its own, its own so far)",
    unit="nats per token",
    direction="lower",
    levels=("trajectory", "dataset"),
    needs="steps",
    per_student=True,
    source="Eq. 11; arXiv 2510.03988",
    note="The paper prints its correlations but, beyond six cells of Table 2, not its scores. It gives neither window "
    "nor splitter: here four sentences. The default averages over tokens (Eq. 11), the preset over steps "
    "(arXiv 2510.03988).",
    presets={"": {}, "mean of steps": {"weight": "step"}},
)
def avg_surprisal_local(rows: pl.DataFrame, weight: Literal["token", "step"] = "token") -> Parts:
    """Mean over the tokens of a trajectory, or over its steps of their means; NaN without tokens."""
    return Parts(
        np.array([_mean(nats, lengths, weight) for nats, lengths in rows.select("nats", "lengths").iter_rows()])
    )


def _mean(nats: Sequence[float] | None, lengths: Sequence[int] | None, weight: str) -> float:
    if not nats or not lengths:
        return float("nan")
    sums: Floats = np.array(nats)
    return float(sums.sum() / sum(lengths) if weight == "token" else (sums / lengths).mean())
