"""LLM-judged quality: the scores that a judge gave (asked by `rsr.features.judge`)."""

import numpy as np
import polars as pl

from rsr.features.judge import CRITERIA
from rsr.metrics.base import Parts, metric


@metric(
    name="llm_judged_quality",
    title="LLM-judged quality",
    formula="overall score from 0 to 1 given by a judge model",
    unit="",
    direction="higher",
    levels=("trajectory", "dataset"),
    needs="endpoint",
    per_student=False,
    source="Appendix B.1",
    note="The presets are the criteria that the judge scores one by one; its overall score is not their mean. "
    "Criteria and scale are the paper's, the wording of the prompt is this project's.",
    presets={"": {}, **{name: {"criterion": name} for name in CRITERIA}},
)
def llm_judged_quality(rows: pl.DataFrame, criterion: str = "score") -> Parts:
    """The judge's overall score, or that of one criterion; NaN where there is no judgement."""
    return Parts(rows[criterion].cast(pl.Float64).fill_null(np.nan).to_numpy())
