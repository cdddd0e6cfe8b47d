"""What identifies a student: digests of its weights and tokenizer, and how chats are rendered."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsr.errors import InputError
from rsr.student import weights
from rsr.student.chat import ChatRenderer
from rsr.student.pretrained import load_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def identity_of(
    model: str | Path, renderer: ChatRenderer, *, revision: str | None = None, trust_remote_code: bool = False
) -> dict[str, Any]:
    """What any use of a model depends on: weights, tokenizer, template.

    Raises:
        InputError: its configuration cannot be loaded, or a hub model's revision is not known.
    """
    return {
        "model": _weights_identity(model, revision, trust_remote_code),
        "tokenizer_sha256": tokenizer_digest(renderer),
        **renderer.identity(),
    }


def tokenizer_digest(renderer: ChatRenderer) -> str:
    """SHA-256 of a renderer's tokenizer."""
    return hashlib.sha256(renderer.tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def state_digest(model: "PreTrainedModel") -> str:
    """SHA-256 of a loaded model's configuration and weights."""
    import torch

    config = model.config.to_dict()
    for key in ("_name_or_path", "transformers_version"):
        config.pop(key, None)
    hasher = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for key, value in sorted(model.state_dict().items()):
        hasher.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        hasher.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return hasher.hexdigest()


def _weights_identity(model: str | Path, revision: str | None, with_code: bool) -> dict[str, str]:
    """A hub commit, or for a folder the digest of its weights, configuration and code, where that is run; never a path."""
    folder = Path(model)
    if not folder.is_dir():
        config = load_config(model, revision=revision, trust_remote_code=with_code)
        commit = getattr(config, "_commit_hash", None)
        if not commit:
            raise InputError(f"{model}: its revision is not known, so that its scores could not be told apart")
        return {"hub": str(model), "revision": str(commit)}
    return {"sha256": weights.digest(folder, with_code=with_code)}
