"""A student's head: from hidden states to logits, and from logits to rank, surprisal and entropy.

Logits exist for some positions at a time and are swept once, in blocks that stay in a CPU's cache, so that memory does not
grow with length times vocabulary and the sweep costs a fraction of the product that makes them.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from rsr.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

HeadDtype = Literal["model", "float32"]

CACHED_LOGITS = 2**18  # logits whose float32 copies stay in a CPU core's cache

# What models do to the product with the vocabulary, by the name in their configuration; in the order of their own steps, so
# that rounding, and with it ties, are theirs. What is not here is found out by the engine's probe and refused.
AFTER_PRODUCT: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "logit_scale": lambda logits, scale: logits * scale,  # Cohere
    "logits_scaling": lambda logits, scale: logits / scale,  # Granite
    "final_logit_softcapping": lambda logits, cap: torch.tanh(logits / cap) * cap,  # Gemma
}


class Head:
    """The head of a causal language model.

    Args:
        dtype: "model" computes logits in the model's dtype; "float32" in float32.

    Raises:
        InputError: the model has no output head, or one that has no copy in float32.
    """

    def __init__(self, model: "PreTrainedModel", dtype: HeadDtype = "model") -> None:
        product = model.get_output_embeddings()
        if product is None:
            raise InputError(f"{type(model).__name__}: the model has no output head")
        config = model.config.get_text_config()
        self.product = product if dtype == "model" else _in_float32(product)
        self.dtype = dtype
        self.vocabulary = int(config.vocab_size)
        self.after = [
            (step, float(getattr(config, name))) for name, step in AFTER_PRODUCT.items() if _set(config, name)
        ]

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits (positions, vocabulary) of hidden states (positions, width)."""
        logits: Tensor = self.product(hidden.float() if self.dtype == "float32" else hidden)
        for step, value in self.after:
            logits = step(logits, value)
        return logits

    def statistics(
        self, hidden: Tensor, positions: Tensor, targets: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rank (uint32), surprisal and entropy (float32, nats) of targets, on the CPU.

        Args:
            hidden: (tokens, width); positions: rows of it; targets: the token id that each of these predicts.
            chunk: logits in memory at a time.
        """
        rows = max(1, chunk // self.vocabulary)
        # Written in place: small results kept between large logits would hold the heap open, some GB on a long chat.
        out = tuple(torch.empty(len(targets), dtype=dtype) for dtype in (torch.int32, torch.float32, torch.float32))
        for start in range(0, len(targets), rows):
            part = slice(start, start + rows)
            for column, values in zip(out, token_statistics(self(hidden[positions[part]]), targets[part]), strict=True):
                column[part] = values
        rank, surprisal, entropy = out
        return rank.to(torch.uint32), surprisal, entropy


def token_statistics(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rank, surprisal and entropy of target tokens.

    Args:
        logits: (tokens, vocabulary), any floating dtype.
        targets: (tokens,), token ids.

    Returns:
        rank: int32, 1 + number of strictly larger logits in the dtype given; surprisal and entropy: float32, nats, from
        a log-sum-exp in float32.
    """
    tokens, vocabulary = logits.shape
    cached = max(1, CACHED_LOGITS * torch.get_num_threads() // vocabulary)
    rows = min(tokens, cached) if logits.device.type == "cpu" else tokens
    wide, work = logits.new_empty((2, rows, vocabulary), dtype=torch.float32)
    target = logits.gather(-1, targets[:, None]).float()
    larger, total, weighted = logits.new_empty((3, tokens), dtype=torch.float32)
    largest = torch.empty_like(target)
    # Each pass reads and writes float32 alone: those that mix dtypes or make booleans are not vectorised on a CPU and cost
    # ten times as much. Widening keeps the order and the ties of the logits, and a count below 2^24 is exact.
    for at in range(0, tokens, rows):
        part = slice(at, min(at + rows, tokens))
        x, y = wide[: part.stop - at], work[: part.stop - at]
        torch.gt(x.copy_(logits[part]), target[part], out=y)
        torch.sum(y, -1, out=larger[part])
        torch.amax(x, -1, keepdim=True, out=largest[part])
        torch.exp(x.sub_(largest[part]), out=y)
        torch.sum(y, -1, out=total[part])
        # A logit of -inf (a token that the model rules out) weighs nothing, though 0 x inf is not a number.
        torch.nansum(y.mul_(x), -1, out=weighted[part])
    log_total = total.log()
    surprisal = log_total + (largest - target).squeeze(-1)
    return larger.int() + 1, surprisal, log_total - weighted / total  # H = ln Z - E[logit]


def _set(config: Any, name: str) -> bool:
    return bool(getattr(config, name, None))


def _in_float32(product: nn.Module) -> nn.Module:
    """A float32 copy of a head, whose weights may be shared with the embeddings."""
    if not isinstance(product, nn.Linear):
        raise InputError(f"the head is a {type(product).__name__}, which has no float32 copy: take head_dtype=model")
    copy = nn.Linear(
        product.in_features, product.out_features, bias=product.bias is not None, device=product.weight.device
    )
    copy.load_state_dict({name: value.float() for name, value in product.state_dict().items()})
    return copy
