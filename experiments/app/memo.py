"""Answers that took a model or a library to find, kept so that a study of which nothing is missing loads neither.

An answer is found by everything it followed from: what was asked, the content of the files that were read, this project's
source and the versions of what it was computed with. Where any of these is another, the question is asked again.
"""

import hashlib
import json
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from enum import Enum
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from experiments.app.config import StudyConfig
from rsr.errors import InputError
from rsr.store.artefacts import digest, write_text, writing

STAGE = "known"
PACKAGES = ("rsr", "train", "eval", "experiments")
LIBRARIES = (
    *("torch", "transformers", "tokenizers", "safetensors", "huggingface-hub", "jinja2", "accelerate", "datasets"),
    *("lm-eval", "numpy", "polars", "pyarrow", "kronfluence"),
)
# Settings that say what becomes of scores, not what they are.
AFTER_SCORES = ("source", "metric", "run", "study", "plan", "evaluation", "tracking", "paths")


def answer(root: Path, question: str, of: Mapping[str, Any], find: Callable[[], Any]) -> Any:
    """The answer to a question, found now or earlier: plain values.

    Args:
        of: everything that the answer follows from, besides source and versions.

    Raises:
        InputError: see `find`; or the answer cannot be read or written.
    """
    known = recall(root, question, of)
    if known is None:
        known = find()
        note(root, question, of, known)
    return known


def recall(root: Path, question: str, of: Mapping[str, Any]) -> Any:
    """What is known as the answer; None where nothing is.

    Raises:
        InputError: it cannot be read.
    """
    path = _path(root, question, of)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); remove it, what it says is found again") from error


def note(root: Path, question: str, of: Mapping[str, Any], found: Any) -> None:
    """Keep an answer.

    Raises:
        InputError: it cannot be written.
    """
    path = _path(root, question, of)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(found, indent=2, ensure_ascii=False) + "\n")


def _path(root: Path, question: str, of: Mapping[str, Any]) -> Path:
    key = {"of": of, "source": _source(), "versions": _versions(), "python": platform.python_version()}
    return root / STAGE / f"{question}-{digest(key)[:16]}.json"


@cache
def _source() -> str:
    """SHA-256 of what this project's answers are computed with."""
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


def of_model(model: str) -> str | None:
    """The content of a model folder; None for a hub name, behind which the model may change."""
    folder = Path(model)
    return content(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else None


def of_scores(config: StudyConfig) -> dict[str, Any]:
    """The settings that shape scores: all but those that are known not to."""
    plain = json.loads(json.dumps(asdict(config), default=_plain))
    return {name: value for name, value in plain.items() if name not in AFTER_SCORES}


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else str(value)
