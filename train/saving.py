"""A trained student as a folder that any loader takes, and that ends its turns as it was trained to."""

import shutil
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rsr.student.chat import ChatRenderer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast, Trainer


def save(
    trainer: "Trainer",
    model: Any,
    tokenizer: "PreTrainedTokenizerFast",
    dtype: Literal["bfloat16", "float32"],
    folder: Path,
) -> None:
    """Save the weights that a trainer has trained; what is spread over devices is gathered.

    Every process of a training calls it. The weights and their configuration have the dtype, whatever they were trained in.

    Args:
        model: the trainer's, out of its wrappers and with its adapters merged.
    """
    import torch

    spread = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    gathered = trainer.accelerator.get_state_dict(trainer.model_wrapped) if spread else None
    if not trainer.is_world_process_zero():
        return
    # What was half written is not written over: whoever wrote it may be asleep.
    shutil.rmtree(folder, ignore_errors=True)
    kind = getattr(torch, dtype)
    if gathered is None:
        model.to(kind).save_pretrained(folder)
    else:
        model.save_pretrained(folder, state_dict=_as_saved(model, gathered, kind))
        model.config.dtype = kind  # else that of the parts that this process trained
        model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _as_saved(model: Any, gathered: dict[str, Any], dtype: Any) -> dict[str, Any]:
    """Gathered weights in the dtype that they are saved in; one that is tied to another is left to it."""
    tied = model.all_tied_weights_keys
    return {name: weight.to(dtype) for name, weight in gathered.items() if name not in tied}


def tokenizer_of(renderer: ChatRenderer, eot: int) -> "PreTrainedTokenizerFast":
    """A copy of the renderer's tokenizer, with its template, that ends a text as it ends a turn."""
    tokenizer = deepcopy(renderer.tokenizer)
    tokenizer.chat_template = renderer.template.named
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(eot)
    return tokenizer


def end_turns(model: "PreTrainedModel", eot: int) -> None:
    """Generation stops at the trained end-of-turn token, and at whatever ended a text before."""
    before = model.generation_config.eos_token_id
    others = before if isinstance(before, list) else [] if before is None else [before]
    model.generation_config.eos_token_id = [eot, *(token for token in others if token != eot)]
    model.config.eos_token_id = eot
