"""Shards: one dataset over several files, as the hub and `datasets` lay it out (NAME-00000-of-00002.parquet)."""

import re
from collections.abc import Iterable
from pathlib import Path

from rsr.errors import InputError

SHARD = re.compile(r"(?P<name>.+)-(?P<place>\d+)-of-(?P<number>\d+)")
SPLITS = {"train", "test", "validation", "valid", "val", "dev"}


def name_of(path: Path) -> str:
    """What a file is called: its stem, of a shard the name that it shares with the others."""
    shard = SHARD.fullmatch(path.stem)
    return shard["name"] if shard else path.stem


def together(path: Path) -> list[Path]:
    """The shards that a file is one of, in their order; of any other file itself.

    Raises:
        InputError: one is missing.
    """
    shard = SHARD.fullmatch(path.stem)
    if shard is None:
        return [path]
    width = len(shard["place"])
    places = (f"{place:0{width}d}" for place in range(int(shard["number"])))
    files = [path.with_name(f"{shard['name']}-{place}-of-{shard['number']}{path.suffix}") for place in places]
    if path not in files:  # no such number: a name that only looks like one
        return [path]
    if missing := [file for file in files if not file.is_file()]:
        raise InputError(f"{path}: is one of {len(files)} shards, and {missing[0].name} is not there")
    return files


def refuse_splits(folder: Path, names: Iterable[str]) -> None:
    """Refuse a training split beside that of a test: they are neither teachers nor generations.

    Raises:
        InputError: the files of a folder have the names of several splits.
    """
    splits = sorted(SPLITS & {*names})
    if len(splits) > 1:
        raise InputError(f"{folder}: holds the splits {', '.join(splits)}: give a file of the one that is meant")
