"""CAR: whether answers are right, discounted by the student's loss on them."""

import numpy as np
import polars as pl

from rsr.metrics.base import Parts, metric


@metric(
    name="car",
    title="CAR",
    formula="r / (1 + beta L), r 1 for a right answer and 0 for a wrong one, L mean of s; for a dataset mean of r / (1 + beta mean of L)",
    unit="",
    direction="higher",
    levels=("trajectory", "dataset"),
    needs="graded",
    per_student=True,
    source="arXiv 2411.07133",
    note="Compatibility-adjusted reward. Its source takes a reward model's score for r, here it is the grader's verdict; an answer without one "
    "has no value. Its beta is a choice for the scale of that reward: here it is 1, and 3 in the preset.",
    presets={"": {}, "beta=3": {"beta": 3.0}},
)
def car(rows: pl.DataFrame, beta: float = 1.0) -> Parts:
    right, loss = (rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("right", "loss"))
    return Parts(right, 1 + beta * loss)
