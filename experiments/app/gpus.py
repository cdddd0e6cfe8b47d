"""The GPUs that a process may use; torch is not asked, which would fix their number."""

import os
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"


def gpus() -> list[str]:
    """As CUDA_VISIBLE_DEVICES has them, or else all of this machine."""
    given = os.environ.get(VISIBLE)
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    return [str(i) for i in range(len([*Path("/dev").glob("nvidia[0-9]*")]))]


def take_one_gpu() -> None:
    """See the first GPU alone, as a training wants that no launcher spreads over several; to be called before CUDA is used."""
    if "WORLD_SIZE" not in os.environ and len(gpus()) > 1:
        os.environ[VISIBLE] = gpus()[0]
