"""A student that is spread over two processes learns as in one."""

import os
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from experiments.app.shared_configs import ROOT
from rsr.store.artefacts import of_folder
from tests.models import save
from tests.train.test_sft import SETTINGS, curve, dataset
from train import sft
from train.settings import Training
from train.sft import Base, fine_tune

FSDP = ["--use_fsdp", "--fsdp_version", "2", "--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP"]
FSDP += ["--fsdp_reshard_after_forward", "true", "--fsdp_state_dict_type", "FULL_STATE_DICT"]
FSDP += ["--fsdp_cpu_ram_efficient_loading", "true"]


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_fsdp_gives_the_losses_and_weights_of_one_process(tmp_path, tied):
    model = save(tmp_path / "tiny", tied=tied)
    settings = Training(**SETTINGS, micro_batch=8)
    alone = fine_tune(Base("tiny", str(model)), dataset(), settings, tmp_path / "one")
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    command = [*launch, *FSDP, str(ROOT / "tests" / "train" / "spread.py"), str(model), str(tmp_path / "two")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    spread = of_folder(next((tmp_path / "two" / "trained").glob("tiny-*")))
    assert curve(spread) == pytest.approx(curve(alone), abs=1e-5)
    one, two = (load_file(trained.path / sft.MODEL / "model.safetensors") for trained in (alone, spread))
    assert one.keys() == two.keys()
    assert all(two[name].allclose(weight, atol=1e-5) for name, weight in one.items())
