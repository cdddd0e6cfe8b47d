"""Rule-based quality: how often a text uses words that show reasoning (counted by `rsr.features.text`)."""

import numpy as np
import polars as pl

from rsr.features.text import KEYWORDS
from rsr.metrics.base import Floats, Parts, metric

WEIGHTS = {"elaboration": 0.30, "verification": 0.20, "exploration": 0.25, "granularity": 0.25}


def indicators(counts: pl.DataFrame) -> dict[str, Floats]:
    """The four indicators of each trajectory: words, and keywords per word; NaN where there is no word."""
    words = counts["words"].cast(pl.Float64).to_numpy()
    words = np.where(words > 0, words, np.nan)
    return {"elaboration": words} | {name: counts[name].cast(pl.Float64).to_numpy() / words for name in KEYWORDS}


def pool_statistics(counts: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Mean and standard deviation (divisor n) of each indicator over the pool that z-scores refer to.

    Both are 0 where no text of the pool has a word.
    """
    present = {name: values[~np.isnan(values)] for name, values in indicators(counts).items()}
    return {
        name: {"mean": float(values.mean()), "std": float(values.std())} if len(values) else {"mean": 0.0, "std": 0.0}
        for name, values in present.items()
    }


@metric(
    name="rule_based_quality",
    title="Rule-based quality",
    formula=".30 z(words) + .20 z(check, verify) + .25 z(perhaps, might) + .25 z(therefore, since), "
    "keywords per word, z over the pool of all teachers",
    unit="standard deviations",
    direction="higher",
    levels=("trajectory", "dataset"),
    needs="text",
    per_student=False,
    source="Appendix B.2; LIMO, arXiv 2502.03387",
    note="Depends on the pool it is standardised over: values of different pools do not compare. The presets are the "
    "four z-scores alone; the first is a length.",
    presets={"": {}, **{name: {"only": name} for name in WEIGHTS}},
)
def rule_based_quality(counts: pl.DataFrame, only: str | None = None) -> Parts:
    """Weighted sum of z-scores over the pool, which are all rows given; or one z-score alone.

    An indicator that does not vary in the pool has z = 0.
    """
    pool = pool_statistics(counts)
    z = {
        name: (values - pool[name]["mean"]) / (pool[name]["std"] or 1.0) for name, values in indicators(counts).items()
    }
    return Parts(z[only] if only else np.sum([WEIGHTS[name] * z[name] for name in WEIGHTS], axis=0))
