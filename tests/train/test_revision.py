"""A pinned revision is what is trained, wherever a student is loaded by its hub name."""

from typing import Any

import pytest
import torch
from huggingface_hub import constants
from transformers import AutoModelForCausalLM

from rsr.grading.grader import Grader, Kind
from tests.models import save
from tests.train.test_grpo import SETTINGS, problems
from train import grpo
from train.base import Base
from train.sft import trainable

OLD, NEW = "a" * 40, "b" * 40


def embeddings(model: Any) -> torch.Tensor:
    weight: torch.Tensor = model.get_input_embeddings().weight
    return weight


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A hub's cache with two revisions of a student; the newest has no chat template, and the hub is out of reach."""
    of_student = tmp_path / "models--org--student"
    save(of_student / "snapshots" / OLD, seed=0)
    save(of_student / "snapshots" / NEW, seed=1, template=None)
    (of_student / "refs").mkdir()
    (of_student / "refs" / "main").write_text(NEW)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return of_student / "snapshots"


def test_fine_tuning_and_reinforcement_start_from_the_pinned_revision(cache, tmp_path):
    base = Base("student", "org/student", revision=OLD)
    pinned = embeddings(AutoModelForCausalLM.from_pretrained(cache / OLD))
    assert torch.equal(embeddings(trainable(base, base.model)), pinned)
    eot = base.renderer.eot_id()
    assert eot is not None
    task = grpo.task_of(base.renderer, problems(answer="1"), None, Kind.mathematics)
    with Grader(kind=Kind.mathematics) as grader:
        trainer = grpo._trainer(
            base, base.model, eot, task, SETTINGS, tmp_path / "out", grader, lambda step, steps: None
        )
    assert trainer.ref_model is None  # it would be loaded by name alone
    assert torch.equal(embeddings(trainer.model), pinned)
