"""Files of datasets: known by their endings, and several of them one dataset.

A dataset over several files is shards, as the hub and `datasets` lay it out (NAME-00000-of-00002.parquet), a folder of
datasets.save_to_disk, or a job of Harbor: a folder of trials, each with its agent/trajectory.json.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from rsr.errors import InputError

# Endings, and what a selection from such a file ends in.
SUFFIXES = {
    ".json": ".json",
    ".jsonl": ".jsonl",
    ".parquet": ".parquet",
    ".arrow": ".parquet",
    ".json.gz": ".json",
    ".jsonl.gz": ".jsonl",
    ".json.zst": ".json",
    ".jsonl.zst": ".jsonl",
}
SHARD = re.compile(r"(?P<name>.+)-(?P<place>\d+)-of-(?P<number>\d+)")
SPLITS = {"train", "test", "validation", "valid", "val", "dev"}
STATE = "state.json"  # of a folder of datasets.save_to_disk: which files it is
TRIAL = Path("agent", "trajectory.json")  # in each trial of a job of Harbor


def suffix_of(path: Path) -> str:
    """How a file ends: in one of `SUFFIXES`, or else in its last suffix."""
    return max((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), key=len, default=path.suffix)


def stem_of(path: Path) -> str:
    """The name of a file without its ending; of a folder its name."""
    return path.name.removesuffix(suffix_of(path)) if suffix_of(path) in SUFFIXES else path.name


def name_of(path: Path) -> str:
    """What a dataset is called by its file: its stem, of a shard the name that it shares with the others."""
    shard = SHARD.fullmatch(stem_of(path))
    return shard["name"] if shard else stem_of(path)


def whole(path: Path) -> Path:
    """What stands for the dataset that a file is of: a folder, the first of its shards, or itself.

    Raises:
        InputError: a shard is missing.
    """
    if path.suffix == ".arrow" and (path.parent / STATE).is_file():
        return path.parent
    if path.parts[-2:] == TRIAL.parts and len(path.parents) > 2:
        return path.parents[2]
    return together(path)[0]


def is_whole(folder: Path) -> bool:
    """Whether a folder is one dataset."""
    saved = (folder / STATE).is_file() and any(folder.glob("*.arrow"))
    return saved or any(folder.glob(f"*/{TRIAL.as_posix()}"))


def together(path: Path) -> list[Path]:
    """The files of the dataset that a folder, or a file, stands for, in their order.

    Raises:
        InputError: one is missing.
    """
    if path.is_dir():
        return _saved(path) if (path / STATE).is_file() else sorted(path.glob(f"*/{TRIAL.as_posix()}"))
    shard = SHARD.fullmatch(stem_of(path))
    if shard is None:
        return [path]
    width = len(shard["place"])
    places = (f"{place:0{width}d}" for place in range(int(shard["number"])))
    files = [path.with_name(f"{shard['name']}-{place}-of-{shard['number']}{suffix_of(path)}") for place in places]
    if path not in files:  # no such number: a name that only looks like one
        return [path]
    if missing := [file for file in files if not file.is_file()]:
        raise InputError(f"{path}: is one of {len(files)} shards, and {missing[0].name} is not there")
    return files


def _saved(folder: Path) -> list[Path]:
    """The files of a folder of datasets.save_to_disk."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        files = [folder / file["filename"] for file in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / STATE}: does not say which files the dataset is: save it again") from error
    if missing := [file for file in files if not file.is_file()]:
        raise InputError(f"{folder}: {missing[0].name}, one of its {len(files)} files, is not there")
    return files


def refuse_splits(folder: Path | str, names: Iterable[str]) -> None:
    """Refuse a training split beside that of a test: they are neither teachers nor generations.

    Raises:
        InputError: the files of a folder have the names of several splits.
    """
    splits = sorted(SPLITS & {*names})
    if len(splits) > 1:
        raise InputError(
            f"{folder}: holds the splits {', '.join(splits)}: give the file or folder of the one that is meant"
        )
