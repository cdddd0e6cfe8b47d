"""A student: model, tokenizer, chat template, and what identifies them; loaded, described by its files, or passed in."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from rsr.errors import InputError
from rsr.student import pretrained
from rsr.student.chat import ChatRenderer
from rsr.student.device import device_of, first_device, memory_on, places, tell_of_dtype, weights_dtype
from rsr.student.identity import identity_of, state_digest, tokenizer_digest
from rsr.student.settings import SPREAD, BoundaryTokens, Dtype, Loading, Rendering, WeightsDtype
from rsr.student.template import load_template

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

PREFERRED = "sdpa"  # attention implementation of all models that have it
LOG = logging.getLogger(__name__)


class AnyStudent(Protocol):
    """What scoring asks of a student, whatever runs it; see `Student`."""

    @property
    def name(self) -> str: ...
    @property
    def renderer(self) -> ChatRenderer: ...
    @property
    def identity(self) -> Mapping[str, Any]: ...
    @property
    def max_positions(self) -> int | None: ...
    @property
    def notes(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Student:
    """A loaded student.

    Attributes:
        name: for people; not part of its identity.
        identity: what its scores depend on: weights, tokenizer, template, dtype, attention implementation, device type.
        notes: what a reader of its scores should know of how it was loaded.
    """

    name: str
    model: "PreTrainedModel"
    renderer: ChatRenderer
    identity: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def device(self) -> "torch.device":
        """Where token ids go; of a student that is spread, its first."""
        return first_device(self.model)

    @property
    def max_positions(self) -> int | None:
        """Longest sequence the model has positions for; None where its configuration does not say."""
        return pretrained.positions_of(self.model.config)


@dataclass(frozen=True)
class DescribedStudent:
    """A student that is known and not loaded, or runs elsewhere; for its attributes see `Student`."""

    name: str
    renderer: ChatRenderer
    identity: Mapping[str, Any]
    max_positions: int | None
    notes: tuple[str, ...] = ()


def load(
    model: str | Path,
    *,
    name: str | None = None,
    revision: str | None = None,
    dtype: Dtype = "auto",
    attention: str | None = None,
    device: str | None = None,
    template: str | None = None,
    template_variables: Mapping[str, Any] | None = None,
    rendering: Rendering = "whole",
    boundary_tokens: BoundaryTokens = "exclude",
    trust_remote_code: bool = False,
) -> Student:
    """Load a causal language model from a folder or the hub, safetensors only.

    Args:
        dtype: of the weights; "auto" takes what the device computes in hardware (`rsr.student.device.weights_dtype`).
        attention: attention implementation ("sdpa", "eager", "flash_attention_2", ...); None takes the model's own.
        device: None takes a GPU where there is one; "auto" spreads the weights over all GPUs, main memory and disk, as
            transformers' device_map does.
        template: name or file of a chat template; None takes the tokenizer's own.
        rendering, boundary_tokens: see `Loading`.

    Raises:
        InputError: the model, its weights or its tokenizer cannot be loaded, and what to do about it.
    """
    variables = template_variables or {}
    settings = Loading(
        template, variables, rendering, boundary_tokens, dtype, attention, device, revision, trust_remote_code
    )
    return load_described(model, settings, describe(model, settings, name=name))


def load_described(model: str | Path, settings: Loading, described: DescribedStudent) -> Student:
    """Load a student that is described already: its files are not read again for their digest.

    Raises:
        InputError: see `load`.
    """
    place = device_of(settings.device)
    spread = settings.device == SPREAD
    dtype: WeightsDtype = described.identity["dtype"]
    source: dict[str, Any] = {"revision": settings.revision, "trust_remote_code": settings.trust_remote_code}
    if not spread:
        _refuse_too_large(pretrained.without_weights(model, **source), described.name, dtype, place)
    loaded, notes = pretrained.load_model(model, dtype=dtype, attention=settings.attention, spread=spread, **source)
    tell_of_dtype(settings.dtype, dtype, place)  # what cannot be loaded needs no such line
    identity = {**described.identity, "attention": loaded.config._attn_implementation}
    if settings.attention is None and identity["attention"] != PREFERRED:
        LOG.warning(
            "%s has no attention by %s: going on with %s, which is as exact", model, PREFERRED, identity["attention"]
        )
    ready = loaded.requires_grad_(False).eval()
    if not spread:
        ready.to(place)
    elif len(parts := places(loaded)) > 1:
        said = ", ".join(f"{where} {size / 1e9:.2f} GB" for where, size in parts.items())
        LOG.warning("%s is spread: %s; what is offloaded is copied for every batch", described.name, said)
    return Student(described.name, loaded, described.renderer, identity, notes)


def _refuse_too_large(empty: "PreTrainedModel", name: str, dtype: WeightsDtype, place: "torch.device") -> None:
    import torch

    weights = sum(parameter.numel() for parameter in empty.parameters()) * getattr(torch, dtype).itemsize
    if weights > (free := memory_on(place)):
        raise InputError(
            f"{name}: its weights take {weights / 1e9:.2f} GB in {dtype}, and {place} has {free / 1e9:.2f} GB: device={SPREAD} "
            "spreads them over all devices, main memory and disk"
        )


def describe(model: str | Path, settings: Loading, *, name: str | None = None) -> DescribedStudent:
    """A student as `load` would give it, but for its weights, of which the files alone are read for their digest.

    Raises:
        InputError: see `load`.
    """
    # First what is quickly seen to be wrong: the imports take seconds.
    pretrained.check(model)
    if settings.template:
        load_template(settings.template)
    place = device_of(settings.device)
    source: dict[str, Any] = {"revision": settings.revision, "trust_remote_code": settings.trust_remote_code}
    renderer = load_renderer(model, **settings.of_chats, **source, seeing=True)
    identity = {
        **identity_of(model, renderer, **source),
        "dtype": weights_dtype(settings.dtype, settings.device),
        "attention": settings.attention or pretrained.own_attention(model, **source),
        "device": place.type,
    }
    positions = pretrained.positions_of(pretrained.load_config(model, **source))
    return DescribedStudent(name or Path(model).absolute().name, renderer, identity, positions)


def of_model(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerFast",
    *,
    name: str | None = None,
    template: str | None = None,
    template_variables: Mapping[str, Any] | None = None,
    rendering: Rendering = "whole",
    boundary_tokens: BoundaryTokens = "exclude",
) -> Student:
    """A model that is loaded already, known by the digest of its state dict and configuration.

    So its artefacts are found again by an equal model passed in, not by a folder or hub name of the same model.

    Raises:
        InputError: the tokenizer has no chat template, or is not a fast one.
    """
    if "offloaded" in places(model):
        raise InputError(
            f"weights in main memory or on disk have no digest: give the model's folder, with device={SPREAD}"
        )
    chosen = load_template(template) if template else None
    rows = cast("torch.nn.Embedding", model.get_input_embeddings()).num_embeddings
    renderer = ChatRenderer(tokenizer, chosen, template_variables, rows, rendering, boundary_tokens)
    identity = {
        "model": {"state_dict_sha256": state_digest(model)},
        "tokenizer_sha256": tokenizer_digest(renderer),
        "dtype": str(model.dtype).removeprefix("torch."),
        "attention": model.config._attn_implementation,
        "device": first_device(model).type,
        **renderer.identity(),
    }
    given = str(getattr(model.config, "_name_or_path", "") or model.config.model_type)
    return Student(name or Path(given).name, model.eval(), renderer, identity)


def load_renderer(
    model: str | Path,
    *,
    revision: str | None = None,
    template: str | None = None,
    template_variables: Mapping[str, Any] | None = None,
    rendering: Rendering = "whole",
    boundary_tokens: BoundaryTokens = "exclude",
    trust_remote_code: bool = False,
    seeing: bool = False,
) -> ChatRenderer:
    """The chat renderer of a model's tokenizer; its weights are not loaded.

    Args:
        seeing: with the processor of images of a model that has one.

    Raises:
        InputError: see `load`.
    """
    chosen = load_template(template) if template else None
    tokenizer = pretrained.load_tokenizer(model, revision=revision, trust_remote_code=trust_remote_code)
    config = pretrained.load_config(model, revision=revision, trust_remote_code=trust_remote_code)
    rows = getattr(config.get_text_config(), "vocab_size", None)
    processor = None
    if seeing and pretrained.sees(config):
        processor = pretrained.load_processor(model, revision=revision, trust_remote_code=trust_remote_code)
    return ChatRenderer(tokenizer, chosen, template_variables, rows, rendering, boundary_tokens, processor)
