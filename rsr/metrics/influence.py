"""Influence score: what training on a trajectory would do to the loss of held-out queries."""

import numpy as np
import polars as pl

from rsr.metrics.base import Parts


def influence_score(rows: pl.DataFrame, per_token: bool = False) -> Parts:
    """Mean influence on the queries, or that per response token; NaN where there is none."""
    influence = rows["influence"].fill_null(np.nan).to_numpy()
    return Parts(influence / rows["tokens"].cast(pl.Float64).to_numpy() if per_token else influence)
