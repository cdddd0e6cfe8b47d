"""The device that a student runs on, and the dtype that suits it."""

import logging
import os
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from rsr.errors import InputError
from rsr.student.settings import SPREAD, Dtype, WeightsDtype
from rsr.student.threads import CGROUP

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

LOG = logging.getLogger(__name__)
CPU_BFLOAT16 = ("amx_bf16", "avx512_bf16", "avx10_2", "bf16", "sve_bf16")  # instruction sets with products in bfloat16
SLOW, PROBED = 2.0, 384  # a product so many times slower than in float32 is told of; the width of the probed product


def device_of(name: str | None) -> "torch.device":
    """A device by its name; None takes a GPU where there is one, and "auto" begins there.

    Raises:
        InputError: it cannot be used.
    """
    import torch

    try:
        own = "cuda" if torch.cuda.is_available() else "cpu"
        device = torch.device(own if name in (None, SPREAD) else name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device


def first_device(model: "PreTrainedModel") -> "torch.device":
    """The device that token ids go to: that of the embeddings, also where these are fetched for every batch."""
    import torch

    hook = getattr(model.get_input_embeddings(), "_hf_hook", None)
    return model.device if hook is None else torch.device(hook.execution_device)


def places(model: "PreTrainedModel") -> dict[str, int]:
    """Bytes of a model's weights by the device that they lie on; "offloaded" are those in main memory or on disk that are copied
    to a device for every batch."""
    size: Counter[str] = Counter()
    for parameter in model.parameters():
        place = "offloaded" if parameter.is_meta else str(parameter.device)
        size[place] += parameter.numel() * parameter.element_size()
    return dict(size)


def memory_on(device: "torch.device") -> int:
    """Bytes of a device that this process has or can have; of a CPU all memory that it may use."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in (CGROUP / "memory.max", CGROUP / "memory" / "memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # "max" where there is no limit
            memory = min(memory, int(limit.read_text()))
    return memory


def copied(tensor: "torch.Tensor", device: "torch.device") -> "torch.Tensor":
    """A tensor of the CPU on a device; a GPU copies it once it comes to it, and is not waited for."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def weights_dtype(dtype: Dtype, device: str | None = None) -> WeightsDtype:
    """The dtype that weights are loaded in: the one asked for; of "auto" bfloat16 where the device computes it in hardware, else
    float32.

    The answer follows from the device alone, never from a measurement: it is part of what scores are known by.

    Raises:
        InputError: the device cannot be used.
    """
    if dtype != "auto":
        return dtype
    return "bfloat16" if computes_bfloat16(device_of(device)) else "float32"


def computes_bfloat16(device: "torch.device") -> bool:
    """Whether a device multiplies in bfloat16 in hardware; False where torch cannot tell."""
    import torch

    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name) for name in CPU_BFLOAT16)
    return False


def tell_of_dtype(asked: Dtype, taken: WeightsDtype, device: "torch.device") -> None:
    """Say which dtype "auto" took and why, or that the one asked for is slow here."""
    hardware = computes_bfloat16(device)
    if asked == "auto":
        reason = "computes" if hardware else "does not compute"
        LOG.warning(
            "dtype %s: this %s %s bfloat16 in hardware (--dtype, or dtype=..., chooses another)",
            taken,
            device.type,
            reason,
        )
    elif taken == "bfloat16" and not hardware and (times := _times_slower(taken, device)) > SLOW:
        LOG.warning(
            "dtype %s is slow on this %s: a product takes %.0f times as long as in float32", taken, device.type, times
        )


def _times_slower(dtype: WeightsDtype, device: "torch.device") -> float:
    """Seconds of a matrix product over those in float32."""
    import torch

    def seconds(of: torch.dtype) -> float:
        square = torch.ones(PROBED, PROBED, dtype=of, device=device)
        began = time.perf_counter()
        float((square @ square)[0, 0])
        return time.perf_counter() - began

    seconds(torch.float32)  # threads start
    return seconds(getattr(torch, dtype)) / seconds(torch.float32)
