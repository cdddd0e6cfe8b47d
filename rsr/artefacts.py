"""Keyed folders: what a stage leaves on disk.

A folder is named <label>-<8 hex digits of its key>, the key being everything that shapes the content. It is written as
<name>.partial, its manifest last, then renamed: a folder without ".partial" is complete. Running a stage again finds the
complete folder, or goes on in the partial one.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsr.errors import InputError

KEY, MANIFEST = "key.json", "manifest.json"


@dataclass(frozen=True)
class Artefact:
    """A folder of known key.

    Attributes:
        path: where it lies; for an incomplete one, its partial folder.
        manifest: None while incomplete.
    """

    path: Path
    key: Mapping[str, Any]
    manifest: Mapping[str, Any] | None

    @property
    def id(self) -> str:
        """Name and key digest, the same on every machine."""
        return self.path.name.removesuffix(".partial")

    @property
    def facts(self) -> Mapping[str, Any]:
        """The manifest of a complete artefact."""
        assert self.manifest is not None, f"{self.path} is not complete"
        return self.manifest

    def complete(self, **facts: Any) -> "Artefact":
        """Write the manifest and give the folder its final name.

        Raises:
            InputError: it cannot be written.
        """
        assert self.manifest is None
        manifest = {"key": self.key, **facts}
        final = self.path.with_name(self.id)
        with writing(self.path):
            write_text(self.path / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
            self.path.rename(final)
        return Artefact(final, self.key, manifest)


def digest(key: Mapping[str, Any]) -> str:
    """SHA-256 of a key made of plain values.

    Raises:
        TypeError: a value has no one spelling in JSON (a key must not depend on how an object prints).
    """
    return hashlib.sha256(_canonical(key).encode()).hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False)


def locate(root: Path, stage: str, label: str, key: Mapping[str, Any]) -> Artefact:
    """The complete artefact of a key, or else the place of its partial folder; nothing is written.

    Raises:
        InputError: a folder of that name holds something of another key (both are shown).
    """
    key = json.loads(_canonical(key))
    short = digest(key)[:8]
    # The label is for people: what another label names is found by its key as well.
    for path in sorted((root / stage).glob(f"*-{short}")):
        manifest = _load(path / MANIFEST)
        _check(path, manifest.get("key"), key)
        return Artefact(path, key, manifest)
    begun = sorted((root / stage).glob(f"*-{short}.partial"))
    return Artefact(begun[0] if begun else root / stage / f"{label}-{short}.partial", key, None)


def begin(artefact: Artefact) -> None:
    """Make the partial folder of an incomplete artefact, or go on in it.

    Raises:
        InputError: it holds something of another key (both are shown), or cannot be written.
    """
    with writing(artefact.path):
        artefact.path.mkdir(parents=True, exist_ok=True)
        if (artefact.path / KEY).exists():
            _check(artefact.path, _load(artefact.path / KEY), artefact.key)
        else:
            write_text(artefact.path / KEY, json.dumps(artefact.key, indent=2) + "\n")


def find_or_begin(root: Path, stage: str, label: str, key: Mapping[str, Any]) -> Artefact:
    """The complete artefact of a key, or a partial one to fill.

    Raises:
        InputError: see `locate` and `begin`.
    """
    artefact = locate(root, stage, label, key)
    if artefact.manifest is None:
        begin(artefact)
    return artefact


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); remove {path.parent} to make it anew") from error


def _check(path: Path, saved: Any, requested: Mapping[str, Any]) -> None:
    if saved == requested:
        return
    names = sorted({*requested, *(saved if isinstance(saved, dict) else {})})
    both = [(n, saved.get(n) if isinstance(saved, dict) else None, requested.get(n)) for n in names]
    differences = "; ".join(f"{n}: saved {_canonical(s)}, requested {_canonical(r)}" for n, s, r in both if s != r)
    raise InputError(f"{path} was made with other settings: {differences}; remove it or take another output folder")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write into one line that says what is kept."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written: {error.strerror or error}; what is finished is kept, the same command goes on"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a file that is either whole or not there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
