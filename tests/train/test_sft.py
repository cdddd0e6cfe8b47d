"""Fine-tuning: what carries loss, and what must not change the result."""

import hashlib
import json
import math
import random
import shutil
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rsr.data import trajectories
from rsr.errors import InputError
from rsr.student import student as students
from rsr.student.chat import ChatRenderer
from tests.models import add_adapter, rewrite, save
from tests.rsr.tokens.test_engine import of_family
from tests.templates import FAMILIES
from train import sft
from train.base import Base
from train.checkpoints import DIGESTS, last_whole
from train.rows import IGNORED, training_rows
from train.settings import LoRA, Overlong, TokenWeights, Training
from train.sft import fine_tune
from train.token_weights import weights_of_tokens

SETTINGS: dict[str, Any] = dict(learning_rate=1e-3, batch_size=8, epochs=2, max_length=600)


def dataset(n=24, turns=1):
    rng = random.Random(0)
    reply = [{"role": "assistant", "content": "1 + 2 = 3. " * rng.randint(1, 12) + "\\boxed{4}"} for _ in range(n)]
    records = [
        (f"record {i}", {"messages": [{"role": "user", "content": f"Problem {i}"}, reply[i]] * turns}) for i in range(n)
    ]
    return trajectories.parse(records, "teacher", "gen1")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = save(tmp_path_factory.mktemp("models") / "tiny")
    return Base("tiny", str(folder))


def curve(artefact):
    history = json.loads((artefact.path / sft.HISTORY).read_text())
    return [entry["loss"] for entry in history if "loss" in entry]


def weights(artefact):
    return hashlib.sha256((artefact.path / sft.MODEL / "model.safetensors").read_bytes()).hexdigest()


# --- rows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", [1, 2])
def test_only_responses_and_their_end_of_turn_carry_loss(base, turns):
    data = dataset(5, turns)
    rows = training_rows(base.renderer, data, 600, Overlong.error)
    for ids, labels, trajectory in zip(rows.input_ids, rows.labels, data.trajectories, strict=True):
        assert all(label in (IGNORED, token) for token, label in zip(ids, labels, strict=True))
        trained = base.renderer.tokenizer.decode([label for label in labels if label != IGNORED])
        assert trained == (trajectory.messages[-1].content + "<|im_end|>") * turns
    assert rows.eot == base.renderer.tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_the_prompt_of_a_row_is_the_prompt_of_an_evaluation(base):
    data = dataset(3)
    rows = training_rows(base.renderer, data, 600, Overlong.error)
    for prompt, trajectory in zip(rows.prompts, data.trajectories, strict=True):
        assert prompt == base.renderer.prompt_ids(trajectory.messages[:-1])


def test_under_turn_every_turn_is_a_row_behind_the_prompt_that_the_student_will_meet():
    """R1's template drops the thinking that its prompts open, so that on the whole chat a student would train on other prompts."""
    of = FAMILIES["r1"]
    whole, turn = (ChatRenderer(of.tokenizer(), rendering=rendering) for rendering in ("whole", "turn"))
    reply = {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nIt is 2."}
    asked = [{"role": "user", "content": f"Problem {i}"} for i in range(3)]
    record = {"messages": [message for question in asked for message in (question, reply)]}
    data = trajectories.parse([("record 0", record)], "teacher", "gen1")
    with pytest.raises(InputError, match=r"the student meets another prompt .* take student\.rendering=turn"):
        training_rows(whole, data, 600, Overlong.error)
    rows = training_rows(turn, data, 600, Overlong.error)
    messages = data.trajectories[0].messages
    assert rows.prompts == [turn.prompt_ids(messages[:i]) for i in (1, 3, 5)]
    trained = [turn.tokenizer.decode([label for label in labels if label != IGNORED]) for labels in rows.labels]
    assert trained == ["Hm.\n</think>\n\nIt is 2.<|end|>"] * 3


def test_overlong_trajectories_follow_the_policy(base):
    data = dataset(12)
    lengths = [base.renderer.render(t.messages).length for t in data.trajectories]
    limit = sorted(lengths)[6]
    too_long = [t.id for t, length in zip(data.trajectories, lengths, strict=True) if length > limit]
    with pytest.raises(InputError, match=f"trajectory {too_long[0]}: .* tokens are more than max_length={limit}"):
        training_rows(base.renderer, data, limit, Overlong.error)
    dropped = training_rows(base.renderer, data, limit, Overlong.drop)
    assert dropped.dropped == too_long and not dropped.truncated and len(dropped.input_ids) == 12 - len(too_long)
    cut = training_rows(base.renderer, data, limit, Overlong.truncate)
    assert cut.truncated == too_long and not cut.dropped and max(map(len, cut.input_ids)) == limit
    with pytest.raises(InputError, match="nothing to train on"):
        training_rows(base.renderer, data, 5, Overlong.truncate)


def test_a_template_that_never_ends_a_turn_is_refused(base, tmp_path):
    endless = "{% for m in messages %}{{ m.role }}:\n{{ m.content }}{% endfor %}{% if add_generation_prompt %}assistant:\n{% endif %}"
    (tmp_path / "endless.jinja").write_text(endless)
    renderer = students.load_renderer(base.model, template=str(tmp_path / "endless.jinja"))
    with pytest.raises(InputError, match="without an end-of-turn token"):
        training_rows(renderer, dataset(1), 600, Overlong.error)


@pytest.mark.parametrize(
    ("setting", "message"), [({"epochs": 0}, "epochs=0"), ({"warmup": 1.0}, "no share of the steps")]
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(InputError, match=message):
        Training(**(SETTINGS | setting))


def test_what_does_not_shape_the_weights_is_no_part_of_their_identity():
    plain = Training(**SETTINGS)
    assert Training(**SETTINGS, micro_batch=4, gradient_checkpointing=True).identity() == plain.identity()
    for other in ({"seed": 1}, {"lora": LoRA(rank=16)}, {"overlong": Overlong.drop}, {"packing": True}, {"epochs": 3}):
        assert Training(**(SETTINGS | other)).identity() != plain.identity()


# --- equivalences --------------------------------------------------------------------------------------------------

# Losses of the tiny model with SETTINGS; a change of trainer, loss or order shows here.
REFERENCE = [7.3620, 6.8558, 6.4242, 6.0433, 5.7867, 5.7981]


@pytest.mark.full
@pytest.mark.parametrize(
    "how",
    [{"micro_batch": 1}, {"micro_batch": 8}, {"micro_batch": 4}, {"micro_batch": 8, "gradient_checkpointing": True}],
)
def test_splits_padding_and_checkpointing_give_the_reference_curve(base, tmp_path, how):
    trained = fine_tune(base, dataset(), Training(**SETTINGS, **how), tmp_path)
    assert curve(trained) == pytest.approx(REFERENCE, abs=2e-3)


@pytest.mark.full
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packing_gives_the_curve_of_padding(base, tmp_path, attention):
    one_step = SETTINGS | {"batch_size": 24, "epochs": 4}
    padded = fine_tune(base, dataset(), Training(**one_step, micro_batch=8, attention=attention), tmp_path)
    packed = fine_tune(
        base, dataset(), Training(**(one_step | {"batch_size": 6}), packing=True, attention=attention), tmp_path
    )
    assert len(curve(padded)) == len(curve(packed)) == 4
    assert curve(packed) == pytest.approx(curve(padded), abs=1e-3)


@pytest.mark.full
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"betas": []}, "betas"),
        ({"betas": [2, 3]}, "betas"),
        ({"lora": LoRA(rank=-1)}, r"lora\.rank=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 2**32}, "seed"),
        ({"learning_rate": -1}, "learning_rate=-1"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"weight_decay": -1}, "weight_decay=-1"),
        ({"max_grad_norm": -1}, "max_grad_norm=-1"),
    ],
)
def test_numbers_that_no_optimiser_takes_are_refused_by_name(setting, message):
    with pytest.raises(InputError, match=f"student.training.{message}"):
        Training(**SETTINGS | setting)


def test_attention_that_a_model_does_not_have_is_one_line(tmp_path):
    of_family(tmp_path / "gemma", "gemma", True)
    base = Base("gemma", str(tmp_path / "gemma"))
    assert base.identity()["attention"] == "eager"
    with pytest.raises(InputError, match="no such attention implementation: leave attention out"):
        fine_tune(base, dataset(), Training(**SETTINGS, attention="sdpa"), tmp_path)
    one_step = SETTINGS | {"epochs": 1, "batch_size": 24}
    assert len(curve(fine_tune(base, dataset(), Training(**one_step), tmp_path))) == 1


def test_packing_with_attention_that_mixes_is_refused(base, tmp_path):
    with pytest.raises(InputError, match="packing with attention=flex_attention"):
        fine_tune(base, dataset(), Training(**SETTINGS, packing=True, attention="flex_attention"), tmp_path)


@pytest.mark.full
def test_interrupted_it_goes_on_to_the_same_weights(base, tmp_path):
    settings = Training(**(SETTINGS | {"epochs": 4}), micro_batch=8, checkpoints=4)
    unbroken = fine_tune(base, dataset(), settings, tmp_path / "unbroken")
    for interrupted_at in (1, 4, 8):

        def stop(step, steps, at=interrupted_at):
            if step == at:
                raise KeyboardInterrupt

        root = tmp_path / str(interrupted_at)
        with pytest.raises(KeyboardInterrupt):
            fine_tune(base, dataset(), settings, root, progress=stop)
        seen: list[int] = []
        resumed = fine_tune(base, dataset(), settings, root, progress=lambda step, steps, seen=seen: seen.append(step))  # type: ignore[misc]
        assert seen == list(range(max(0, (interrupted_at - 1) // 3 * 3) + 1, 13))
        assert weights(resumed) == weights(unbroken)
        assert curve(resumed) == curve(unbroken)
        assert resumed.facts["loss"] == unbroken.facts["loss"]
        assert not list(root.rglob("checkpoint-*"))


def _without_state(checkpoint):
    (checkpoint / "trainer_state.json").unlink()  # the trainer writes it last


def _cut(name):
    def cut(checkpoint):
        content = (checkpoint / name).read_bytes()
        (checkpoint / name).write_bytes(content[: len(content) // 2])

    return cut


def _flipped(checkpoint):
    content = bytearray((checkpoint / "model.safetensors").read_bytes())
    content[-9] ^= 1
    (checkpoint / "model.safetensors").write_bytes(content)


@pytest.mark.full
def test_a_checkpoint_that_is_not_whole_is_passed_over(base, tmp_path):
    """As a kill, a full disk or a lost power leaves it: the one before it is taken, or none."""
    settings = Training(**(SETTINGS | {"epochs": 4}), micro_batch=8, checkpoints=4)

    def stop(step, _):
        if step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(base, dataset(), settings, tmp_path / "broken", progress=stop)
    (whole,) = (tmp_path / "broken").rglob("checkpoint-6")
    damages = [_without_state, *map(_cut, ("trainer_state.json", "model.safetensors", "optimizer.pt"))]
    for damage, noted in product([*damages, _flipped], (True, False)):
        shutil.copytree(whole, half := whole.with_name("checkpoint-9"))
        if not noted and damage is not _flipped:  # killed before the digests were
            (half / DIGESTS).unlink()
        damage(half)
        assert last_whole(whole.parent) == whole and not half.exists()
    steps = list[int]()
    resumed = fine_tune(base, dataset(), settings, tmp_path / "broken", progress=lambda step, _: steps.append(step))
    assert steps == list(range(7, 13))
    assert weights(resumed) == weights(fine_tune(base, dataset(), settings, tmp_path / "unbroken"))


# --- weights -------------------------------------------------------------------------------------------------------


def weighted(weigh, n=24, turns=1):
    data = dataset(n, turns)
    return replace(data, trajectories=tuple(replace(t, weight=weigh(i)) for i, t in enumerate(data.trajectories)))


@pytest.mark.parametrize("micro_batch", [2, 8])
def test_equal_weights_give_trls_loss_to_the_last_digit(base, tmp_path, micro_batch):
    """With padding, and accumulation of four batches or of one; 0.3 has no exact half, and 24 of it no exact sum."""
    settings = Training(**SETTINGS | {"epochs": 1}, micro_batch=micro_batch)
    plain = fine_tune(base, dataset(), settings, tmp_path)
    equal = fine_tune(base, weighted(lambda i: 0.3), settings, tmp_path)
    assert plain != equal and equal.facts["weights"] == [1.0, 1.0] and plain.facts["weights"] is None
    assert curve(equal) == curve(plain) and weights(equal) == weights(plain)


def test_weights_are_those_of_a_loss_computed_by_hand(base, tmp_path):
    data, settings = weighted(lambda i: i % 3), Training(**SETTINGS | {"epochs": 1, "batch_size": 24}, micro_batch=4)
    rows = training_rows(base.renderer, data, 600, Overlong.error)
    model = AutoModelForCausalLM.from_pretrained(base.model)
    total, tokens = 0.0, 0
    for ids, labels, t in zip(rows.input_ids, rows.labels, data.trajectories, strict=True):
        loss = torch.nn.functional.cross_entropy(
            model(torch.tensor([ids])).logits[0, :-1].double(),
            torch.tensor(labels[1:]),
            ignore_index=IGNORED,
            reduction="sum",
        )
        total, tokens = total + t.weight * loss.item(), tokens + t.weight * sum(label != IGNORED for label in labels)
    assert curve(fine_tune(base, data, settings, tmp_path)) == pytest.approx([total / tokens], rel=1e-5)


@pytest.mark.parametrize(("rendering", "kind"), [("whole", "ranktuner"), ("turn", "ranktuner"), ("turn", "rsi")])
def test_weights_of_tokens_are_those_of_the_students_predictions(base, tmp_path, rendering, kind):
    base, data = replace(base, rendering=rendering), weighted(lambda i: i + 1, 3, turns=2)
    settings, weigh = Training(**SETTINGS, token_weights=TokenWeights(kind)), WEIGH[kind]
    of_tokens = weights_of_tokens(base, data, settings, tmp_path)
    rows = training_rows(base.renderer, data, 600, Overlong.error, token_weights=of_tokens)
    assert rows.weights is not None and len(rows.weights) == (3 if rendering == "whole" else 6)
    model = AutoModelForCausalLM.from_pretrained(base.model).double()
    found, expected = list[float](), list[float]()
    for row, (ids, labels) in enumerate(zip(rows.input_ids, rows.labels, strict=True)):
        t = data.trajectories[row * 3 // len(rows.labels)]
        probabilities = model(torch.tensor([ids])).logits[0].softmax(-1).detach()
        for i, label in enumerate(labels):
            if label != IGNORED:
                found.append(rows.weights[row][i])
                expected.append(t.weight * (1 if label == rows.eot else weigh(probabilities[i - 1], label)))
            else:
                assert rows.weights[row][i] == 0
    assert found == pytest.approx([weight * len(expected) / sum(expected) for weight in expected], rel=1e-3)
    assert settings.identity() == Training(**SETTINGS).identity() | {"token_weights": kind}


def relative_scale(probabilities, token):
    """As arXiv 2602.01745 has it, with ranks up to 100."""
    ranks = torch.arange(1, len(probabilities) + 1).clamp(max=100)
    expected = (probabilities.sort(descending=True).values * ranks).sum().item()
    rank = min(1 + int((probabilities > probabilities[token]).sum()), 100)
    return 2 ** (1 / math.log2(expected + 1) - 1 / math.log2(rank + 1))


def near_expected(probabilities, token):
    """Of the index s / H of arXiv 2606.31575 and one over it the lesser."""
    index = (-probabilities[token].log() / torch.special.entr(probabilities).sum()).item()
    return min(index, 1 / index)


WEIGH = {"ranktuner": relative_scale, "rsi": near_expected}


def test_weights_that_cannot_be_are_refused(base, tmp_path):
    with pytest.raises(InputError, match="teacher/gen1: all weights are 0"):
        training_rows(base.renderer, weighted(lambda i: 0), 600, Overlong.error)
    packed = Training(**SETTINGS, packing=True)
    with pytest.raises(InputError, match="TRL packs no weights: choose student"):
        fine_tune(base, weighted(lambda i: 1), packed, tmp_path)


# --- what is saved -------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_the_saved_model_ends_its_turns(base, tmp_path):
    trained = fine_tune(base, dataset(), Training(**(SETTINGS | {"epochs": 20}), micro_batch=8), tmp_path)
    folder = trained.path / sft.MODEL
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    eot = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokenizer.eos_token_id == eot == model.config.eos_token_id
    assert model.generation_config.eos_token_id[0] == eot
    assert tokenizer.chat_template == base.renderer.template.source
    assert not [path for path in folder.iterdir() if path.suffix == ".bin"]  # a pickle is code for whoever loads it
    assert trained.facts["stopped"]["prompts"] == 8 and 0 < trained.facts["stopped"]["rate"] <= 1
    again = fine_tune(base, dataset(), Training(**(SETTINGS | {"epochs": 20}), micro_batch=8), tmp_path)
    assert again == trained


@pytest.mark.full
def test_training_leaves_its_base_as_it_was(tmp_path):
    """A base model that ends texts otherwise than turns, and has no padding token, as LLaMA's."""
    folder = save(tmp_path / "tiny")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token, tokenizer.pad_token = "<|endoftext|>", None
    tokenizer.save_pretrained(folder)
    base = Base("tiny", str(folder))
    settings = Training(**(SETTINGS | {"epochs": 1}), micro_batch=8)
    before = base.renderer.identity()
    trained = fine_tune(base, dataset(), settings, tmp_path / "out")
    assert base.renderer.identity() == before
    assert AutoTokenizer.from_pretrained(trained.path / sft.MODEL).eos_token == "<|im_end|>"
    assert fine_tune(base, dataset(), settings, tmp_path / "out") == trained


@pytest.mark.full
def test_a_loss_that_diverges_is_an_error(base, tmp_path):
    settings = SETTINGS | {"learning_rate": 1e30, "max_grad_norm": 1e30}
    with pytest.raises(InputError, match="the loss on teacher/gen1 is not finite"):
        fine_tune(base, dataset(), Training(**settings, micro_batch=8), tmp_path)


@pytest.mark.full
def test_merged_lora_equals_its_adapter(base, tmp_path, monkeypatch):
    from peft import PeftModel

    monkeypatch.setattr(shutil, "rmtree", lambda folder, ignore_errors=False: None)
    trained = fine_tune(base, dataset(), Training(**SETTINGS, micro_batch=8, lora=LoRA(rank=4, alpha=8)), tmp_path)
    merged = AutoModelForCausalLM.from_pretrained(trained.path / sft.MODEL)
    last = max((trained.path / sft.CHECKPOINTS).glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.model), last)
    ids = torch.tensor([base.renderer.prompt_ids(dataset(1).trajectories[0].messages[:-1])])
    untouched = AutoModelForCausalLM.from_pretrained(base.model)(ids).logits
    assert torch.allclose(merged(ids).logits, adapted(ids).logits, atol=1e-4)
    assert not torch.allclose(merged(ids).logits, untouched, atol=1e-2)


def test_weights_that_are_missing_or_frozen_are_not_trained(tmp_path):
    folder = save(tmp_path / "whole")
    rewrite(folder, lambda tensors: tensors.pop("model.norm.weight"))
    with pytest.raises(InputError, match=r"its checkpoint is not whole: model.norm.weight missing"):
        sft.trainable(Base("cut", str(folder)), str(folder))
    adapted = add_adapter(save(tmp_path / "adapted"))
    with pytest.raises(InputError, match="holds an adapter: merge it into the weights to train them"):
        sft.trainable(Base("adapted", str(adapted)), str(adapted))


@pytest.mark.full
def test_a_batch_that_does_not_divide_is_refused(base, tmp_path):
    with pytest.raises(InputError, match="batch_size=8 is no multiple of micro_batch=3"):
        fine_tune(base, dataset(), Training(**SETTINGS, micro_batch=3), tmp_path)
