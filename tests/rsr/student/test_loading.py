"""Loading a student: the checkpoint is whole, and the identity covers what is read of it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rsr.errors import InputError
from rsr.student import student as students
from tests.models import add_adapter, rewrite, save


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda weights: weights.pop("lm_head.weight"), "lm_head.weight"),
        (lambda weights: weights.update({"model.norm.weight": torch.ones(5)}), "model.norm.weight"),
        (lambda weights: [weights.pop(n) for n in [*weights] if ".layers.1." in n], r"\S+, \S+, \S+ and 6 more"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused(tmp_path, change, named):
    folder = rewrite(save(tmp_path / "s", tied=False), change)
    with pytest.raises(InputError, match=f"its checkpoint is not whole: {named} missing or of another shape") as error:
        students.load(folder)
    assert "\n" not in str(error.value)


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
        students.check(folder)
