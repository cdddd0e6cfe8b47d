"""What a study would take: shapes against real models, memory against what a backward pass keeps, tokens against print."""

from typing import Any

import polars as pl
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

import experiments.plan  # noqa: F401  registers its schema
from experiments.app.entry import _open
from experiments.app.shared_configs import ROOT
from experiments.study import cost_model, plan
from rsr.errors import InputError
from tests.clients import teachers
from train import memory
from train.memory import Shape, Spread

# As their model cards say.
PARAMETERS = {
    "qwen14b": 14_768_307_200,
    "llama8b": 8_030_261_248,
    "qwen7b": 7_615_616_512,
    "qwen4b": 4_022_468_096,
    "qwen3b": 3_085_938_688,
}
SMALL: dict[str, Any] = dict(
    vocab_size=100, hidden_size=128, intermediate_size=384, num_attention_heads=8, num_key_value_heads=2
)
CONFIGS = str(ROOT / "configs")
QWEN14B = Shape(40, 5120, 17408, 40, 8, 128, 151936, head_norms=True)


def composed(*overrides):
    with initialize_config_dir(CONFIGS, version_base="1.3"):
        return OmegaConf.to_object(compose("plan", overrides=list(overrides)))


@pytest.mark.parametrize("student", PARAMETERS)
def test_shapes_of_the_papers_students_have_their_parameters(student):
    assert composed(f"student={student}").student.shape.parameters == PARAMETERS[student]


@pytest.mark.parametrize(
    ("config", "model"),
    [
        (LlamaConfig(**SMALL, num_hidden_layers=3), LlamaForCausalLM),
        (Qwen2Config(**SMALL, num_hidden_layers=2, tie_word_embeddings=True), Qwen2ForCausalLM),
        (Qwen3Config(**SMALL, num_hidden_layers=2, head_dim=32), Qwen3ForCausalLM),
    ],
)
def test_the_shape_of_a_configuration_has_the_models_parameters(config, model):
    with torch.device("meta"):
        parameters = sum(p.numel() for p in model(config).parameters())
    shape = memory.of_config(config)
    assert shape is not None and shape.parameters == parameters


def kept_by(layers: int, tokens: int, checkpointing: bool) -> int:
    """Bytes that a forward pass under autocast keeps for its backward pass and that are no (cast) weights."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SMALL, num_hidden_layers=layers, max_position_embeddings=tokens)).train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    storages: dict[int, int] = {}
    kept = []

    def keep(tensor):
        kept.append(tensor)
        if tokens in tensor.shape:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", dtype=torch.bfloat16):
        model.model(input_ids=torch.arange(tokens)[None] % 100, use_cache=False)
    return sum(storages.values())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_those_that_a_layer_keeps(checkpointing):
    tokens = 500  # no other size of the model
    shape = memory.of_config(LlamaConfig(**SMALL, num_hidden_layers=1))
    assert shape is not None
    measured = (kept_by(3, tokens, checkpointing) - kept_by(1, tokens, checkpointing)) / 2 / tokens
    expected = memory.FLOAT32 * shape.hidden if checkpointing else memory.layer_activations(shape)
    # Besides there are the norms' scales and the attention's log-sum-exp, a float32 a norm and head.
    assert expected <= measured <= expected + 4 * (2 + shape.heads)


def test_memory_of_14b_at_32k():
    """By hand: 16 bytes a parameter, 10 a logit."""
    one = memory.of_training(QWEN14B, 32_768, 1, Spread.none, checkpointing=True)
    assert one.weights + one.gradients + one.optimiser == 16 * PARAMETERS["qwen14b"]
    assert one.logits == 10 * 151_936 * 32_768
    assert one.activations == 32_768 * (40 * 4 * 5120 + memory.layer_activations(QWEN14B))
    assert one.device > 141e9
    spread = memory.of_training(QWEN14B, 32_768, 8, Spread.fsdp, checkpointing=True)
    assert spread.weights * 8 == one.weights and spread.activations == one.activations
    assert spread.device < 141e9 < memory.of_training(QWEN14B, 32_768, 8, Spread.fsdp, checkpointing=False).device
    offloaded = memory.of_training(QWEN14B, 32_768, 8, Spread.offloaded, checkpointing=True)
    assert offloaded.main_memory == 12 * PARAMETERS["qwen14b"] and offloaded.device < spread.device


@pytest.mark.full
def test_the_papers_study_is_planned_from_print(run):
    done = run("plan.py", "student=qwen14b", "plan.price=2")
    assert done.returncode == 0, done.stderr
    rows = pl.read_csv(ROOT / "results/published/metrics.csv").filter(student="qwen14b", metric="avg_token_length")
    tokens = 15_000 * rows["printed_value"].cast(pl.Float64).sum()
    lines = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ") for line in done.stdout.splitlines()}
    assert float(lines["score"][2]) == pytest.approx(tokens, rel=0.01)
    assert float(lines["train"][2]) == pytest.approx(8 * tokens, rel=0.01)
    for stage in ("score", "train", "evaluate", "all"):
        hours, cost = (float(lines[stage][i].replace(",", "")) for i in (3, 4))
        assert cost == pytest.approx(2 * hours, rel=0.01, abs=0.5)
    for said in (
        "33 from 11 teachers, 165,000 trajectories",
        "what is done is not known",
        "assumed: mean lengths of responses as the paper prints them",
        "(plan.price)",
        "nothing of it is measured",
    ):
        assert said in done.stdout


def test_operations_are_counted_as_they_are():
    """A matrix product takes two operations a weight; causal attention on average half of the positions, twice."""
    shape = Shape(1, 4, 8, 2, 1, 2, 16)
    products = shape.layer - 2 * 4 + 16 * 4  # without both norms, with the head
    assert shape.flops(0) == pytest.approx(2 * (products + 2 * 4 + 4))
    assert shape.flops(10) - shape.flops(0) == 2 * 2 * 4 * 10 / 2


def test_hours_follow_from_assumptions():
    def hours(*overrides):
        return {stage.name: stage.hours for stage in cost_model.of_study(composed("student=qwen7b", *overrides)).stages}

    usual = hours()
    half = hours("plan.utilisation=0.2")
    assert half["score"] == pytest.approx(2 * usual["score"]) and half["train"] == pytest.approx(2 * usual["train"])
    assert half["evaluate"] == usual["evaluate"]
    assert hours("student.training.epochs=5")["train"] == pytest.approx(5 / 10 * usual["train"])
    assert hours("evaluation.samples=8", "evaluation.batch_size=32")["evaluate"] < 1.2 * usual["evaluate"]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_documented_table_is_the_computed_one(checkpointing):
    ways = [(Spread.none, 1), (Spread.fsdp, 8), (Spread.offloaded, 8)]
    of = {(way, n): memory.of_training(QWEN14B, 32_768, n, way, checkpointing=checkpointing) for way, n in ways}
    assert plan.memory_table(of, 141e9) in (ROOT / "docs/cluster.md").read_text()


def test_adapters_of_a_real_model_have_the_parameters_that_the_plan_counts():
    from peft import LoraConfig, get_peft_model

    config = LlamaConfig(**SMALL, num_hidden_layers=2)
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear")
    with torch.device("meta"):
        model = get_peft_model(LlamaForCausalLM(config), lora)
    shape = memory.of_config(config)
    assert shape is not None
    assert shape.adapters(4) == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_adapters_take_less_memory_time_and_disk():
    full, adapters = (
        cost_model.of_study(composed("student=qwen7b", f"student.training.lora.rank={rank}")) for rank in (0, 16)
    )
    (one,) = adapters.memory.values()  # they are trained on one device
    whole = full.memory[Spread.none, 1]
    assert one.optimiser < whole.optimiser / 50 and one.activations == whole.activations
    assert one.weights > whole.weights
    trained, all_trained = adapters.stages[1], full.stages[1]
    assert trained.hours == pytest.approx(
        3 / 4 * all_trained.hours
    )  # forward, back and again, without those of weights
    assert trained.disk < all_trained.disk


def test_on_a_cpu_its_hours_are_said(tmp_path, monkeypatch):
    """SmolLM2 without network, wheel or tokenizer: lengths are guessed."""
    monkeypatch.setattr("experiments.stages.students.model_of", _nothing_at_hand)
    own = _open(f"teachers={teachers(tmp_path / 'data')}")
    config = composed("student=smollm2", "evaluation=gsm8k", "plan=cpu", own)
    lines = plan.plan(config)
    assert any("CPU-hours" in line for line in lines)
    assert any(
        "lengths guessed from characters: the student's tokenizer is not at hand (no network)" in line for line in lines
    )


def _nothing_at_hand(*args):
    raise InputError("no network")
