"""Rule-based quality: words that show reasoning, counted in the text."""

import re
from typing import Any

import polars as pl

from rsr.data.trajectories import Trajectory
from rsr.features.extractor import Columns, Row

# Words are counted whole, in lower case: "check," counts, "checking" does not. How LIMO splits words is not published.
WORD = re.compile(r"\b\w+(?:'\w+)?\b")
KEYWORDS = {
    "verification": ("check", "verify"),
    "exploration": ("perhaps", "might"),
    "granularity": ("therefore", "since"),
}
COLUMNS: Columns = {name: pl.Int64() for name in ("words", *KEYWORDS)}


class TextCounts:
    """Counts words and keywords in the assistant's turns, thinking included (a `rsr.features.extractor.FeatureExtractor`)."""

    stage = "text"
    columns = COLUMNS
    part = 1024
    workers = 1

    def identity(self) -> dict[str, Any]:
        return {
            "version": 1,
            "word": WORD.pattern,
            "keywords": {name: list(keywords) for name, keywords in KEYWORDS.items()},
        }

    def __call__(self, trajectory: Trajectory) -> Row:
        text = "\n".join(m.text for m in trajectory.messages if m.role == "assistant")
        words: list[str] = WORD.findall(text.lower())
        return {"words": len(words), **{name: sum(w in keywords for w in words) for name, keywords in KEYWORDS.items()}}
