"""Keyed folders: what a stage leaves on disk.

A folder is named <label>-<8 hex digits of its key>, the key being everything that shapes the content. It is written as
<name>.partial, its manifest last, then renamed: a folder without ".partial" is complete. Running a stage again finds the
complete folder, or goes on in the partial one, which only one worker at a time may (rsr.store.claims).
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rsr.errors import InputError
from rsr.store import claims

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
        label, short, _ = self.path.name.partition(f"-{self._short}")
        return label + short

    @property
    def _short(self) -> str:
        return digest(self.key)[:8]

    @property
    def facts(self) -> Mapping[str, Any]:
        """The manifest of a complete artefact."""
        assert self.manifest is not None, f"{self.path} is not complete"
        return self.manifest

    def complete(self, **facts: Any) -> "Artefact":
        """Write the manifest and give the folder its final name.

        Raises:
            InputError: it cannot be written, or was taken over by another worker (see `rsr.store.claims.claiming`).
        """
        assert self.manifest is None
        manifest = {"key": self.key, **facts}
        final = self.path.with_name(self.id)
        with writing(self.path):
            write_text(self.path / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
            claims.settle(self.path, final)
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

    Args:
        label: names the folder, for people; a slash, a comma or a space becomes a hyphen.

    Raises:
        InputError: a folder of that name holds something of another key (both are shown).
    """
    key = json.loads(_canonical(key))
    complete = _complete(root / stage, key)
    if complete is not None:
        return complete
    short = digest(key)[:8]
    partial = root / stage / f"{path_safe(label)}-{short}{claims.PARTIAL}"
    begun = claims.begun(partial, short)
    return Artefact(begun[0] if begun else partial, key, None)


def path_safe(label: str) -> str:
    """A label as part of a file's name: a slash, a comma or a space becomes a hyphen."""
    return re.sub(r"[/,\s]+", "-", label)


def _complete(folder: Path, key: Mapping[str, Any]) -> Artefact | None:
    # The label is for people: what another label names is found by its key as well.
    for path in sorted(folder.glob(f"*-{digest(key)[:8]}")):
        manifest = _load(path / MANIFEST)
        _check(path, manifest.get("key"), key)
        return Artefact(path, key, manifest)
    return None


def begin(artefact: Artefact) -> Artefact:
    """Claim the partial folder of an incomplete artefact, made here or gone on with; or find it complete.

    Where another worker has claimed it, this one waits until it is complete or given up.

    Raises:
        InputError: it holds something of another key (both are shown), or cannot be written.
        Busy: another worker has claimed it, and this one is not to wait (`rsr.store.claims.impatient`).
    """
    while artefact.manifest is None:
        free = artefact.path.with_name(artefact.id + claims.PARTIAL)
        try:
            with writing(free):
                mine = claims.take(free, artefact._short)
        except claims.Busy as busy:
            claims.wait(busy)
            mine = None
        complete = _complete(artefact.path.parent, artefact.key)
        if mine is not None and complete is None:
            return _claimed(replace(artefact, path=mine))
        if mine is not None:
            claims.drop(mine)
        artefact = complete or artefact
    return artefact


def _claimed(artefact: Artefact) -> Artefact:
    with writing(artefact.path):
        if (artefact.path / KEY).exists():
            _check(artefact.path, _load(artefact.path / KEY), artefact.key)
        else:
            write_text(artefact.path / KEY, json.dumps(artefact.key, indent=2) + "\n")
    return artefact


def find_or_begin(
    root: Path,
    stage: str,
    label: str,
    key: Mapping[str, Any],
    process: tuple[int, int] = (0, 1),
    barrier: Callable[[], None] = lambda: None,
) -> Artefact:
    """The complete artefact of a key, or a partial one to fill.

    Args:
        process: (index, number) of processes that fill it together; the first claims it for all.
        barrier: waits until all of them are here.

    Raises:
        InputError: see `locate` and `begin`.
    """
    claimed = begin(locate(root, stage, label, key)) if process[0] == 0 else None
    barrier()
    return claimed or locate(root, stage, label, key)


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
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """The same of any content."""
    temporary = path.with_name(f".{path.name}.{claims.worker()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
