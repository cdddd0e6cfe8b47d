"""What the prompt does to the loss of a response: two forward passes, with the prompt and without it.

Without the prompt a response stands behind the one token that precedes it, such as the line break after the student's role.
"""

from typing import TYPE_CHECKING, Any

import polars as pl

from rsr.data.trajectories import Trajectory
from rsr.features.extractor import Columns, Row, render
from rsr.student.chat import RenderedChat, Turn

if TYPE_CHECKING:
    from rsr.tokens.engine import Scorer

COLUMNS: Columns = {"nats": pl.Float64(), "nats_alone": pl.Float64()}


class ResponsesAlone:
    """Sums of surprisals of a trajectory's responses with and without what stands before them (a
    `rsr.features.extractor.FeatureExtractor`).
    """

    stage = "responses_alone"
    columns = COLUMNS
    part = 8
    workers = 1

    def __init__(self, scorer: "Scorer") -> None:
        self.scorer = scorer

    def identity(self) -> dict[str, Any]:
        return {"version": 1, "student": dict(self.scorer.student.identity), "scoring": self.scorer.identity}

    def __call__(self, trajectory: Trajectory) -> Row:
        chats, row = render(self.scorer.student, trajectory, self.scorer.max_length)
        alone = [_alone(chat, turn) for chat in chats for turn in chat.turns if turn.start < turn.end]
        return row | {
            "nats": self._nats(chats),
            "nats_alone": self._nats(alone),
            "processed": sum(len(chat.ids) for chat in (*chats, *alone)),
        }

    def _nats(self, chats: list[RenderedChat]) -> float:
        return float(self.scorer.score(chats).surprisal.astype(float).sum())


def _alone(chat: RenderedChat, turn: Turn) -> RenderedChat:
    ids = chat.ids[turn.start - 1 : turn.end]
    return RenderedChat(ids, (Turn(1, len(ids), None),), len(ids))
