"""What a study would take: shapes against real models, memory against what a backward pass keeps, tokens against print."""

from dataclasses import replace
from typing import Any

import polars as pl
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

import experiments.plan  # noqa: F401  registers its schema
from eval.settings import Way
from experiments.app.entry import _open
from experiments.app.shared_configs import ROOT, Card
from experiments.study import cost_model, plan, sampling_cost, savings, students_plan
from experiments.study.devices import SHEETS
from experiments.study.sampling_cost import Sampling
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
    """By hand: 16 bytes a parameter; of logits a tile alone, and float32 gradients of hidden states and head."""
    one = memory.of_training(QWEN14B, 32_768, 1, Spread.none, checkpointing=True)
    assert one.weights + one.gradients + one.optimiser == 16 * PARAMETERS["qwen14b"]
    assert one.loss == 2 * 32_768 * (4_096 + 5_120) + 4 * 5_120 * (32_768 + 151_936)
    assert one.activations == 32_768 * (40 * 4 * 5120 + memory.layer_activations(QWEN14B))
    assert one.device > 141e9
    spread = memory.of_training(QWEN14B, 32_768, 8, Spread.fsdp, checkpointing=True)
    assert spread.weights * 8 == one.weights and spread.activations == one.activations
    assert spread.device < 80e9 < memory.of_training(QWEN14B, 32_768, 8, Spread.fsdp, checkpointing=False).device
    offloaded = memory.of_training(QWEN14B, 32_768, 8, Spread.offloaded, checkpointing=True)
    assert offloaded.main_memory == 12 * PARAMETERS["qwen14b"] and offloaded.device < spread.device


def test_adapters_have_the_parameters_and_the_memory_of_pefts():
    from peft import LoraConfig, get_peft_model

    config = Qwen2Config(**SMALL, num_hidden_layers=2, tie_word_embeddings=False)
    adapted = get_peft_model(
        Qwen2ForCausalLM(config), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    shape = memory.of_config(config)
    assert shape is not None
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert shape.adapters(4) == trained
    lora = memory.of_training(shape, 100, 1, Spread.none, checkpointing=False, lora_rank=4)
    assert lora.weights == 4 * (shape.parameters + trained) and lora.gradients + lora.optimiser == 12 * trained


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
        hours, cost = (float(lines[stage][i].replace(",", "")) for i in (3, 5))
        assert cost == pytest.approx(2 * hours, rel=0.01, abs=0.5)
    for said in (
        "33 from 11 teachers, 165,000 trajectories",
        "what is done is not known",
        "assumed: mean lengths of responses as the paper prints them",
        "(plan.price)",
        "nothing of it is measured",
        "cheaper: ",
    ):
        assert said in done.stdout


def test_operations_are_counted_as_they_are():
    """A matrix product takes two operations a weight; causal attention on average half of the positions, twice."""
    shape = Shape(1, 4, 8, 2, 1, 2, 16)
    products = shape.layer - 2 * 4 + 16 * 4  # without both norms, with the head
    assert shape.flops(0) == pytest.approx(2 * (products + 2 * 4 + 4))
    assert shape.flops(10) - shape.flops(0) == 2 * 2 * 4 * 10 / 2


def budget(*overrides):
    config = composed(*overrides)
    return cost_model.of_study(config, cost_model.inputs_of(config))


def test_hours_follow_from_assumptions():
    def hours(*overrides):
        return {stage.name: stage.hours for stage in budget("student=qwen7b", "plan.card=h200", *overrides).stages}

    usual = hours()
    half = hours("plan.utilisation=0.2")
    assert half["score"] == pytest.approx(2 * usual["score"]) and half["train"] == pytest.approx(2 * usual["train"])
    assert hours("student.training.epochs=5")["train"] == pytest.approx(5 / 10 * usual["train"])
    # The way back to adapters is a product the fewer: 1 + 1 of 1 + 2, and with checkpointing once more each.
    assert hours("student.training.lora.rank=16")["train"] == pytest.approx(3 / 4 * usual["train"])
    (probed,) = (s for s in budget("student=qwen7b", "plan.tokens_per_second=1000").stages if s.name == "evaluate")
    assert probed.hours == pytest.approx(probed.tokens / 1000 / 3600)


def test_sampling_takes_what_its_way_takes():
    """A device on which a step takes a second, whatever is in it."""
    slow = replace(SHEETS[Card.h100], step=1.0, server_step=0.5)

    def seconds(way, **of):
        work = Sampling(**dict(answers=4, mean=100.0, most=1000, together=2) | of)
        return sampling_cost.seconds(way, QWEN14B, slow, work, 0.4)

    # Two batches of two, each as long as the longer of two exponential lengths.
    assert seconds(Way.batches) == pytest.approx(2 * 150)
    assert seconds(Way.batches, most=120) == pytest.approx(2 * 120)
    # Four answers two at a time, and at last what the longest of four has over the mean.
    rest = 100 * (1 / 2 + 1 / 3 + 1 / 4)
    assert seconds(Way.continuous) == pytest.approx(200 + rest)
    assert seconds(Way.server) == pytest.approx((200 + rest) / 2)
    # 14B in bfloat16 leave 42 GB for caches of 164 KB a token.
    fits = int((0.9 * 80e9 - 2 * PARAMETERS["qwen14b"]) / (QWEN14B.cache() * 10_000))
    many = dict(answers=1000, mean=10_000.0, most=10_000, together=256)
    assert seconds(Way.continuous, **many) == pytest.approx(1000 * 10_000 / fits)


def test_a_study_on_the_clock_waits_for_its_last_cells():
    stage = cost_model.Stage("score", 9, 0, hours=18, disk=0)
    assert stage.elapsed(8) == pytest.approx(2 * 2) and replace(stage, spread=True).elapsed(8) == pytest.approx(18 / 8)
    assert [s.spread for s in budget("student=qwen14b", "plan.card=h100").stages] == [False, True, False]


def test_what_would_make_it_cheaper_is_said_with_its_hours():
    config = composed("student=qwen3b", "plan.card=h100", "evaluation.way=batches")
    usual = cost_model.of_study(config, cost_model.inputs_of(config))
    said = savings.savings(config, usual)
    assert len(said) == 4 and said[0].startswith("a server that samples")
    assert any(line.startswith("one generation of each teacher (teachers.generations=[gen1])") for line in said)
    of_server = cost_model.of_study(config, usual.inputs, Way.server)
    less, all_of_it = (sum(stage.hours for stage in of.stages) for of in (of_server, usual))
    assert said[0].endswith(f": {less:,.3g} instead of {all_of_it:,.3g} H100-hours")


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_documented_table_is_the_computed_one(checkpointing):
    ways = [(Spread.none, 1), (Spread.fsdp, 8), (Spread.offloaded, 8)]
    of = {(way, n): memory.of_training(QWEN14B, 32_768, n, way, checkpointing=checkpointing) for way, n in ways}
    assert plan.memory_table(of, 80e9) in (ROOT / "docs/cluster.md").read_text()


def test_the_documented_table_of_five_students_is_the_computed_one():
    table, *_ = students_plan.plan(composed("student=all", "plan.card=h100"))
    assert table in (ROOT / "docs/scale.md").read_text()
    assert table.count("\n") == 1 + len(PARAMETERS)


def test_a_short_study_goes_ahead_and_a_long_one_waits(capsys):
    """By their estimates: hours on eight cards, more than an hour of which waits."""
    config = composed("student=qwen3b", "plan.card=h100")
    with pytest.raises(InputError, match=r"about [\d.e+,]+ hours \(plan.hours=1 go unasked\): add run=true"):
        plan.refuse_or_go(config)
    assert "cheaper: a server" in capsys.readouterr().out
    unasked = replace(config, plan=replace(config.plan, hours=1e6))
    plan.refuse_or_go(unasked)
    plan.refuse_or_go(replace(config, run=True))
    with pytest.raises(InputError, match="add run=true"):
        plan.refuse_or_go(unasked, differs="trains twice")
    assert "this experiment trains twice" in capsys.readouterr().out


def test_without_a_tokenizer_lengths_are_guessed(tmp_path, monkeypatch):
    def nothing_at_hand(*_: object) -> None:
        raise InputError("no network")

    monkeypatch.setattr("experiments.stages.students.model_of", nothing_at_hand)
    own = _open(f"teachers={teachers(tmp_path / 'data')}")
    lines = plan.plan(composed("student=smollm2", "evaluation=gsm8k", "plan.card=cpu", own))
    guessed = "lengths guessed from characters: the student's tokenizer is not at hand (no network)"
    assert any(guessed in line for line in lines)
