"""A label names a folder, a key finds it; a file is whole or not there."""

import urllib.request

import polars as pl
import pytest

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
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]
    assert pl.read_parquet(path).equals(first)


@pytest.mark.parametrize("name", ["gpt[v2].parquet", "a*.parquet", "what?.parquet"])
def test_the_name_of_a_table_is_no_pattern(tmp_path, name):
    table = pl.DataFrame({"a": [1]})
    write_parquet(table, tmp_path / name)
    assert read_parquet(tmp_path / name).equals(table)


@pytest.mark.parametrize("content", [b"PAR1", None])
def test_a_damaged_table_is_one_line_that_says_what_to_remove(tmp_path, content):
    if content:
        (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(InputError, match=rf"t\.parquet: cannot be read \(.*\); remove {tmp_path} to make it anew"):
        read_parquet(tmp_path / "t.parquet")


@pytest.mark.parametrize("manifest", ["[]", "1", "{", ""])
def test_a_damaged_manifest_is_one_line_too(tmp_path, manifest):
    made = find_or_begin(tmp_path, "thing", "x", KEY).complete()
    (made.path / "manifest.json").write_text(manifest)
    with pytest.raises(InputError, match=r"manifest\.json: cannot be read \(.*\); remove .* to make it anew"):
        find_or_begin(tmp_path, "thing", "x", KEY)


def test_what_a_manifest_lacks_is_named(tmp_path):
    with pytest.raises(InputError, match=r"manifest\.json: says no counts; remove .* to make it anew"):
        find_or_begin(tmp_path, "thing", "x", KEY).complete().facts["counts"]


def test_a_network_that_fails_is_not_a_disk_that_is_full(tmp_path):
    with pytest.raises(InputError, match=r"cannot be fetched: .*refused"), writing(tmp_path):
        urllib.request.urlopen("http://127.0.0.1:9/model", timeout=5)
