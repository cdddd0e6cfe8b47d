"""A label names a folder, a key finds it; a file is whole or not there."""

import json
import resource
import urllib.request

import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from rsr.errors import InputError
from rsr.store.artefacts import find_or_begin, writing
from rsr.store.parquet import read_parquet, write_parquet

KEY = {"stage": "thing", "data": 1}


def test_a_label_becomes_the_name_of_one_folder(tmp_path):
    made = find_or_begin(tmp_path, "thing", "student-teacher/33-to-1, first", KEY).complete()
    assert made.path.parent == tmp_path / "thing"
    assert made.path.name.startswith("student-teacher-33-to-1-first-")
    assert find_or_begin(tmp_path, "thing", "another name", KEY).path == made.path


def test_a_table_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path, first, second = tmp_path / "t.parquet", pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [2]})
    write_parquet(first, path)
    monkeypatch.setattr(
        "pathlib.Path.replace", lambda self, target: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(InputError, match=r"t\.parquet: cannot be written: No space left"):
        write_parquet(second, path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.parquet", "t.parquet.sha256"]
    assert pl.read_parquet(path).equals(first)


def made(root, names=("t.parquet",)):
    """A complete artefact of tables, and of a folder with a text."""
    artefact = find_or_begin(root, "thing", "x", KEY)
    for name in names:
        write_parquet(pl.DataFrame({"a": [1, 2]}), artefact.path / name)
    (artefact.path / "model").mkdir(parents=True)
    (artefact.path / "model" / "text").write_text("the weights")
    return artefact.complete()


@pytest.mark.parametrize("name", ["gpt[v2].parquet", "a*.parquet", "what?.parquet"])
def test_the_name_of_a_table_is_no_pattern(tmp_path, name):
    assert read_parquet(made(tmp_path, [name]), name)["a"].to_list() == [1, 2]


def test_a_manifest_knows_every_file(tmp_path):
    artefact = made(tmp_path)
    files, folder = artefact.facts["files"], artefact.path
    assert sorted(files) == ["model/text", "t.parquet"]
    assert files["t.parquet"]["rows"] == 2 and files["model/text"]["bytes"] == len("the weights")
    assert sorted(p.name for p in folder.iterdir()) == ["key.json", "manifest.json", "model", "t.parquet"]


def read_all(root):
    found = find_or_begin(root, "thing", "x", KEY)
    read_parquet(found, "t.parquet")
    found.checked("model")


DAMAGES = {
    "cut": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "flipped": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    "removed": None,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["t.parquet", "model/text", "manifest.json"])
def test_damage_is_one_line_that_says_what_to_remove(tmp_path, name, damage):
    folder = made(tmp_path).path
    path, change = folder / name, DAMAGES[damage]
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=rf"{name}: cannot be read \(.*\); remove {folder} to make it anew") as error:
        read_all(tmp_path)
    assert "\n" not in str(error.value)


def test_a_part_that_is_not_whole_is_made_anew(tmp_path):
    begun = find_or_begin(tmp_path, "thing", "x", KEY)
    assert not begun.holds("t.parquet")
    for damage in [change for change in DAMAGES.values() if change]:
        write_parquet(pl.DataFrame({"a": [1]}), begun.path / "t.parquet")
        assert begun.holds("t.parquet")
        (begun.path / "t.parquet").write_bytes(damage((begun.path / "t.parquet").read_bytes()))
        assert not begun.holds("t.parquet")


def test_an_artefact_of_before_digests_is_read_as_it_is(tmp_path):
    manifest = made(tmp_path).path / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({name: content[name] for name in content if name not in ("files", "sha256")}))
    assert read_parquet(find_or_begin(tmp_path, "thing", "x", KEY), "t.parquet")["a"].to_list() == [1, 2]


@pytest.mark.parametrize("manifest", ["[]", "1", "{", "", "{}", '{"key": 1}'])
def test_a_manifest_of_another_kind_is_damaged(tmp_path, manifest):
    (made(tmp_path).path / "manifest.json").write_text(manifest)
    with pytest.raises(InputError, match=r"manifest\.json: cannot be read \(.*\); remove .* to make it anew"):
        find_or_begin(tmp_path, "thing", "x", KEY)


def test_what_a_manifest_lacks_is_named(tmp_path):
    with pytest.raises(InputError, match=r"manifest\.json: says no counts; remove .* to make it anew"):
        find_or_begin(tmp_path, "thing", "x", KEY).complete().facts["counts"]


def test_a_network_that_fails_is_not_a_disk_that_is_full(tmp_path):
    with pytest.raises(InputError, match=r"cannot be fetched: .*refused"), writing(tmp_path):
        urllib.request.urlopen("http://127.0.0.1:9/model", timeout=5)


def save_by_safetensors(file):
    save_file({"weights": torch.zeros(100_000)}, file)


def save_by_torch(file):
    torch.save({"weights": torch.zeros(100_000)}, file)


@pytest.mark.parametrize("save", [save_by_safetensors, save_by_torch])
def test_weights_that_find_no_room_are_one_line(tmp_path, save):
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, unlimited[1]))
    try:
        with pytest.raises(InputError, match=r"cannot be written: .*; what is finished is kept"), writing(tmp_path):
            save(tmp_path / "weights")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
