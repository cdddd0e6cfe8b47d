"""The devices that a training may see, and whether it is spread over them as was asked for."""

import os
from typing import TYPE_CHECKING

from rsr.errors import InputError

if TYPE_CHECKING:
    from transformers import Trainer


def refuse_several(processes: int) -> None:
    """Refuse a process that trains alone and sees several GPUs, which the trainer would copy the model to.

    Raises:
        InputError: it does.
    """
    import torch

    if processes == 1 and (seen := torch.cuda.device_count()) > 1:
        raise InputError(
            f"training in one process takes one GPU, and {seen} are visible: set CUDA_VISIBLE_DEVICES=0, or spread the student "
            "over all of them by accelerate launch"
        )


def refuse_copies(trainer: "Trainer") -> None:
    """Refuse a training that was to be spread by FSDP, and that the launcher has copied to every process instead.

    Raises:
        InputError: it has, as on CPUs.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true" and not trainer.is_fsdp_enabled:
        raise InputError(
            "FSDP was asked for, and accelerate spreads weights over several GPUs alone: start it without FSDP here"
        )
