"""What is saved of a training, and what is said of its answers."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rsr.errors import InputError
from tests.train.test_sft import SETTINGS, base, dataset  # noqa: F401  a fixture
from train import devices, sft, stopping
from train.rows import IGNORED, Rows
from train.settings import LoRA, Training
from train.sft import fine_tune


@pytest.mark.parametrize("lora", [LoRA(), LoRA(rank=2)])
def test_weights_trained_under_bf16_are_saved_in_it(base, tmp_path, lora):  # noqa: F811
    one_step = SETTINGS | {"epochs": 1, "batch_size": 24, "lora": lora}
    settings = Training(**one_step, bf16=True)
    assert settings.identity() != Training(**one_step).identity()
    trained = fine_tune(base, dataset(), settings, tmp_path)
    folder = trained.path / sft.MODEL
    weights = load_file(folder / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    header = int.from_bytes((folder / "model.safetensors").read_bytes()[:8], "little") + 8
    numbers = sum(weight.numel() for weight in load_file(Path(base.model) / "model.safetensors").values())
    assert (folder / "model.safetensors").stat().st_size == header + 2 * numbers
    assert {*json.loads((folder / "tokenizer_config.json").read_text())} >= {"eos_token"}


def rows(*answers):
    return Rows(
        [[1, *ids] for ids in answers], [[IGNORED, *ids] for ids in answers], prompts=[[1] for _ in answers], eot=9
    )


def test_where_trained_answers_are_too_long_to_end_nothing_is_said_of_stopping(tmp_path):
    """No model is asked: there is none in the folder."""
    long = rows([5] * 600 + [9], [5] * 700 + [9])
    within = stopping.tokens_to_stop_within(long)
    assert within == stopping.MOST
    assert stopping.rate_of_stopping(tmp_path, long, within, None, trust_remote_code=False) is None
    assert stopping.tokens_to_stop_within(rows([5, 9], [5, 5, 5, 9])) == 4


def test_training_in_one_process_wants_one_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match="takes one GPU, and 2 are visible: set CUDA_VISIBLE_DEVICES=0"):
        devices.refuse_several(processes=1)
    devices.refuse_several(processes=2)


def test_fsdp_that_would_be_copies_is_refused(base, tmp_path, monkeypatch):  # noqa: F811
    """accelerate leaves it out on CPUs and says nothing."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(InputError, match="FSDP was asked for, and accelerate spreads weights over several GPUs alone"):
        fine_tune(base, dataset(), Training(**SETTINGS), tmp_path)
