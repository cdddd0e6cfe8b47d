"""Loading a student: the checkpoint is whole, and the identity covers what is read of it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from rsr.data.trajectories import parse
from rsr.errors import InputError
from rsr.student import pretrained
from rsr.student import student as students
from rsr.tokens.settings import Scoring
from tests.models import add_adapter, rewrite, save, tokenizer
from train.base import Base
from train.settings import Training
from train.sft import fine_tune


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda weights: weights.pop("lm_head.weight"), "lm_head.weight"),
        (lambda weights: weights.update({"model.norm.weight": torch.ones(5)}), "model.norm.weight"),
        (lambda weights: [weights.pop(n) for n in [*weights] if ".layers.1." in n], r"\S+, \S+, \S+ and 6 more"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused(tmp_path, change, named, capfd):
    folder = rewrite(save(tmp_path / "s", tied=False), change)
    with pytest.raises(InputError, match=f"its checkpoint is not whole: {named} missing or of another shape") as error:
        students.load(folder)
    assert "\n" not in str(error.value) and "MISSING" not in capfd.readouterr().err


def test_weights_without_a_place_are_noted(tmp_path):
    folder = rewrite(save(tmp_path / "s"), lambda weights: weights.update({"value_head.weight": torch.ones(2)}))
    assert students.load(folder).notes == ("the model has no place for value_head.weight of its checkpoint",)
    assert not students.load(save(tmp_path / "tied", tied=True)).notes


def shard(folder: Path, name: str) -> dict[str, str]:
    """The weights in a file of another name that an index names; returns the index's map."""
    names = load_file(folder / "model.safetensors").keys()
    (folder / "model.safetensors").rename(folder / name)
    shards = dict.fromkeys(names, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    return shards


def test_identity_covers_the_index_and_the_files_it_names(tmp_path):
    folder = save(tmp_path / "s")
    shards = shard(folder, "one.safetensors")
    base = students.load(folder).identity
    (folder / "unused.safetensors").write_bytes(b"never read")
    assert students.load(folder).identity == base
    shutil.copy(folder / "one.safetensors", folder / "two.safetensors")
    rewritten = {"metadata": {}, "weight_map": shards | {"model.norm.weight": "two.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(rewritten))
    assert students.load(folder).identity != base


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../w.safetensors", "names '../w.safetensors', which is no safetensors file of its folder"),
        ("weights.bin", "names 'weights.bin', which is no safetensors file of its folder"),
        ("gone.safetensors", "names 'gone.safetensors', which is not there"),
    ],
)
def test_an_index_that_names_other_files_is_refused(tmp_path, name, message):
    folder = save(tmp_path / "s")
    shard(folder, name)
    if name.startswith("gone"):
        (folder / name).unlink()
    with pytest.raises(InputError, match=message):
        students.load(folder)


@pytest.mark.parametrize("name", ["../w.safetensors", "/tmp/w.safetensors", "weights.bin", "adapter_model.bin", 5])
def test_a_configuration_that_names_other_files_is_refused(tmp_path, name):
    config = json.loads((folder := save(tmp_path / "s")).joinpath("config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"transformers_weights": name}))
    with pytest.raises(InputError, match=r"config\.json: names .*, which is no safetensors file of its folder"):
        pretrained.check(folder)


def test_identity_covers_the_files_that_a_configuration_names(tmp_path):
    """An index in a folder of its own names files of the model's folder, as the loader reads them."""
    folder = save(tmp_path / "s")
    shard(folder, "one.safetensors")
    (folder / "of").mkdir()
    (folder / "model.safetensors.index.json").rename(folder / "of" / "a.safetensors.index.json")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"transformers_weights": "of/a.safetensors.index.json"}))
    base = students.load(folder).identity
    rewrite(
        folder,
        lambda weights: weights.update({"model.norm.weight": 2 * weights["model.norm.weight"]}),
        "one.safetensors",
    )
    assert students.load(folder).identity != base


def test_identity_covers_an_adapter_and_its_configuration(tmp_path):
    folder = save(tmp_path / "s")
    plain = students.load(folder, dtype="float32").identity["model"]
    adapted = students.load(add_adapter(folder), dtype="float32").identity["model"]
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 80}))
    stronger = students.load(folder, dtype="float32").identity["model"]
    assert len({of["sha256"] for of in (plain, adapted, stronger)}) == 3


def test_an_adapter_hides_no_missing_weights(tmp_path):
    folder = add_adapter(save(tmp_path / "s"))
    rewrite(folder, lambda weights: weights.pop("model.norm.weight"))
    with pytest.raises(InputError, match=r"not whole: model.norm.weight missing"):
        students.load(folder)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(InputError, match=r"holds an adapter without adapter_model.safetensors"):
        pretrained.check(folder)


def test_positions_of_a_model_of_several_parts_are_those_of_its_text(tmp_path):
    """As Gemma 3 from 4B on, which reads images too."""
    fast, narrow = tokenizer(), dict(hidden_size=32, intermediate_size=32, num_hidden_layers=1)
    text = narrow | dict(vocab_size=len(fast), num_attention_heads=4, num_key_value_heads=2, head_dim=8)
    vision = narrow | dict(num_attention_heads=2, image_size=28, patch_size=14)
    tokens: Any = dict(image_token_index=5, boi_token_index=6, eoi_token_index=7, mm_tokens_per_image=4)
    config = Gemma3Config(text_config=text | {"max_position_embeddings": 64}, vision_config=vision, **tokens)
    Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path)
    fast.save_pretrained(tmp_path)
    student = students.load(tmp_path, dtype="float32")
    assert student.max_positions == 64 and Scoring().max_length_for(student) == 64
    data = parse([("0", {"messages": [{"role": r, "content": "1 + 1 " * 20} for r in ("user", "assistant")]})], "t")
    with pytest.raises(InputError, match="beyond the 64 positions of gemma"):
        fine_tune(Base("gemma", str(tmp_path)), data, Training(epochs=1, batch_size=1), tmp_path / "out")
