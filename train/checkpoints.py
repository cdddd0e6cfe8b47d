"""Checkpoints of a training run, and which of them a full disk or a lost power has left whole."""

import json
import shutil
import zipfile
from pathlib import Path


def last_whole(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; what is not whole is removed, for the trainer writes there again."""
    for path in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True):
        if _is_whole(path):
            return path
        shutil.rmtree(path, ignore_errors=True)
    return None


def _is_whole(checkpoint: Path) -> bool:
    """Whether every file of it can be read; the trainer's state is written last."""
    from safetensors import SafetensorError, safe_open

    try:
        for path in checkpoint.rglob("*.json"):
            json.loads(path.read_text(encoding="utf-8"))
        for path in checkpoint.rglob("*.safetensors"):
            with safe_open(path, "pt"):  # checks its length
                pass
    except (OSError, ValueError, SafetensorError):
        return False
    pickled = [path for suffix in ("pt", "pth", "bin") for path in checkpoint.rglob(f"*.{suffix}")]
    return (checkpoint / "trainer_state.json").is_file() and all(map(zipfile.is_zipfile, pickled))
