"""The device that a student runs on, and the dtype that suits it."""

import logging
import time
from typing import TYPE_CHECKING

from rsr.errors import InputError
from rsr.student.settings import Dtype, WeightsDtype

if TYPE_CHECKING:
    import torch

LOG = logging.getLogger(__name__)
CPU_BFLOAT16 = ("amx_bf16", "avx512_bf16", "avx10_2", "bf16", "sve_bf16")  # instruction sets with products in bfloat16
SLOW, PROBED = 2.0, 384  # a product so many times slower than in float32 is told of; the width of the probed product


def device_of(name: str | None) -> "torch.device":
    """A device by its name; None takes a GPU where there is one.

    Raises:
        InputError: it cannot be used.
    """
    import torch

    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device


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
            "dtype %s: this %s %s bfloat16 in hardware (another is chosen by dtype=...)", taken, device.type, reason
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
