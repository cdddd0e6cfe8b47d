"""A student that is spread over two processes learns as in one."""

import os
import subprocess
import sys

import pytest
import yaml
from safetensors.torch import load_file

from experiments.app.shared_configs import ROOT
from rsr.store.artefacts import of_folder
from tests.models import save
from tests.train.test_sft import SETTINGS, curve, dataset
from train import sft
from train.base import Base
from train.settings import Training
from train.sft import fine_tune

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def environment():
    """What accelerate's launcher makes of the shipped configuration, but that it takes no CPUs."""
    config = yaml.safe_load((ROOT / "configs" / "accelerate" / "fsdp.yaml").read_text())["fsdp_config"]
    given = {name.upper(): str(value) for name, value in config.items()}
    own = {"ACCELERATE_USE_FSDP": "true", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return os.environ | given | own | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}


@pytest.mark.full
@pytest.mark.parametrize("tied", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_fsdp_gives_the_losses_and_weights_of_one_process(tmp_path, tied):
    model = save(tmp_path / "tiny", tied=tied)
    alone = fine_tune(Base("tiny", str(model)), dataset(), Training(**SETTINGS, micro_batch=8), tmp_path / "one")
    command = [*LAUNCH, str(ROOT / "tests" / "train" / "spread.py"), str(model), str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment())
    assert done.returncode == 0, done.stderr[-3000:]
    spread = of_folder(next((tmp_path / "two" / "trained").glob("tiny-*")))
    assert spread.facts["computed_with"]["processes"] == 2
    assert curve(spread) == pytest.approx(curve(alone), abs=1e-5)
    one, two = (load_file(trained.path / sft.MODEL / "model.safetensors") for trained in (alone, spread))
    assert one.keys() == two.keys()
    assert all(two[name].allclose(weight, atol=1e-5) for name, weight in one.items())
