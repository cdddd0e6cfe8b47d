"""What transformers loads of a model folder or a hub name: each whole, or refused in one line."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rsr.errors import InputError
from rsr.student import weights
from rsr.student.images import ImageProcessor
from rsr.student.settings import SPREAD, WeightsDtype

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


def positions_of(config: Any) -> int | None:
    """Longest sequence that a model of this configuration has positions for; None where it does not say.

    Of a model of several parts (text, images) it is the text model's.
    """
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(positions) if positions else None


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


def load_config(model: str | Path, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """A model's configuration.

    Raises:
        InputError: it cannot be loaded.
    """
    from transformers import AutoConfig

    _check_folder(model)
    with loading(model):
        return AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=trust_remote_code)


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


def load_processor(model: str | Path, **source: Any) -> ImageProcessor | None:
    """The processor of a model that sees; None where its files are not there, or are of no processor of text and images."""
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(model, **source)
    except (OSError, ValueError, ImportError):  # said of the first chat with an image
        return None
    return ImageProcessor(processor) if hasattr(processor, "image_processor") else None


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


def own_attention(model: str | Path, *, revision: str | None = None, trust_remote_code: bool = False) -> str:
    """The attention implementation that a model takes where none is asked for: sdpa, or else eager.

    Raises:
        InputError: its configuration cannot be loaded, or it is no causal language model.
    """
    empty = without_weights(model, revision=revision, trust_remote_code=trust_remote_code)
    return str(empty.config._attn_implementation)


def without_weights(model: str | Path, *, revision: str | None, trust_remote_code: bool) -> "PreTrainedModel":
    import torch

    config = load_config(model, revision=revision, trust_remote_code=trust_remote_code)
    with loading(model), torch.device("meta"):
        return cast("PreTrainedModel", _loader(config).from_config(config, trust_remote_code=trust_remote_code))


def sees(config: Any) -> bool:
    """Whether the model that is loaded for this configuration takes images."""
    models = _loader(config)._model_mapping
    return type(config) in models and "pixel_values" in signature(models[type(config)].forward).parameters


def _loader(config: Any) -> Any:
    """transformers' class for a model: one that sees is not always among its causal language models."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    causal = AutoModelForCausalLM._model_mapping
    sees = type(config) not in causal and type(config) in AutoModelForImageTextToText._model_mapping
    return AutoModelForImageTextToText if sees else AutoModelForCausalLM
