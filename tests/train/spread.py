"""Fine-tunes a tiny student in one of two processes, its weights spread by FSDP: started by `accelerate launch`.

    accelerate launch --cpu --num_processes 2 --use_fsdp ... tests/train/spread.py MODEL OUTPUTS

accelerate takes FSDP for GPUs alone: on CPUs it would copy the student to every process and say nothing. That gate alone is
lifted here; what shards, gathers and saves is what runs on GPUs.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import accelerate.state as state

from tests.train.test_sft import SETTINGS, dataset
from train.settings import Training
from train.sft import Base, fine_tune

KINDS = {kind.name: kind for kind in state.DistributedType}

if __name__ == "__main__":
    model, outputs = sys.argv[1:]
    state.DistributedType = SimpleNamespace(**KINDS | {"MULTI_NEURON": KINDS["MULTI_CPU"]})
    settings = Training(**SETTINGS, micro_batch=4, gradient_checkpointing=True)
    fine_tune(Base("tiny", model), dataset(), settings, Path(outputs))
