"""A student: model, tokenizer, chat template, and what identifies them."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from rsr.errors import InputError
from rsr.student import weights
from rsr.student.chat import ChatRenderer
from rsr.student.device import device_of, first_device, memory_on, places, tell_of_dtype, weights_dtype
from rsr.student.images import ImageProcessor
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
        return positions_of(self.model.config)


@dataclass(frozen=True)
class DescribedStudent:
    """A student that is known and not loaded, or runs elsewhere; for its attributes see `Student`."""

    name: str
    renderer: ChatRenderer
    identity: Mapping[str, Any]
    max_positions: int | None
    notes: tuple[str, ...] = ()


def positions_of(config: Any) -> int | None:
    """Longest sequence that a model of this configuration has positions for; None where it does not say.

    Of a model of several parts (text, images) it is the text model's.
    """
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(positions) if positions else None


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
        _refuse_too_large(_without_weights(model, **source), described.name, dtype, place)
    loaded, notes = load_model(model, dtype=dtype, attention=settings.attention, spread=spread, **source)
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
    check(model)
    if settings.template:
        load_template(settings.template)
    place = device_of(settings.device)
    source: dict[str, Any] = {"revision": settings.revision, "trust_remote_code": settings.trust_remote_code}
    renderer = load_renderer(model, **settings.of_chats, **source, seeing=True)
    identity = {
        **identity_of(model, renderer, **source),
        "dtype": weights_dtype(settings.dtype, settings.device),
        "attention": settings.attention or own_attention(model, **source),
        "device": place.type,
    }
    positions = positions_of(load_config(model, **source))
    return DescribedStudent(name or Path(model).absolute().name, renderer, identity, positions)


def load_model(
    model: str | Path,
    *,
    revision: str | None = None,
    dtype: WeightsDtype = "float32",
    attention: str | None = None,
    spread: bool = False,
    trust_remote_code: bool = False,
) -> tuple["PreTrainedModel", tuple[str, ...]]:
    """Load a causal language model whose every weight is in the checkpoint, and an adapter that lies beside it.

    Args:
        attention: attention implementation; None leaves it to transformers.
        spread: over the devices of this machine, its memory and its disk.

    Returns:
        The model, and notes on what of the checkpoint it has no place for.

    Raises:
        InputError: it cannot be loaded, or a weight is missing or has another shape: a loader would draw it at random.
    """
    check(model)
    import torch
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    logging.getLogger("transformers.modeling_utils").addFilter(_is_no_report)  # which is read below
    logging.getLogger("accelerate.big_modeling").setLevel(logging.ERROR)  # what is offloaded is said by the caller
    config = load_config(model, revision=revision, trust_remote_code=trust_remote_code)
    load_whole: Any = _loader(config).from_pretrained
    adapter = _adapter(model, revision)
    if adapter and spread:
        raise InputError(f"{model}: holds an adapter, which device={SPREAD} does not spread: merge it into the weights")
    with loading(model):
        loaded, report = load_whole(
            model,
            revision=revision,
            dtype=getattr(torch, dtype),
            attn_implementation=attention,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            ignore_mismatched_sizes=True,  # which are refused below, in one line
            output_loading_info=True,
            device_map=SPREAD if spread else None,
            adapter_kwargs={"subfolder": "none"},  # found by itself, it would hide what is missing from the weights
        )
        of_adapter = loaded.load_adapter(str(model)).to_dict() if adapter else {}
    _refuse_drawn(model, report)
    if adapter:
        _refuse_drawn(model, of_adapter)
    unread = sorted(report["unexpected_keys"])
    return loaded, (f"the model has no place for {_first(unread)} of its checkpoint",) if unread else ()


def _is_no_report(record: logging.LogRecord) -> bool:
    return "LOAD REPORT" not in record.getMessage()


def _adapter(model: str | Path, revision: str | None) -> bool:
    """Whether an adapter is to be put on the weights."""
    from transformers.utils.import_utils import is_peft_available
    from transformers.utils.peft_utils import find_adapter_config_file

    folder = Path(model)
    if not folder.is_dir():
        if find_adapter_config_file(str(model), revision=revision) is not None:
            raise InputError(f"{model}: an adapter on the hub: merge it into its base, and give the folder")
        return False
    if weights.has_adapter(folder) and not is_peft_available():
        raise InputError(f"{model}: holds an adapter, which needs peft: pip install peft, or merge it into the weights")
    return weights.has_adapter(folder)


def _refuse_drawn(model: str | Path, report: Mapping[str, Any]) -> None:
    """What a loader misses in a checkpoint it draws at random, and says so in passing."""
    drawn = sorted({*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])})
    if drawn:
        raise InputError(
            f"{model}: its checkpoint is not whole: {_first(drawn)} missing or of another shape than its configuration says"
        )


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


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
        "model": {"state_dict_sha256": _state_digest(model)},
        "tokenizer_sha256": _tokenizer_digest(renderer),
        "dtype": str(model.dtype).removeprefix("torch."),
        "attention": model.config._attn_implementation,
        "device": first_device(model).type,
        **renderer.identity(),
    }
    given = str(getattr(model.config, "_name_or_path", "") or model.config.model_type)
    return Student(name or Path(given).name, model.eval(), renderer, identity)


def _state_digest(model: "PreTrainedModel") -> str:
    import torch

    config = model.config.to_dict()
    for key in ("_name_or_path", "transformers_version"):
        config.pop(key, None)
    hasher = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for key, value in sorted(model.state_dict().items()):
        hasher.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        hasher.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return hasher.hexdigest()


def check(model: str | Path) -> None:
    """Refuse what is seen to be no model before anything heavy is imported.

    Raises:
        InputError: a path without a folder, or a folder without a configuration or weights in safetensors.
    """
    _check_folder(model)
    if Path(model).is_dir():
        weights.files(Path(model))


def _check_folder(model: str | Path) -> None:
    folder = Path(model)
    if not str(model):
        raise InputError("the student is empty: give a model folder or a hub name")
    if folder.is_file():
        raise InputError(f"{model}: a file, where a model folder or a hub name is wanted")
    if str(model).startswith((".", "/", "~")) and not folder.is_dir():
        raise InputError(f"{model}: no such model folder")
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise InputError(f"{model}: no model folder, config.json is missing")


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
    tokenizer = load_tokenizer(model, revision=revision, trust_remote_code=trust_remote_code)
    config = load_config(model, revision=revision, trust_remote_code=trust_remote_code)
    rows = getattr(config.get_text_config(), "vocab_size", None)
    processor = None
    if seeing and _sees(config):
        processor = _load_processor(model, revision=revision, trust_remote_code=trust_remote_code)
    return ChatRenderer(tokenizer, chosen, template_variables, rows, rendering, boundary_tokens, processor)


def _load_processor(model: str | Path, **source: Any) -> ImageProcessor | None:
    """The processor of a model that sees; None where its files are not there, or are of no processor of text and images."""
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(model, **source)
    except (OSError, ValueError, ImportError):  # said of the first chat with an image
        return None
    return ImageProcessor(processor) if hasattr(processor, "image_processor") else None


def load_tokenizer(
    model: str | Path, *, revision: str | None = None, trust_remote_code: bool = False
) -> "PreTrainedTokenizerFast":
    """Load the tokenizer alone.

    Raises:
        InputError: see `load`.
    """
    _check_folder(model)
    from transformers import AutoTokenizer

    with loading(model):
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision, trust_remote_code=trust_remote_code)
    return cast("PreTrainedTokenizerFast", tokenizer)


def own_attention(model: str | Path, *, revision: str | None = None, trust_remote_code: bool = False) -> str:
    """The attention implementation that a model takes where none is asked for: sdpa, or else eager.

    Raises:
        InputError: its configuration cannot be loaded, or it is no causal language model.
    """
    empty = _without_weights(model, revision=revision, trust_remote_code=trust_remote_code)
    return str(empty.config._attn_implementation)


def _without_weights(model: str | Path, *, revision: str | None, trust_remote_code: bool) -> "PreTrainedModel":
    import torch

    config = load_config(model, revision=revision, trust_remote_code=trust_remote_code)
    with loading(model), torch.device("meta"):
        return cast("PreTrainedModel", _loader(config).from_config(config, trust_remote_code=trust_remote_code))


def _sees(config: Any) -> bool:
    """Whether the model that is loaded for this configuration takes images."""
    models = _loader(config)._model_mapping
    return type(config) in models and "pixel_values" in signature(models[type(config)].forward).parameters


def _loader(config: Any) -> Any:
    """transformers' class for a model: one that sees is not always among its causal language models."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    causal = AutoModelForCausalLM._model_mapping
    sees = type(config) not in causal and type(config) in AutoModelForImageTextToText._model_mapping
    return AutoModelForImageTextToText if sees else AutoModelForCausalLM


@contextmanager
def loading(model: str | Path) -> Iterator[None]:
    """Turn what the loaders raise into one line: for what is missing, out of reach or refused."""
    from huggingface_hub.utils import logging as hub_logging

    hub_logging.set_verbosity(logging.ERROR)  # it tells of every try to reach the hub
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # each of the libraries has its own, and Rust's tokenizers raise no other
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported for its name
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason is given"]
        kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
        place = "cannot be loaded" if Path(model).is_dir() else "no folder here, and cannot be loaded from the hub"
        if "offload_folder" in str(error):  # no setting here: the loader would rewrite the weights
            lines = ["its weights do not fit in the memory of this machine, and those of its kind cannot stay on disk"]
        if "attn_implementation" in str(error):  # an argument that is no setting here
            lines = ["it has no such attention implementation: leave attention out, or take attention=eager"]
        raise InputError(f"{model}: {place}: {kind}{' '.join(lines[:2])}") from error


def identity_of(
    model: str | Path, renderer: ChatRenderer, *, revision: str | None = None, trust_remote_code: bool = False
) -> dict[str, Any]:
    """What any use of a model depends on: weights, tokenizer, template.

    Raises:
        InputError: its configuration cannot be loaded, or a hub model's revision is not known.
    """
    return {
        "model": _weights_identity(model, revision, trust_remote_code),
        "tokenizer_sha256": _tokenizer_digest(renderer),
        **renderer.identity(),
    }


def _tokenizer_digest(renderer: ChatRenderer) -> str:
    return hashlib.sha256(renderer.tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def load_config(model: str | Path, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """A model's configuration.

    Raises:
        InputError: it cannot be loaded.
    """
    from transformers import AutoConfig

    _check_folder(model)
    with loading(model):
        return AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=trust_remote_code)


def _weights_identity(model: str | Path, revision: str | None, with_code: bool) -> dict[str, str]:
    """A hub commit, or for a folder the digest of its weights, configuration and code, where that is run; never a path."""
    from transformers import AutoConfig

    folder = Path(model)
    if not folder.is_dir():
        with loading(model):
            config = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=with_code)
        commit = getattr(config, "_commit_hash", None)
        if not commit:
            raise InputError(f"{model}: its revision is not known, so that its scores could not be told apart")
        return {"hub": str(model), "revision": str(commit)}
    return {"sha256": weights.digest(folder, with_code=with_code)}
