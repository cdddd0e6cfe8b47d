"""Mean local surprisal: how surprising each step is to a student that remembers only a few steps before it.

The trajectory is tokenised once; steps are found in its text and partition its tokens. Each step is scored behind the
prompt and a window of preceding steps, with contiguous positions; the prompt runs once for all steps of a turn.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rsr.data.trajectories import Trajectory
from rsr.errors import InputError
from rsr.features.extractor import Columns, Row, render
from rsr.student.chat import RenderedChat, Turn

if TYPE_CHECKING:
    from rsr.tokens.engine import Scorer

Splitter = Literal["sentence", "newline", "blank_line"]

# A step starts where a match ends: before the white space, since tokens carry the space that precedes their word.
BOUNDARY: dict[Splitter, re.Pattern[str]] = {
    "sentence": re.compile(r"(?<!\bi\.e)(?<!\be\.g)(?<!\bcf)(?<!\bvs)[.!?]+[)\]\"'”’*$]*(?=\s)|(?<!\n)(?=\n)"),
    "newline": re.compile(r"(?<!\n)(?=\n)"),
    "blank_line": re.compile(r"(?<!\n)(?=\n[ \t]*\n)"),
}
COLUMNS: Columns = {"nats": pl.List(pl.Float64), "lengths": pl.List(pl.Int64)}  # of each step
SHORTEST = 4  # characters; a shorter piece, such as "1.", belongs to the step that follows


@dataclass(frozen=True)
class LocalSettings:
    """What a student remembers.

    Attributes:
        window: preceding steps.
        splitter: what ends a step.
        prompt: whether the prompt is remembered; without it only the token right before the response is.
    """

    window: int = 4
    splitter: Splitter = "sentence"
    prompt: bool = True

    def __post_init__(self) -> None:
        if self.window < 0:
            raise InputError(f"window={self.window} is too small: the least is 0")
        if self.splitter not in BOUNDARY:
            raise InputError(f"unknown splitter {self.splitter!r}: known are {', '.join(BOUNDARY)}")


def step_starts(text: str, splitter: Splitter) -> list[int]:
    """Characters where the steps of a text start; the first is 0."""
    ends = sorted({match.end() for match in BOUNDARY[splitter].finditer(text)} | {len(text)})
    starts = [0]
    for end in ends:
        if len("".join(text[starts[-1] : end].split())) >= SHORTEST:
            starts.append(end)
    # What follows the last start is the end of the text, or too short for a step of its own.
    return starts[:-1] or [0]


def step_lengths(text: str, characters: Sequence[int], splitter: Splitter) -> NDArray[np.int64]:
    """Tokens per step of a turn, empty steps left out; a token belongs to the step in which it starts.

    Args:
        characters: where each token starts.
    """
    step = np.searchsorted(step_starts(text, splitter), characters, side="right") - 1
    counts = np.bincount(step) if len(step) else np.empty(0, np.int64)
    return counts[counts > 0]


class LocalSurprisal:
    """Surprisal of each step of a trajectory (a `rsr.features.extractor.FeatureExtractor`)."""

    stage = "steps"
    columns = COLUMNS
    part = 8
    workers = 1

    def __init__(self, scorer: "Scorer", settings: LocalSettings) -> None:
        self.scorer, self.settings = scorer, settings

    def identity(self) -> dict[str, Any]:
        student = self.scorer.student
        return {
            "version": 2,
            "student": dict(student.identity),
            "scoring": self.scorer.identity,
            **asdict(self.settings),
        }

    def __call__(self, trajectory: Trajectory) -> Row:
        chats, row = render(self.scorer.student, trajectory, self.scorer.max_length)
        nats: list[float] = []
        lengths: list[int] = []
        processed = 0
        for chat, turn in [(rendered, turn) for rendered in chats for turn in rendered.turns if turn.start < turn.end]:
            of_turn = step_lengths(turn.text, turn.characters, self.settings.splitter)
            prefix = chat.ids[: turn.start - 1] if self.settings.prompt else ()
            steps = _windows(chat, turn, of_turn, self.settings.window)
            tokens = self.scorer.score(steps, prefix=prefix)
            nats += tokens.parted(of_turn).sum(tokens.surprisal.astype(np.float64)).tolist()
            lengths += of_turn.tolist()
            processed += len(prefix) + sum(len(step.ids) for step in steps)
        return row | {"nats": nats, "lengths": lengths, "processed": processed}


def _windows(chat: RenderedChat, turn: Turn, lengths: NDArray[np.int64], window: int) -> list[RenderedChat]:
    """Chats that together score each token of a response once, in order, behind the steps that are remembered.

    Each is the token before the response, the steps of the window, and the step, which alone is scored. The first steps, that
    remember all before them, are one chat.
    """
    bounds = turn.start + np.concatenate([[0], np.cumsum(lengths)])
    before = chat.ids[turn.start - 1]
    windows = []
    for last in range(min(window, len(lengths) - 1), len(lengths)):
        ids = (before, *chat.ids[bounds[max(0, last - window)] : bounds[last + 1]])
        scored = int(lengths[last] if last > window else lengths[: last + 1].sum())
        windows.append(RenderedChat(ids, (Turn(len(ids) - scored, len(ids), None),), len(ids)))
    return windows
