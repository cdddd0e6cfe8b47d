"""Results that took a model or a library to compute, kept so that a study of which nothing is missing loads neither.

A result is looked up by everything it followed from: its inputs, the content of the files that were read, this project's
source and the versions of what it was computed with. Where any of these is another, it is computed again.
"""

import hashlib
import platform
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rsr.errors import InputError
from rsr.store.artefacts import digest, read_signed, write_signed, writing

STAGE = "known"
PACKAGES = ("rsr", "train", "eval", "experiments")
LIBRARIES = (
    *("torch", "transformers", "tokenizers", "safetensors", "huggingface-hub", "jinja2", "accelerate", "datasets"),
    *("lm-eval", "numpy", "polars", "pyarrow", "kronfluence"),
)


def memoised(root: Path, name: str, inputs: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
    """A result, computed now or read from an earlier run: plain values.

    Args:
        inputs: everything that the result follows from, besides source and versions.

    Raises:
        InputError: see `compute`; or the result cannot be read or written.
    """
    result = read(root, name, inputs)
    if result is None:
        result = compute()
        write(root, name, inputs, result)
    return result


def read(root: Path, name: str, inputs: Mapping[str, Any]) -> Any:
    """The result of an earlier run; None where there is none, or a damaged one: what it says can be found again.

    Raises:
        InputError: it cannot be read.
    """
    path = _path(root, name, inputs)
    try:
        return read_signed(path).get("result")
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}); remove it, what it says is found again") from error


def write(root: Path, name: str, inputs: Mapping[str, Any], result: Any) -> None:
    """Keep a result.

    Raises:
        InputError: it cannot be written.
    """
    path = _path(root, name, inputs)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_signed(path, {"result": result})


def _path(root: Path, name: str, inputs: Mapping[str, Any]) -> Path:
    key = {"of": inputs, "source": _source(), "versions": _versions(), "python": platform.python_version()}
    return root / STAGE / f"{name}-{digest(key)[:16]}.json"


@cache
def _source() -> str:
    """SHA-256 of what this project's results are computed with."""
    folders = [Path(str(import_module(name).__file__)).parent for name in PACKAGES]
    files = (path for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return content(path for path in files if path.is_file())


@cache
def _versions() -> dict[str, str | None]:
    return {name: _version(name) for name in LIBRARIES}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def content(paths: Iterable[Path]) -> str:
    """SHA-256 of names and content of files."""
    hasher = hashlib.sha256()
    for path in sorted(paths):
        with path.open("rb") as file:
            hasher.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return hasher.hexdigest()


def folder_content(model: str) -> str | None:
    """The content of a model folder; None for a hub name, behind which the model may change."""
    folder = Path(model)
    return content(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else None
