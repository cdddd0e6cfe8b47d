"""Keyed folders: what a stage leaves on disk.

A folder is named <label>-<8 hex digits of its key>, the key being everything that shapes the content. It is written as
<name>.partial, its manifest last, then renamed: a folder without ".partial" is complete. Running a stage again finds the
complete folder, or goes on in the partial one, which only one process at a time may (rsr.store.locks).

The manifest holds the digest of every file and its own. A file is read by way of `Artefact.checked`, which sees damage. Of a partial
folder a part is gone on with where `Artefact.holds` it whole. Artefacts that were completed without digests are read as they are.
"""

import hashlib
import json
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from rsr.errors import InputError
from rsr.store import digests, locks

KEY, MANIFEST = "key.json", "manifest.json"
DAMAGED = "its content is not what was written"
FILES, OWN = "files", "sha256"  # in a manifest: what is known of its files, and the digest of the manifest itself
LABEL = 160  # bytes; file systems take 255 for a name
PARTIAL, HALF_WRITTEN = ".partial", ".tmp"
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

    def checked(self, name: str = "") -> Path:
        """The path of a file or folder in it, or its own, after a look whether the content is what was written.

        Raises:
            InputError: it is not, or is gone; what to remove.
        """
        for file, written in self._written(name).items():
            with reading(self.path / file, folder=self.path):
                if digests.of_file(self.path / file) != written:
                    raise ValueError(DAMAGED)
        return self.path / name

    def _written(self, name: str) -> dict[str, str]:
        """The files of that name or below it that a digest is known of, with their digests."""
        if self.manifest is None or FILES not in self.manifest:
            noted = digests.noted(self.path / name)
            return {} if noted is None else {name: noted}
        files = self.manifest[FILES]
        return {file: facts["sha256"] for file, facts in files.items() if not name or f"{file}/".startswith(f"{name}/")}

    def holds(self, name: str) -> bool:
        """Whether a part of an incomplete one is there and whole; one that is not can be made anew, in its place."""
        path = self.path / name
        return path.is_file() and digests.noted(path) == digests.of_file(path)

    def complete(self, *scratch: str, **facts: Any) -> "Artefact":
        """Write the manifest and give the folder its final name.

        Args:
            scratch: folders in it that are of no use from then on, and are removed.

        Raises:
            InputError: it cannot be written.
        """
        assert self.manifest is None
        final = self.path.with_name(self.id)
        with writing(self.path):
            files = digests.of_folder(self.path, (KEY, MANIFEST, *scratch))
            manifest = json.loads(json.dumps({"key": self.key, **facts, FILES: files}))
            write_signed(self.path / MANIFEST, manifest)
            self.path.rename(final)
        # Not before: killed in between, what they hold would be made anew.
        for name in scratch:
            shutil.rmtree(final / name, ignore_errors=True)
        for file in files:
            digests.beside(final / file).unlink(missing_ok=True)
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
    """A label as part of a file's name: a slash, a comma or a space becomes a hyphen, and what is too long for a name is cut."""
    return re.sub(r"[/,\s]+", "-", label).encode()[:LABEL].decode(errors="ignore")


def _complete(folder: Path, key: Mapping[str, Any]) -> Artefact | None:
    # The label is for people: what another label names is found by its key as well.
    for path in sorted(folder.glob(f"*-{digest(key)[:8]}")):
        artefact = of_folder(path)
        _check(path, artefact.key, key)
        return artefact
    return None


def of_folder(folder: Path) -> Artefact:
    """The complete artefact in a folder.

    Raises:
        InputError: its manifest is damaged.
    """
    with reading(folder / MANIFEST):
        manifest = read_signed(folder / MANIFEST)
        if not isinstance(manifest.get("key"), dict):
            raise ValueError("it says no key")
    return Artefact(folder, manifest["key"], manifest)


def begin(artefact: Artefact) -> Artefact:
    """Lock the partial folder of an incomplete artefact, made here or gone on with; or find it complete.

    Where another process has locked it, this one waits until it is complete or given up.

    Raises:
        InputError: it holds something of another key (both are shown), or cannot be written.
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
        for half_written in found.path.glob(f".*{HALF_WRITTEN}"):  # by a process that was killed
            if half_written.is_dir():
                shutil.rmtree(half_written)
            else:
                half_written.unlink(missing_ok=True)
        if (found.path / KEY).exists():
            with reading(found.path / KEY):
                saved = read_signed(found.path / KEY)
            _check(found.path, saved, found.key)
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


def write_signed(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain values as JSON, the digest of the others among them; the file is either whole or not there."""
    write_text(path, json.dumps({**content, OWN: _digest_of(content)}, indent=2, ensure_ascii=False) + "\n")


def read_signed(path: Path) -> dict[str, Any]:
    """What `write_signed` has written; values without a digest are of earlier versions, and taken as they are.

    Raises:
        OSError, ValueError: it is damaged.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}")
    own = content.pop(OWN, None)
    if own is not None and own != _digest_of(content):
        raise ValueError(DAMAGED)
    return content


def _digest_of(content: Mapping[str, Any]) -> str:
    """Unlike a key, it may hold what is no number."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@contextmanager
def reading(path: Path, *errors: type[Exception], folder: Path | None = None) -> Iterator[None]:
    """Turn a failure to read a file of an artefact into one line that says what to remove.

    Args:
        errors: of the library that reads it, besides OSError and ValueError.
        folder: of the artefact, where the file does not lie in it itself.
    """
    damages: tuple[type[Exception], ...] = (OSError, ValueError, *errors)
    try:
        yield
    except InputError:
        raise
    except damages as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error).partition("\n")[0]
        raise InputError(
            f"{path}: cannot be read ({reason}); remove {folder or path.parent} to make it anew"
        ) from error


def _check(path: Path, saved: Mapping[str, Any], requested: Mapping[str, Any]) -> None:
    if saved == requested:
        return
    both = [(n, saved.get(n), requested.get(n)) for n in sorted({*requested, *saved})]
    differences = "; ".join(f"{n}: saved {_canonical(s)}, requested {_canonical(r)}" for n, s, r in both if s != r)
    raise InputError(f"{path} was made with other settings: {differences}; remove it or take another output folder")


# What torch and safetensors say of a file that cannot be written, in errors that are no OSError.
NOT_WRITTEN = ("inline_container.cc", "I/O error: ")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write, or to fetch what is written, into one line that says what is kept."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, OSError) and not any(sign in str(error) for sign in NOT_WRITTEN):
            raise
        failed = "what it is made of cannot be fetched" if _of_network(error) else "cannot be written"
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise InputError(f"{path}: {failed}: {reason}; what is finished is kept, the same command goes on") from error


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
    temporary = path.with_name(f".{path.name}.{locks.process_name()}{HALF_WRITTEN}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
