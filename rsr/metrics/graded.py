"""CAR: what answers are worth, discounted by the student's loss on them."""

import numpy as np
import polars as pl

from rsr.metrics.base import Parts, metric

BETA = "Its beta is on the scale of the reward, and its value in the source was not at hand: here it is 1, and 3 in the preset."
PRESETS = {"": {}, "beta=3": {"beta": 3.0}}


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
    f"has no value. {BETA}",
    presets=PRESETS,
)
def car(rows: pl.DataFrame, beta: float = 1.0) -> Parts:
    return _discounted(rows, beta)


@metric(
    name="car_judged",
    title="CAR by the judge",
    formula="r / (1 + beta L), r the judge's overall score, L mean of s; for a dataset mean of r / (1 + beta mean of L)",
    unit="",
    direction="higher",
    levels=("trajectory", "dataset"),
    needs="judged",
    per_student=True,
    source="arXiv 2411.07133",
    note="CAR with the score of LLM-judged quality for r, where a judge is given (`judge.endpoint`); a trajectory without one has no value. "
    f"{BETA}",
    presets=PRESETS,
)
def car_judged(rows: pl.DataFrame, beta: float = 1.0) -> Parts:
    return _discounted(rows, beta)


def _discounted(rows: pl.DataFrame, beta: float) -> Parts:
    reward, loss = (rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("reward", "loss"))
    return Parts(reward, 1 + beta * loss)
