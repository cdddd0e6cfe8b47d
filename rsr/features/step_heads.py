"""How surprising the first tokens of each step are, and the others: what ASLEC (arXiv 2604.06834) is computed from.

Steps are found in the text as those of local surprisal are (`rsr.features.local_surprisal`), but every token is scored behind all that
stands before it, in one plain forward pass.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from rsr.data.trajectories import Trajectory
from rsr.features.extractor import Columns, Row, render
from rsr.features.local_surprisal import Splitter, step_lengths

if TYPE_CHECKING:
    from rsr.tokens.engine import Scorer

HEAD = 2  # tokens at the beginning of each step, as in the authors' code
COLUMNS: Columns = {"head_tokens": pl.Int64(), "head_nats": pl.Float64(), "rest_nats": pl.Float64()}


class StepHeads:
    """Sums of surprisals over the heads of a trajectory's steps, and over all other tokens (a
    `rsr.features.extractor.FeatureExtractor`).
    """

    stage = "step_heads"
    columns = COLUMNS
    part = 8
    workers = 1

    def __init__(self, scorer: "Scorer", splitter: Splitter = "sentence") -> None:
        self.scorer, self.splitter = scorer, splitter

    def identity(self) -> dict[str, Any]:
        return {
            "version": 1,
            "student": dict(self.scorer.student.identity),
            "scoring": self.scorer.identity,
            "splitter": self.splitter,
            "head": HEAD,
        }

    def __call__(self, trajectory: Trajectory) -> Row:
        chats, row = render(self.scorer.student, trajectory, self.scorer.max_length)
        turns = [turn for chat in chats for turn in chat.turns if turn.start < turn.end]
        steps = [step_lengths(turn.text, turn.characters, self.splitter) for turn in turns]
        lengths = np.concatenate([np.empty(0, np.int64), *steps])
        nats = self.scorer.score(chats).surprisal.astype(np.float64)
        place = np.arange(len(nats)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        head = place < HEAD
        return row | {
            "head_tokens": int(head.sum()),
            "head_nats": float(nats[head].sum()),
            "rest_nats": float(nats[~head].sum()),
            "processed": sum(len(chat.ids) for chat in chats),
        }
