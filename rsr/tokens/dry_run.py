"""What scoring will take: tokens counted, time, memory and disk estimated from a short probe."""

import resource
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rsr.data.trajectories import Dataset, Trajectory
from rsr.errors import InputError
from rsr.student.chat import RenderedChat
from rsr.student.device import memory_on, places

if TYPE_CHECKING:
    from rsr.tokens.engine import Scorer

PROBE_SECONDS = 3.0
BYTES_PER_TOKEN = 11  # of a shard, as measured on 12 stores of 92,000 tokens of SmolLM2 together


@dataclass(frozen=True)
class DryRun:
    """What scoring will take.

    Attributes:
        tokens, response_tokens: counted after truncation.
        truncated: chats longer than max_length; refused: that cannot be rendered verbatim, with the first reason.
        tokens_per_second: of the probe, which took probe_seconds; seconds: tokens over it.
        weights: bytes of the student; places: the same by where they lie (`rsr.student.device.places`).
        memory: peak bytes of this process (on GPUs, of these) in the probe, the weights included.
        device: of the student; device_memory: bytes that it has for this process.
        disk, free: bytes that the token stores will take, and that there are.
    """

    trajectories: int
    tokens: int
    response_tokens: int
    longest: int
    truncated: int
    refused: int
    first_refused: str | None
    tokens_per_second: float
    probe_seconds: float
    seconds: float
    weights: int
    places: Mapping[str, int]
    memory: int
    device: str
    device_memory: int
    disk: int
    free: int


def estimate(scorer: "Scorer", datasets: Sequence[Dataset], outputs: Path) -> DryRun:
    """Render every chat, and score a few.

    Raises:
        InputError: no chat can be scored.
    """
    chats: list[_Chat] = []
    reasons: list[str] = []
    for dataset in datasets:
        for trajectory in dataset.trajectories:
            try:
                chats += [_Chat.of(trajectory, i, chat) for i, chat in enumerate(_render(scorer, trajectory))]
            except InputError as error:
                reasons.append(f"{dataset.name}, trajectory {trajectory.id}: {error}")
    scored = [chat for chat in chats if chat.turns]
    if not scored:
        raise InputError(
            f"no trajectory can be scored: {reasons[0] if reasons else 'all are cut before their response'}"
        )
    began = time.perf_counter()
    speed = _probe(scorer, scored)
    probe_seconds = time.perf_counter() - began
    lie = places(scorer.student.model)
    tokens = sum(chat.tokens for chat in scored)
    response = sum(chat.response_tokens for chat in scored)
    place = next(p for p in (outputs.absolute(), *outputs.absolute().parents) if p.exists())
    return DryRun(
        trajectories=sum(len(dataset.trajectories) for dataset in datasets),
        tokens=tokens,
        response_tokens=response,
        longest=max(chat.tokens for chat in scored),
        truncated=sum(chat.truncated for chat in chats),
        refused=len(reasons),
        first_refused=reasons[0] if reasons else None,
        tokens_per_second=speed,
        probe_seconds=probe_seconds,
        seconds=tokens / speed,
        weights=sum(lie.values()),
        places=lie,
        memory=_peak(scorer),
        device=str(scorer.student.device),
        device_memory=memory_on(scorer.student.device),
        disk=response * BYTES_PER_TOKEN,
        free=shutil.disk_usage(place).free,
    )


@dataclass(frozen=True)
class _Chat:
    """What is counted of a chat; its ids, millions in all, are not kept."""

    trajectory: Trajectory
    index: int  # among the chats of its trajectory
    turns: int
    tokens: int
    response_tokens: int
    truncated: bool

    @classmethod
    def of(cls, trajectory: Trajectory, index: int, chat: RenderedChat) -> "_Chat":
        return cls(trajectory, index, len(chat.turns), len(chat.ids), len(chat.positions()), chat.truncated)


def _render(scorer: "Scorer", trajectory: Trajectory) -> list[RenderedChat]:
    return scorer.student.renderer.chats(trajectory.messages, scorer.max_length, trajectory.tool_schemas)


def _probe(scorer: "Scorer", chats: Sequence[_Chat]) -> float:
    """Tokens per second over batches spread evenly over the lengths, the first of which warms up."""
    from rsr.tokens.engine import batches

    def again(chat: _Chat) -> RenderedChat:
        return _render(scorer, chat.trajectory)[chat.index]

    groups = batches([chat.tokens for chat in chats], scorer.token_budget)
    order = np.linspace(0, len(groups) - 1, min(16, len(groups))).round().astype(int)
    scorer.score([again(chats[groups[order[-1]][0]])])
    seconds, tokens = 0.0, 0
    for at in dict.fromkeys(np.random.default_rng(0).permutation(order).tolist()):
        group = [again(chats[i]) for i in groups[at]]
        began = time.perf_counter()
        scorer.score(group)
        seconds += time.perf_counter() - began
        tokens += sum(len(chat.ids) for chat in group)
        if seconds > PROBE_SECONDS:
            break
    return tokens / seconds


def _peak(scorer: "Scorer") -> int:
    import torch

    if scorer.student.device.type == "cuda":
        return sum(torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
