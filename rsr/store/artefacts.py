"""Keyed folders: what a stage leaves on disk.

A folder is named <label>-<8 hex digits of its key>, the key being everything that shapes the content. It is written as
<name>.partial, its manifest last, then renamed: a folder without ".partial" is complete. Running a stage again finds the
complete folder, or goes on in the partial one, which only one process at a time may (rsr.store.locks).
"""

import hashlib
import json
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from rsr.errors import InputError
from rsr.store import locks

KEY, MANIFEST = "key.json", "manifest.json"
PARTIAL = ".partial"
NETWORK = ("urllib", "requests", "huggingface_hub")  # libraries whose errors are of connections, and OSErrors


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
        return self.path.name.removesuffix(PARTIAL)

    @property
    def _lock(self) -> Path:
        return self.path.parents[1] / locks.FOLDER / digest(self.key)

    @property
    def facts(self) -> Mapping[str, Any]:
        """The manifest of a complete artefact; what it lacks is an InputError."""
        assert self.manifest is not None, f"{self.path} is not complete"
        return _Facts(self.path, self.manifest)

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
        locks.release(self._lock)
        return Artefact(final, self.key, manifest)


class _Facts(dict[str, Any]):
    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        super().__init__(manifest)
        self.folder = folder

    def __missing__(self, name: str) -> NoReturn:
        raise InputError(f"{self.folder / MANIFEST}: says no {name}; remove {self.folder} to make it anew")


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
    partial = f"-{digest(key)[:8]}{PARTIAL}"
    begun = sorted((root / stage).glob(f"*{partial}"))  # by whatever label
    return Artefact(begun[0] if begun else root / stage / f"{path_safe(label)}{partial}", key, None)


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
    """Lock the partial folder of an incomplete artefact, made here or gone on with; or find it complete.

    Where another process has locked it, this one waits until it is complete or given up.

    Raises:
        InputError: it holds something of another key (both are shown), or cannot be written.
        Busy: another process has locked it, and this one is not to wait (`rsr.store.locks.impatient`).
    """
    if artefact.manifest is not None:
        return artefact
    with writing(artefact.path):
        locks.acquire(artefact._lock, f"{artefact.path.parent.name}/{artefact.id}")
    # What there was may have been completed since, or begun under another label.
    found = locate(artefact.path.parents[1], artefact.path.parent.name, _label(artefact), artefact.key)
    if found.manifest is not None:
        locks.release(artefact._lock)
        return found
    with writing(found.path):
        if (found.path / KEY).exists():
            _check(found.path, _load(found.path / KEY), found.key)
        else:
            found.path.mkdir(parents=True, exist_ok=True)
            write_text(found.path / KEY, json.dumps(found.key, indent=2) + "\n")
    return found


def _label(artefact: Artefact) -> str:
    return artefact.id.rpartition("-")[0]


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
        process: (index, number) of processes that fill it together; the first locks it for all.
        barrier: waits until all of them are here.

    Raises:
        InputError: see `locate` and `begin`.
    """
    begun = begin(locate(root, stage, label, key)) if process[0] == 0 else None
    barrier()
    return begun or locate(root, stage, label, key)


def _load(path: Path) -> Any:
    with reading(path):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
        return content


@contextmanager
def reading(path: Path, *errors: type[Exception]) -> Iterator[None]:
    """Turn a failure to read a file of an artefact into one line that says what to remove.

    Args:
        errors: of the library that reads it, besides OSError and ValueError.
    """
    damages: tuple[type[Exception], ...] = (OSError, ValueError, *errors)
    try:
        yield
    except InputError:
        raise
    except damages as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error).partition("\n")[0]
        raise InputError(f"{path}: cannot be read ({reason}); remove {path.parent} to make it anew") from error


def _check(path: Path, saved: Any, requested: Mapping[str, Any]) -> None:
    if saved == requested:
        return
    names = sorted({*requested, *(saved if isinstance(saved, dict) else {})})
    both = [(n, saved.get(n) if isinstance(saved, dict) else None, requested.get(n)) for n in names]
    differences = "; ".join(f"{n}: saved {_canonical(s)}, requested {_canonical(r)}" for n, s, r in both if s != r)
    raise InputError(f"{path} was made with other settings: {differences}; remove it or take another output folder")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write, or to fetch what is written, into one line that says what is kept."""
    try:
        yield
    except OSError as error:
        failed = "what it is made of cannot be fetched" if _of_network(error) else "cannot be written"
        raise InputError(
            f"{path}: {failed}: {error.strerror or error}; what is finished is kept, the same command goes on"
        ) from error


def _of_network(error: BaseException) -> bool:
    """Whether an error, or what caused it, is of a connection, not of a file: by its class, or by its library."""
    library = type(error).__module__.partition(".")[0]
    here = isinstance(error, ConnectionError | TimeoutError | socket.gaierror) or library in NETWORK
    return here or (error.__cause__ is not None and _of_network(error.__cause__))


def write_text(path: Path, text: str) -> None:
    """Write a file that is either whole or not there."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """The same of any content."""
    temporary = path.with_name(f".{path.name}.{locks.worker()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
