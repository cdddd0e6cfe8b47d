"""Projected gradients: one backward pass per trajectory, whose gradient is projected parameter by parameter and let go.

The projection is a count sketch: every parameter's entry goes, with a random sign, to one of d places. It keeps norms and
products in expectation, takes time linear in the parameters and no memory besides the d sums. Place and sign are a hash
of seed, name and position, so that they depend neither on the order of parameters nor on the device.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import polars as pl
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from rsr.data.trajectories import Trajectory
from rsr.errors import InputError
from rsr.features.extractor import Columns, Row, render
from rsr.student.chat import Mask
from rsr.student.head import Head

if TYPE_CHECKING:
    from rsr.tokens.engine import Scorer

LORA_B = "lora_b"
# As in the GRACE authors' code: rank 16, alpha 32, these projections.
LORA_RANK, LORA_SCALE = 16, 2.0
LORA_MODULES = ("q_proj", "k_proj", "v_proj", "up_proj", "down_proj", "gate_proj")
COLUMNS: Columns = {"projection": pl.List(pl.Float32), "weights": pl.Int64()}
CHUNK = 2**17  # entries hashed at a time: their hashes stay in a CPU's cache
KEPT = 64  # chunks of hashes, a megabyte each: those of a small student are worked out once for all trajectories


@dataclass(frozen=True)
class GradientSettings:
    """Which gradient is taken, and how it is projected.

    Attributes:
        parameters: "all"; "lora_b", the B matrices of freshly added LoRA adapters (B = 0, A seeded); or a pattern of
            names, such as "*.mlp.*".
        dimensions: of the projection.
        mask: tokens whose mean loss is differentiated; the paper's span leaves the end-of-turn token out, the GRACE
            authors' code has it in.
    """

    parameters: str = "all"
    dimensions: int = 512
    seed: int = 0
    mask: Mask = "response"

    def __post_init__(self) -> None:
        if self.dimensions < 1:
            raise InputError(f"dimensions={self.dimensions} is too small: the least is 1")


class ProjectedGradients:
    """Projected gradient of each trajectory's token-mean loss (a `rsr.features.extractor.FeatureExtractor`).

    The head of the model runs over chunks of positions that are computed anew on the way back, and layers likewise where
    `checkpointing` is asked for, so that a long trajectory fits.

    Raises:
        InputError: no parameter fits the settings.
    """

    stage = "gradients"
    columns = COLUMNS
    part = 8
    workers = 1

    def __init__(self, scorer: "Scorer", settings: GradientSettings, *, checkpointing: bool = False) -> None:
        self.scorer, self.settings = scorer, settings
        self.checkpointing = checkpointing
        self.chosen = _chosen(scorer.student.model, settings.parameters)

    @property
    def weights(self) -> int:
        """Number D of parameters that are differentiated; tied ones count once."""
        if self.settings.parameters == LORA_B:
            return sum(len(p) * LORA_RANK for p in self.chosen.values())
        return sum(p.numel() for p in self.chosen.values())

    def identity(self) -> dict[str, Any]:
        student = self.scorer.student
        scoring = {"max_length": self.scorer.max_length}
        return {"version": 2, "student": dict(student.identity), "scoring": scoring, **asdict(self.settings)}

    def __call__(self, trajectory: Trajectory) -> Row:
        chats, row = render(self.scorer.student, trajectory, self.scorer.max_length)
        positions = [chat.positions(self.settings.mask) for chat in chats]
        if not any(positions):
            return row
        tokens = sum(map(len, positions))
        projection = torch.zeros(self.settings.dimensions, device=self.scorer.student.device)

        def add(name: str, gradient: Tensor) -> None:
            seed = _seed(self.settings.seed, name)
            if self.settings.parameters == LORA_B:
                gradient = LORA_SCALE * gradient @ lora_a(gradient.shape[1], seed).to(gradient.device).T
            projection.add_(sketch(gradient.flatten(), seed, len(projection)).to(projection.device))

        with streaming(self.scorer.student.model, self.chosen, add, checkpointing=self.checkpointing):
            for chat, of_chat in zip(chats, positions, strict=True):
                if of_chat:
                    (summed_loss(self.scorer, chat.ids, of_chat) / tokens).backward()
        if not torch.isfinite(projection).all():
            raise InputError("its gradient is not finite (try float32; are the weights damaged?)")
        return row | {
            "projection": projection.tolist(),
            "weights": self.weights,
            "processed": sum(len(c.ids) for c in chats),
        }


def summed_loss(scorer: "Scorer", ids: Sequence[int], positions: Sequence[int], *, sample: bool = False) -> Tensor:
    """Sum of the cross-entropies of the tokens at positions, in float32 (nats).

    Args:
        sample: draw the tokens from the student's own distribution instead (for a Fisher matrix).
    """
    student = scorer.student
    sequence, at = torch.tensor(ids), torch.tensor(positions)
    states = scorer.body(input_ids=sequence[None].to(student.device), use_cache=False).last_hidden_state[0]
    hidden = states[at.to(states.device) - 1]
    head = Head(student.model)
    rows = max(1, scorer.head_chunk // head.vocabulary)

    def cross_entropy(states: Tensor, targets: Tensor) -> Tensor:
        logits = head(states).float()
        targets = targets.to(logits.device)
        if sample:
            targets = torch.multinomial(logits.detach().softmax(-1), 1)[:, 0]
        return nn.functional.cross_entropy(logits, targets, reduction="sum")

    chunks = zip(hidden.split(rows), sequence[at].split(rows), strict=True)
    sums = [checkpoint(cross_entropy, states, targets, use_reentrant=False) for states, targets in chunks]
    return torch.stack(sums).sum()


@contextmanager
def streaming(
    model: nn.Module,
    chosen: Mapping[str, nn.Parameter],
    use: Callable[[str, Tensor], None],
    *,
    checkpointing: bool = False,
) -> Iterator[None]:
    """Let the chosen parameters have gradients; each is handed over by name, in float32, and dropped."""
    handles = []
    for name, parameter in chosen.items():

        def hook(parameter: Tensor, name: str = name) -> None:
            assert parameter.grad is not None
            gradient, parameter.grad = parameter.grad.float(), None
            use(name, gradient)

        parameter.requires_grad_(True)
        handles.append(parameter.register_post_accumulate_grad_hook(hook))
    _checkpoint_layers(model, checkpointing)
    try:
        yield
    finally:
        _checkpoint_layers(model, False)
        for handle in handles:
            handle.remove()
        for parameter in chosen.values():
            parameter.requires_grad_(False).grad = None


def _checkpoint_layers(model: nn.Module, on: bool) -> None:
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            layer.gradient_checkpointing = on
            layer.__dict__["_gradient_checkpointing_func"] = partial(checkpoint, use_reentrant=False)
            # A layer is computed anew only in training mode; what it holds, such as dropout, stays as it is.
            layer.training = on


def _chosen(model: nn.Module, parameters: str) -> dict[str, nn.Parameter]:
    named = dict(model.named_parameters())  # tied ones once
    if parameters == LORA_B:
        chosen = {name: p for name, p in named.items() if name.removesuffix(".weight").endswith(LORA_MODULES)}
    else:
        chosen = {name: p for name, p in named.items() if parameters == "all" or fnmatch(name, parameters)}
    if any(p.is_meta for p in chosen.values()):
        raise InputError("weights in main memory or on disk have no gradients: larger or more GPUs are needed")
    if not chosen:
        raise InputError(f"no parameter fits {parameters!r}; there are {', '.join(list(named)[:5])}, ...")
    return chosen


def lora_a(features: int, seed: int) -> Tensor:
    """A fresh A matrix of a LoRA adapter, (rank, features): the gradient of B is that of the weight times A^T.

    Uniform within +-1 / sqrt(features), as the libraries initialise it.
    """
    generator = torch.Generator().manual_seed(seed % 2**63)
    bound = 1 / math.sqrt(features)
    return (torch.rand(LORA_RANK, features, generator=generator) * 2 - 1) * bound


def _seed(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "little", signed=True)


def fitting_dimensions(trajectories: int) -> int:
    """512, or the power of two that 90 % of the trajectories fill twice over (see `rsr.metrics.gradient.too_few`)."""
    dimensions = 512
    while dimensions > 1 and 2 * dimensions > 0.9 * trajectories:
        dimensions //= 2
    return dimensions


def sketch(gradient: Tensor, seed: int, dimensions: int) -> Tensor:
    """Count sketch of a flat gradient, shape (dimensions,)."""
    # 2 d places: those with a positive and those with a negative sign.
    places = torch.zeros(2 * dimensions, dtype=gradient.dtype, device=gradient.device)
    for start in range(0, len(gradient), CHUNK):
        part = gradient[start : start + CHUNK]
        places.index_add_(0, _places(start, len(part), seed, 2 * dimensions, part.device), part)
    return places[:dimensions] - places[dimensions:]


@lru_cache(KEPT)
def _places(start: int, count: int, seed: int, places: int, device: torch.device) -> Tensor:
    """A place below `places` for each of `count` positions: the splitmix64 hash, in int64 arithmetic that wraps."""
    x = torch.arange(start, start + count, device=device).mul_(-7046029254386353131).add_(seed)
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        x.bitwise_xor_((x >> shift).bitwise_and_(2 ** (64 - shift) - 1)).mul_(factor)
    x.bitwise_xor_((x >> 31).bitwise_and_(2**33 - 1))
    # The upper 31 bits as a fraction of 1.
    return x.bitwise_right_shift_(32).bitwise_and_(2**31 - 1).mul_(places).bitwise_right_shift_(31)
