"""The files of a model folder that its weights are read from, and their digest."""

import hashlib
import json
from pathlib import Path
from typing import Any

from rsr.errors import InputError

CONFIG = "config.json"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


def digest(folder: Path, *, with_code: bool = False) -> str:
    """SHA-256 of configuration and weights, an adapter's as well, and of the folder's code where that is run.

    Raises:
        InputError: see `files`.
    """
    hasher = hashlib.sha256()
    code = folder.glob("*.py") if with_code else ()
    for path in sorted([*files(folder), folder / CONFIG, *code]):
        hasher.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            hasher.update(hashlib.file_digest(file, "sha256").digest())
    return hasher.hexdigest()


def files(folder: Path) -> list[Path]:
    """What a loader reads the weights from: one file, or an index and the files that it names; and an adapter.

    Raises:
        InputError: there are no weights in safetensors, or the configuration or the index names others than those of the folder.
    """
    entry = folder / _entry(folder)
    if not entry.is_file():
        raise InputError(f"{folder}: holds no weights ({SINGLE} or {INDEX}); other formats are not read")
    adapter = [folder / name for name in ADAPTER] if has_adapter(folder) else []
    if missing := [path.name for path in adapter if not path.is_file()]:
        raise InputError(f"{folder}: holds an adapter without {missing[0]}; other formats are not read")
    shards = [] if entry.suffix == ".safetensors" else _shards(entry, folder)
    return [entry, *shards, *adapter]


def has_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter (PEFT), which loaders put on the weights beside it."""
    return (folder / ADAPTER[0]).is_file()


def _entry(folder: Path) -> str:
    """The name that loaders begin with: the one that the configuration gives, or else the single file, or else the index."""
    given = _object(folder / CONFIG).get("transformers_weights")
    if given is not None:
        return _named(folder, CONFIG, given, (".safetensors", ".safetensors.index.json"))
    return SINGLE if (folder / SINGLE).is_file() else INDEX


def _shards(index: Path, folder: Path) -> list[Path]:
    content = _object(index)
    shards = content.get("weight_map")
    if not isinstance(shards, dict) or not shards or not isinstance(content.get("metadata"), dict):
        raise InputError(f"{index}: no index of weights, which has 'metadata' and 'weight_map'")
    return [
        folder / name for name in sorted({_named(folder, index, shard, (".safetensors",)) for shard in shards.values()})
    ]


def _named(folder: Path, by: str | Path, name: Any, ends: tuple[str, ...]) -> str:
    """A name that a file gives, which must be of a file of the folder that runs no code when it is read."""
    if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts or not name.endswith(ends):
        raise InputError(f"{folder / by}: names {name!r}, which is no safetensors file of its folder")
    if not (folder / name).is_file():
        raise InputError(f"{folder / by}: names {name!r}, which is not there")
    return name


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be loaded: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: cannot be loaded: it holds no JSON object")
    return value
