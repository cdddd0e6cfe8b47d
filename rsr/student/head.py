"""A student's head: from hidden states to logits."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rsr.errors import InputError
from rsr.student.settings import HeadDtype

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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
        if self.dtype == "float32":
            hidden = hidden.to(next(self.product.parameters()))
        logits: Tensor = self.product(hidden)
        for step, value in self.after:
            logits = step(logits, value)
        return logits


def _set(config: Any, name: str) -> bool:
    return bool(getattr(config, name, None))


def _in_float32(product: nn.Module) -> nn.Module:
    """A float32 copy of a head, whose weights may be shared with the embeddings."""
    if not isinstance(product, nn.Linear):
        raise InputError(f"the head is a {type(product).__name__}, which has no float32 copy: take head_dtype=model")
    if product.weight.is_meta:
        raise InputError("the head lies in main memory or on disk, which leaves no float32 copy: take head_dtype=model")
    copy = nn.Linear(
        product.in_features, product.out_features, bias=product.bias is not None, device=product.weight.device
    )
    copy.load_state_dict({name: value.float() for name, value in product.state_dict().items()})
    return copy
