"""A student: model, tokenizer, chat template, and what identifies them."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from rsr.chat import ChatRenderer, load_template
from rsr.errors import InputError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

Dtype = Literal["bfloat16", "float16", "float32"]
WEIGHTS = "*.safetensors"


@dataclass(frozen=True)
class Student:
    """A loaded student.

    Attributes:
        name: for people; not part of its identity.
        identity: what its scores depend on: weights, tokenizer, template, dtype, attention implementation, device type.
    """

    name: str
    model: "PreTrainedModel"
    renderer: ChatRenderer
    identity: Mapping[str, Any]

    @property
    def device(self) -> "torch.device":
        return self.model.device

    @property
    def max_positions(self) -> int | None:
        """Longest sequence the model has positions for; None where its configuration does not say."""
        positions = getattr(self.model.config, "max_position_embeddings", None)
        return int(positions) if positions else None


def load(
    model: str | Path,
    *,
    name: str | None = None,
    revision: str | None = None,
    dtype: Dtype = "bfloat16",
    attention: str = "sdpa",
    device: str | None = None,
    template: str | None = None,
    template_variables: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
    weights: bool = True,
) -> Student:
    """Load a causal language model from a folder or the hub, safetensors only.

    Args:
        attention: attention implementation ("sdpa", "eager", "flash_attention_2", ...).
        device: None takes a GPU where there is one.
        template: name or file of a chat template; None takes the tokenizer's own.
        weights: False gives a student without weights, of which only name and identity can be used: what a store is found
            by.

    Raises:
        InputError: the model, its weights or its tokenizer cannot be loaded, and what to do about it.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    renderer = load_renderer(
        model,
        revision=revision,
        template=template,
        template_variables=template_variables,
        trust_remote_code=trust_remote_code,
    )
    place = _device(device)
    how = dict(dtype=getattr(torch, dtype), attn_implementation=attention, trust_remote_code=trust_remote_code)
    with _loading(model):
        if weights:
            loaded = AutoModelForCausalLM.from_pretrained(model, revision=revision, use_safetensors=True, **how)
        else:
            config = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=trust_remote_code)
            with torch.device("meta"):
                loaded = AutoModelForCausalLM.from_config(config, **how)
    identity = {
        **identity_of(model, renderer, revision=revision, trust_remote_code=trust_remote_code),
        "dtype": dtype,
        "attention": loaded.config._attn_implementation,
        "device": place.type,
    }
    if weights:
        loaded.requires_grad_(False).eval().to(place)
    return Student(name or Path(model).name, loaded, renderer, identity)


def load_renderer(
    model: str | Path,
    *,
    revision: str | None = None,
    template: str | None = None,
    template_variables: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
) -> ChatRenderer:
    """The chat renderer of a model's tokenizer; its weights are not loaded.

    Raises:
        InputError: see `load`.
    """
    tokenizer = load_tokenizer(model, revision=revision, trust_remote_code=trust_remote_code)
    return ChatRenderer(tokenizer, load_template(template) if template else None, template_variables)


def load_tokenizer(
    model: str | Path, *, revision: str | None = None, trust_remote_code: bool = False
) -> "PreTrainedTokenizerFast":
    """Load the tokenizer alone.

    Raises:
        InputError: see `load`.
    """
    from transformers import AutoTokenizer

    folder = Path(model)
    if str(model).startswith((".", "/", "~")) and not folder.is_dir():
        raise InputError(f"{model}: no such model folder")
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise InputError(f"{model}: no model folder, config.json is missing")
    with _loading(model):
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision, trust_remote_code=trust_remote_code)
    return cast("PreTrainedTokenizerFast", tokenizer)


def _device(name: str | None) -> "torch.device":
    import torch

    try:
        place = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=place)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return place


@contextmanager
def _loading(model: str | Path) -> Iterator[None]:
    """Turn what the loaders raise into one line: for what is missing, out of reach or refused."""
    try:
        yield
    except (OSError, ValueError, ImportError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise InputError(f"{model}: cannot be loaded: {' '.join(lines[:2])}") from error


def identity_of(
    model: str | Path, renderer: ChatRenderer, *, revision: str | None = None, trust_remote_code: bool = False
) -> dict[str, Any]:
    """What any use of a model depends on: weights, tokenizer, template.

    Raises:
        InputError: its configuration cannot be loaded, or a hub model's revision is not known.
    """
    tokenizer = renderer.tokenizer.backend_tokenizer.to_str()
    return {
        "model": _weights_identity(model, revision, trust_remote_code),
        "tokenizer_sha256": hashlib.sha256(tokenizer.encode()).hexdigest(),
        **renderer.identity(),
    }


def _weights_identity(model: str | Path, revision: str | None, with_code: bool) -> dict[str, str]:
    """A hub commit, or for a folder the digest of its weights, configuration and code, where that is run; never a path."""
    from transformers import AutoConfig

    folder = Path(model)
    if not folder.is_dir():
        with _loading(model):
            config = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=with_code)
        commit = getattr(config, "_commit_hash", None)
        if not commit:
            raise InputError(f"{model}: its revision is not known, so that its scores could not be told apart")
        return {"hub": str(model), "revision": str(commit)}
    hasher = hashlib.sha256()
    code = folder.glob("*.py") if with_code else ()
    for path in sorted([*folder.glob(WEIGHTS), folder / "config.json", *code]):
        hasher.update(path.name.encode())
        with path.open("rb") as file:
            hasher.update(hashlib.file_digest(file, "sha256").digest())
    return {"sha256": hasher.hexdigest()}
