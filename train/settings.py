"""Settings of supervised fine-tuning and of reinforcement."""

from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Any

from rsr.errors import InputError


class Overlong(Enum):
    """What becomes of a trajectory longer than max_length."""

    error = "error"
    truncate = "truncate"  # cut on the right: its answer and end-of-turn token are lost
    drop = "drop"


class TokenWeights(Enum):
    """What each response token counts (`rsr.tokens.token_weights`)."""

    equal = "equal"
    ranktuner = "ranktuner"
    rsi = "rsi"


@dataclass
class LoRA:
    """Low-rank adapters on every linear layer; merged into the saved weights."""

    rank: int = 0  # 0: none, all weights are trained
    alpha: int = 32


@dataclass
class Training:
    """Supervised fine-tuning; the first four are what most of the paper's students have (Table 9)."""

    learning_rate: float = 2e-5
    batch_size: int = 64  # trajectories per optimiser step, over all devices
    epochs: int = 10
    max_length: int = 32768  # tokens
    overlong: Overlong = Overlong.error
    warmup: float = 0.0  # share of the steps; cosine after it
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    seed: int = 0  # of the order of trajectories
    lora: LoRA = field(default_factory=LoRA)
    bf16: bool = False  # autocast to bfloat16 and save weights in it
    packing: bool = False  # fill each sequence to max_length with whole trajectories
    token_weights: TokenWeights = TokenWeights.equal  # times the weights of trajectories, where their records have them
    attention: str | None = None  # null: the model's own, sdpa or else eager
    # How it is computed; the result stays the same but for rounding, so these are no part of what identifies it.
    micro_batch: int = 1  # trajectories per device and forward pass, the rest by accumulation
    gradient_checkpointing: bool = False
    checkpoints: int = 10  # saved over a run, to go on from after a kill

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "max_length", "micro_batch", "checkpoints"):
            if (value := getattr(self, name)) < 1:
                raise InputError(f"student.training.{name}={value} is too small: the least is 1")
        if not 0 <= self.warmup < 1:
            raise InputError(
                f"student.training.warmup={self.warmup} is no share of the steps: it lies from 0 to below 1"
            )
        _check_optimiser("student.training", self)
        if not 0 <= self.weight_decay < inf:
            raise InputError(f"student.training.weight_decay={self.weight_decay} is no number from 0")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"student.training.betas={self.betas} are not two numbers from 0 to below 1")
        if self.lora.rank < 0 or not self.lora.alpha > 0:
            raise InputError(
                f"student.training.lora.rank={self.lora.rank}, alpha={self.lora.alpha}: a rank is 0 (no adapters) or more, an "
                "alpha above 0"
            )

    def identity(self) -> dict[str, Any]:
        """What shapes the trained weights."""
        computed = ("micro_batch", "gradient_checkpointing", "checkpoints")
        shaping = {name: value for name, value in vars(self).items() if name not in (*computed, "token_weights")}
        weights = {} if self.token_weights is TokenWeights.equal else {"token_weights": self.token_weights.value}
        return (
            shaping | weights | {"overlong": self.overlong.value, "lora": vars(self.lora) if self.lora.rank else None}
        )


def _check_optimiser(where: str, settings: "Training | Reinforcement") -> None:
    """Refuse numbers that no optimiser takes, or that would be taken and mean nothing."""
    if not 0 < settings.learning_rate < inf:
        raise InputError(f"{where}.learning_rate={settings.learning_rate} is no number above 0")
    if not 0 <= settings.max_grad_norm < inf:
        raise InputError(f"{where}.max_grad_norm={settings.max_grad_norm} is no number from 0 (which clips nothing)")
    if not 0 <= settings.seed < 2**32:
        raise InputError(f"{where}.seed={settings.seed} is no seed: it lies from 0 to below 2**32")


@dataclass
class Reinforcement:
    """Group-relative policy optimisation (GRPO) with a right answer as the reward."""

    steps: int = 200
    learning_rate: float = 1e-6
    prompts: int = 16  # per step
    samples: int = 8  # of each prompt: the group that a reward is compared with
    temperature: float = 1.0
    max_new_tokens: int = 4096
    max_grad_norm: float = 1.0
    seed: int = 0
    micro_batch: int = 8  # samples per forward pass, the rest by accumulation; changes nothing but for rounding

    def __post_init__(self) -> None:
        for name in ("steps", "prompts", "max_new_tokens", "micro_batch"):
            if (value := getattr(self, name)) < 1:
                raise InputError(f"reinforcement.{name}={value} is too small: the least is 1")
        if self.samples < 2:
            raise InputError(f"reinforcement.samples={self.samples}: a group to compare a reward with has at least 2")
        if self.prompts * self.samples % self.micro_batch:
            raise InputError(
                f"reinforcement.micro_batch={self.micro_batch} does not divide prompts={self.prompts} times "
                f"samples={self.samples}"
            )
        _check_optimiser("reinforcement", self)
        if not 0 < self.temperature < inf:
            raise InputError(f"reinforcement.temperature={self.temperature} is no number above 0")

    def identity(self) -> dict[str, Any]:
        """What shapes the trained weights."""
        return {name: value for name, value in vars(self).items() if name != "micro_batch"}
