"""Rule-based quality: words that show reasoning, counted in the text."""

import re
from typing import Any

import numpy as np
import polars as pl

from rsr.data.trajectories import Trajectory
from rsr.features.base import Columns, Row
from rsr.metrics.base import Floats, Parts

# Words are counted whole, in lower case: "check," counts, "checking" does not. How LIMO splits words is not published.
WORD = re.compile(r"\b\w+(?:'\w+)?\b")
KEYWORDS = {
    "verification": ("check", "verify"),
    "exploration": ("perhaps", "might"),
    "granularity": ("therefore", "since"),
}
COLUMNS: Columns = {name: pl.Int64() for name in ("words", *KEYWORDS)}
WEIGHTS = {"elaboration": 0.30, "verification": 0.20, "exploration": 0.25, "granularity": 0.25}


class TextCounts:
    """Counts words and keywords in the assistant's turns, thinking included (a `rsr.features.base.Measure`)."""

    stage = "text"
    columns = COLUMNS
    part = 1024
    workers = 1

    def identity(self) -> dict[str, Any]:
        return {"version": 1, "word": WORD.pattern, "keywords": {name: list(of) for name, of in KEYWORDS.items()}}

    def __call__(self, trajectory: Trajectory) -> Row:
        text = "\n".join(m.content for m in trajectory.messages if m.role == "assistant")
        words: list[str] = WORD.findall(text.lower())
        return {"words": len(words), **{name: sum(w in of for w in words) for name, of in KEYWORDS.items()}}


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


def rule_based_quality(counts: pl.DataFrame, only: str | None = None) -> Parts:
    """Weighted sum of z-scores over the pool, which are all rows given; or one z-score alone.

    An indicator that does not vary in the pool has z = 0.
    """
    pool = pool_statistics(counts)
    z = {
        name: (values - pool[name]["mean"]) / (pool[name]["std"] or 1.0) for name, values in indicators(counts).items()
    }
    return Parts(z[only] if only else np.sum([WEIGHTS[name] * z[name] for name in WEIGHTS], axis=0))
