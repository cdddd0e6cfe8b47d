"""A label names a folder, a key finds it; a file is whole or not there."""

import polars as pl
import pytest

from rsr.errors import InputError
from rsr.store.artefacts import find_or_begin
from rsr.store.parquet import write_parquet

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
