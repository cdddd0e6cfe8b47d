"""One trajectory, looked at closely: what the student sees, which tokens count, and what they cost it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from rsr.data.trajectories import Dataset, Trajectory
from rsr.errors import InputError
from rsr.metrics.token import rsr
from rsr.student.chat import RenderedChat
from rsr.student.student import Student
from rsr.tokens.tokens import Tokens
from rsr.views.heatmap import Token, legend, to_html, tokens_of
from rsr.views.html import render
from rsr.views.page import page

if TYPE_CHECKING:
    from rsr.tokens.engine import Scorer


@dataclass(frozen=True)
class TurnScore:
    """One assistant turn.

    Attributes:
        message: index of its message in the chat.
        rsr, mean_surprisal: None without response tokens.
    """

    message: int
    tokens: int
    rsr: float | None
    mean_surprisal: float | None


@dataclass(frozen=True)
class Inspection:
    """A trajectory under a student.

    Attributes:
        rsr, mean_surprisal: of the trajectory; None without response tokens.
        turns: the same of each assistant turn.
        segments: the rendered chat in order, as text and whether it is scored; under rendering=turn one chat after the other.
        tokens: response tokens with rank and surprisal.
        length: tokens of the chat before truncation; kept: after.
        also: other datasets that hold a trajectory of this id.
    """

    student: str
    dataset: str
    trajectory: str
    rsr: float | None
    mean_surprisal: float | None
    turns: tuple[TurnScore, ...]
    segments: tuple[tuple[str, bool], ...]
    tokens: tuple[Token, ...]
    length: int
    kept: int
    also: tuple[str, ...] = ()

    def highest(self, by: str, n: int = 8) -> list[Token]:
        """The tokens of highest "rank" or "surprisal", earlier ones first where equal."""
        return sorted(self.tokens, key=lambda token: -float(getattr(token, by)))[:n]

    def to_html(self) -> str:
        """A self-contained page."""
        body = render("rsr.views", "inspection.jinja", inspection=self, tokens=to_html(self.tokens), legend=legend())
        return page(f"{self.dataset}, {self.trajectory} under {self.student}", body)

    @property
    def summary(self) -> str:
        if self.rsr is None or self.mean_surprisal is None:
            return f"no value: no response token is left of {self.length} tokens"
        cut = f", cut from {self.length} to {self.kept}" if self.kept < self.length else ""
        return (
            f"RSR {self.rsr:.3f}, mean surprisal {self.mean_surprisal:.3f} nats, {len(self.tokens)} of {self.kept} tokens "
            f"scored{cut}"
        )


def find(datasets: Sequence[Dataset], which: str) -> tuple[Dataset, Trajectory]:
    """A trajectory by id, in the first dataset that has it, or by its place from 0 in the first; of a dataset of one's choice as
    "DATASET:ID" or "DATASET:PLACE".

    Raises:
        InputError: there is none.
    """
    named = [(dataset, which.removeprefix(f"{dataset.name}:")) for dataset in datasets]
    for dataset, identity in [*((d, which) for d in datasets), *named]:
        for trajectory in dataset.trajectories:
            if trajectory.id == identity:
                return dataset, trajectory
    for dataset, place in [(datasets[0], which), *named]:
        if place.isascii() and place.isdigit() and int(place) < len(dataset.trajectories):
            return dataset, dataset.trajectories[int(place)]
    raise InputError(
        f"no trajectory {which!r}: by id such as {datasets[0].trajectories[0].id!r}, by place from 0, or DATASET:ID and DATASET:PLACE; "
        + ", ".join(f"{dataset.name} holds {len(dataset.trajectories)}" for dataset in datasets)
    )


def also_in(datasets: Sequence[Dataset], found: Dataset, trajectory: Trajectory) -> tuple[str, ...]:
    """Names of the other datasets that hold a trajectory of the same id."""
    others = [dataset for dataset in datasets if dataset.name != found.name]
    return tuple(d.name for d in others if any(t.id == trajectory.id for t in d.trajectories))


def inspect(scorer: "Scorer", dataset: Dataset, trajectory: Trajectory) -> Inspection:
    """Score one trajectory and keep every token.

    Raises:
        InputError: it cannot be rendered verbatim, or not be scored.
    """
    student = scorer.student
    chats = student.renderer.chats(trajectory.messages, scorer.max_length, trajectory.tool_schemas)
    scored = scorer.score(chats)
    tokens = [token for i, chat in enumerate(chats) for token in tokens_of(student.renderer, chat, scored, i)]
    return Inspection(
        student=student.name,
        dataset=dataset.name,
        trajectory=trajectory.id,
        rsr=float(rsr(scored.parted([len(tokens)])).values[0]) if tokens else None,
        mean_surprisal=float(scored.surprisal.mean()) if tokens else None,
        turns=_turns(chats, scored),
        segments=tuple(segment for chat in chats for segment in _segments(student, chat)),
        tokens=tuple(tokens),
        length=sum(chat.length for chat in chats),
        kept=sum(len(chat.ids) for chat in chats),
    )


def _turns(chats: Sequence[RenderedChat], scored: Tokens) -> tuple[TurnScore, ...]:
    turns = [turn for chat in chats for turn in chat.turns]
    parts = scored.parted([turn.end - turn.start for turn in turns])
    ratios, surprisals = rsr(parts).values, parts.mean(parts.surprisal.astype(np.float64))
    return tuple(
        TurnScore(turn.message, int(n), float(ratio), float(surprisal)) if n else TurnScore(turn.message, 0, None, None)
        for turn, n, ratio, surprisal in zip(turns, parts.lengths, ratios, surprisals, strict=True)
    )


def _segments(student: Student, chat: RenderedChat) -> tuple[tuple[str, bool], ...]:
    edges = [0, *(edge for turn in chat.turns for edge in (turn.start, turn.end)), len(chat.ids)]
    parts = [list(chat.ids[a:b]) for a, b in pairwise(edges)]  # in turn not scored and scored
    texts = [(str(student.renderer.tokenizer.decode(ids)), i % 2 == 1) for i, ids in enumerate(parts)]
    return tuple((text, scored) for text, scored in texts if text)
