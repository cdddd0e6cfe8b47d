"""Checkpoints of a training run, and which of them a full disk, a lost power or a bad disk has left whole."""

import json
import shutil
import zipfile
from pathlib import Path

from rsr.store import digests
from rsr.store.artefacts import FILES, read_signed, write_signed

PREFIX = "checkpoint-"  # of a folder's name, before the number of the step
DIGESTS = "digests.json"


def note_digests(checkpoint: Path) -> None:
    """Write down the digests of all files of a finished checkpoint."""
    write_signed(checkpoint / DIGESTS, {FILES: digests.of_folder(checkpoint, (DIGESTS,))})


def last_whole(folder: Path) -> Path | None:
    """The newest checkpoint that can be gone on from; what is not whole is removed, for the trainer writes there again."""
    for path in sorted(folder.glob(f"{PREFIX}*"), key=lambda path: int(path.name.removeprefix(PREFIX)), reverse=True):
        if _is_whole(path):
            return path
        shutil.rmtree(path, ignore_errors=True)
    return None


def _is_whole(checkpoint: Path) -> bool:
    """Whether every file is what was written; where a kill left no time to note digests, whether it was written to its end."""
    from safetensors import SafetensorError, safe_open

    try:
        if (checkpoint / DIGESTS).exists():
            return bool(read_signed(checkpoint / DIGESTS)[FILES] == digests.of_folder(checkpoint, (DIGESTS,)))
        for path in checkpoint.rglob("*.json"):
            json.loads(path.read_text(encoding="utf-8"))
        for path in checkpoint.rglob("*.safetensors"):
            with safe_open(path, "pt"):  # checks its length
                pass
    except (OSError, ValueError, KeyError, SafetensorError):
        return False
    pickled = [path for suffix in ("pt", "pth", "bin") for path in checkpoint.rglob(f"*.{suffix}")]
    return (checkpoint / "trainer_state.json").is_file() and all(map(zipfile.is_zipfile, pickled))
