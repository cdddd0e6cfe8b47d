"""Digests of files: what is read is what was written, or the damage is seen.

A complete artefact has the digests of all its files in its manifest (rsr.store.artefacts). Until then every finished file has its own
beside it, in FILE.sha256, as `sha256sum` writes it.
"""

import hashlib
from pathlib import Path
from typing import Any

SUFFIX = ".sha256"

_seen: dict[
    tuple[int, ...], str
] = {}  # digests that this process has computed, by what tells one state of a file from another


def of_file(path: Path) -> str:
    """SHA-256 of a file, read once a process as long as it is not written again."""
    with path.open("rb") as file:
        stat = path.stat()
        state = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        if state not in _seen:
            _seen[state] = hashlib.file_digest(file, "sha256").hexdigest()
        return _seen[state]


def beside(path: Path) -> Path:
    """Where the digest of a finished file of an incomplete artefact is."""
    return path.with_name(path.name + SUFFIX)


def line(name: str, content: bytes | memoryview) -> str:
    """The digest of a file that is about to be written."""
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n"


def noted(path: Path) -> str | None:
    """The digest that stands beside a file; None where there is none."""
    file = beside(path)
    return file.read_text(encoding="ascii", errors="replace").partition(" ")[0] if file.is_file() else None


def of_folder(folder: Path, left_out: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Digest, bytes and, of a Parquet file, rows of every file below a folder, by its path in it.

    Args:
        left_out: names in the folder, of files or folders.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and name.parts[0] not in left_out and path.suffix != SUFFIX:
            files[name.as_posix()] = {"sha256": noted(path) or of_file(path), "bytes": path.stat().st_size} | _rows(
                path
            )
    return files


def _rows(path: Path) -> dict[str, int]:
    if path.suffix != ".parquet":
        return {}
    from pyarrow import parquet

    return {"rows": parquet.read_metadata(path).num_rows}
