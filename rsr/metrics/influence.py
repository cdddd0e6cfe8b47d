"""Influence score: what training on a trajectory would do to the loss of held-out queries."""

import numpy as np
import polars as pl

from rsr.metrics.base import Parts, metric


@metric(
    name="influence_score",
    title="Influence score",
    formula="mean over queries of the EK-FAC influence of the trajectory on the query's loss",
    unit="",
    direction="higher",
    levels=("trajectory", "dataset"),
    needs="influence",
    per_student=True,
    source="Appendix B.3; arXiv 2308.03296",
    note="Positive where training on the trajectory lowers the loss of the queries. It grows with length: the preset "
    "divides it by the response tokens. The paper gives neither queries nor modules nor damping.",
    presets={"": {}, "per token": {"per_token": True}},
)
def influence_score(rows: pl.DataFrame, per_token: bool = False) -> Parts:
    """Mean influence on the queries, or that per response token; NaN where there is none."""
    influence = rows["influence"].fill_null(np.nan).to_numpy()
    return Parts(influence / rows["tokens"].cast(pl.Float64).to_numpy() if per_token else influence)
