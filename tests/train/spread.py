"""Fine-tunes a tiny student as one of several processes that FSDP spreads it over: started by torch's launcher.

    python -m torch.distributed.run --nproc-per-node 2 tests/train/spread.py MODEL OUTPUTS

accelerate takes FSDP for GPUs alone: on CPUs it would copy the student to every process and say nothing. That gate alone is
lifted here; what shards, gathers and saves is what runs on GPUs.
"""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import accelerate.state

from tests.train.test_sft import SETTINGS, dataset
from train.base import Base
from train.settings import Training
from train.sft import fine_tune

KINDS = {kind.name: kind for kind in accelerate.state.DistributedType}

if __name__ == "__main__":
    model, outputs = sys.argv[1:]
    state: Any = accelerate.state
    state.DistributedType = SimpleNamespace(**KINDS | {"MULTI_NEURON": KINDS["MULTI_CPU"]})
    settings = Training(**SETTINGS, micro_batch=4, gradient_checkpointing=True)
    fine_tune(Base("tiny", model), dataset(), settings, Path(outputs))
