"""The loss in tiles: that of whole logits, which never exist, or a refusal."""

import copy
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import RecurrentGemmaConfig, RecurrentGemmaForCausalLM
from trl.kernels import chunked_logprob
from trl.trainer import utils

from rsr.errors import InputError
from tests.models import save
from tests.train.test_sft import SETTINGS, base, dataset  # noqa: F401  a fixture
from train import memory, sft
from train.base import Base
from train.rows import IGNORED, training_rows
from train.settings import Overlong, Training
from train.sft import Tracking, fine_tune


class Largest(TorchDispatchMode):
    """Numbers in the largest tensor that is made."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return made


def test_tiles_give_the_loss_and_gradients_of_whole_logits(base, tmp_path, monkeypatch):  # noqa: F811
    """Tiles are made so small that chats and vocabulary take several of each."""
    assert (chunked_logprob.TOKEN_CHUNK_SIZE, utils._CHUNKED_LOGPROB_CHUNK_SIZE) == memory.TILE
    monkeypatch.setattr(chunked_logprob, "TOKEN_CHUNK_SIZE", 100)
    monkeypatch.setattr(utils, "_CHUNKED_LOGPROB_CHUNK_SIZE", 50)
    settings = Training(**SETTINGS, micro_batch=8)
    rows = training_rows(base.renderer, dataset(), 600, Overlong.error)
    trainer = sft._trainer(base, rows, settings, tmp_path, Tracking(), lambda step, steps: None)
    batch = next(iter(trainer.get_train_dataloader()))
    model: Any = trainer.model
    untiled = copy.deepcopy(model)
    with Largest() as largest:
        loss = trainer.compute_loss(model, dict(batch))
        loss.backward()
    labels = batch["labels"]
    logits = type(untiled).forward(untiled, batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert largest.numbers < logits.numel() / 2
    targets = labels[:, 1:].flatten()
    plain = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), targets, ignore_index=IGNORED)
    plain.backward()
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    for (name, tiled), whole in zip(model.named_parameters(), untiled.parameters(), strict=True):
        assert torch.allclose(tiled.grad, whole.grad, rtol=1e-4, atol=1e-5), name


def test_a_head_that_the_tiles_do_not_know_is_refused(tmp_path):
    """RecurrentGemma caps its logits under a name of its own."""
    torch.manual_seed(0)
    config = RecurrentGemmaConfig(
        vocab_size=323,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        lru_width=32,
        logits_soft_cap=0.5,
        w_init_variance_scale=4.0,
    )
    RecurrentGemmaForCausalLM(config).save_pretrained(save(tmp_path / "capped"))
    with pytest.raises(InputError, match="its head does more to logits than the training loss knows"):
        fine_tune(Base("capped", str(tmp_path / "capped")), dataset(), Training(**SETTINGS), tmp_path)
