"""The devices that a plan reckons with, by their data sheets."""

import os
from dataclasses import dataclass, replace

from experiments.app.processes import has_gpu
from experiments.app.shared_configs import Assumptions, Card
from rsr.student.threads import cores


@dataclass(frozen=True)
class Device:
    """One GPU, or one core of a CPU.

    Attributes:
        flops: a second, dense, in bfloat16 on a GPU and in float32 on a core.
        bandwidth: bytes a second of its memory.
        memory: bytes.
        step: seconds that a step of generation takes at least where Python runs it (transformers).
        server_step: the same where a server runs it.
        price: per hour, in whatever currency.
    """

    name: str
    gpu: bool
    flops: float
    bandwidth: float
    memory: float
    step: float
    server_step: float
    price: float


# A core's numbers are a guess at the order of magnitude: cores differ by tens.
SHEETS = {
    Card.cpu: Device("core", False, 1e11, 1e10, 0.0, 0.003, 0.003, 0.05),
    Card.a100: Device("A100", True, 3.12e14, 2.0e12, 80e9, 0.03, 0.008, 2.0),
    Card.h100: Device("H100", True, 9.89e14, 3.35e12, 80e9, 0.03, 0.008, 3.0),
    Card.h200: Device("H200", True, 9.89e14, 4.8e12, 141e9, 0.03, 0.008, 3.5),
}
SET = ("flops", "bandwidth", "memory", "step", "price")  # by the configuration, where it is not null


def device_of(assumed: Assumptions) -> Device:
    """The device of a plan: the card that is named, or else what is here, a core where there is no GPU."""
    card = assumed.card or (Card.h100 if has_gpu() else Card.cpu)
    sheet = SHEETS[card]
    if card is Card.cpu:
        sheet = replace(sheet, memory=float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    return replace(sheet, **{name: value for name in SET if (value := getattr(assumed, name)) is not None})


def count_of(assumed: Assumptions, device: Device) -> int:
    """Devices of a plan: as many as are given, or else eight GPUs, or the cores of this machine."""
    return assumed.devices or (8 if device.gpu else cores())
