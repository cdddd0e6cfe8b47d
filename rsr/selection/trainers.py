"""Settings files for trainers, to lie beside a training set: they learn the responses and nothing else.

TRL's keys are those of its `SFTConfig`, `ModelConfig` and dataset mixtures; LLaMA-Factory's are those of its examples and of
data/README.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsr.data import export
from rsr.data.formats.chats import shape

NEEDS_MARKS = (
    "\n# TRL finds the responses by marks in the student's chat template, and knows them of common families. If it says that the\n"
    "# template is not training-compatible, select with --format prompt-completion, which needs none."
)
NO_WEIGHTS = "\n# The records have weights. This trainer does not read them: experiments/train.py does."
TRL, LLAMA_FACTORY = "trl.yaml", "llamafactory.yaml"
PASSES = {  # over the data; where to begin, as batch and learning rate depend on student and machine
    "num_train_epochs": 3,
    "learning_rate": 1e-5,
    "lr_scheduler_type": "cosine",
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 16,
}


@dataclass(frozen=True)
class Training:
    """What trainers must know of how the data were scored.

    Attributes:
        student: folder or hub name, as it was given; None where only its scores were.
        max_length: tokens of a chat that were scored, which are those to train on.
        bf16: whether the student computes in bfloat16.
    """

    student: str | None
    max_length: int
    bf16: bool


def settings(record: Mapping[str, Any], folder: Path, file_name: str, training: Training) -> dict[str, str]:
    """The settings files by name, for every trainer that reads records like this one."""
    model = {} if training.student is None else {"model_name_or_path": training.student}
    common = {**PASSES, "bf16": training.bf16, "output_dir": str(folder / "trained")}
    note = NO_WEIGHTS if record.get("weight") is not None else ""
    files = {}
    form = shape(record)
    if form in ("prompt", "messages"):  # of the others TRL tells no responses
        only = "completion_only_loss" if form == "prompt" else "assistant_only_loss"
        data = {"path": "json", "data_files": str(folder / file_name), "split": "train"}
        if file_name.endswith(".parquet"):
            data["path"] = "parquet"
        marks = "" if form == "prompt" else NEEDS_MARKS
        files[TRL] = _yaml(
            f"trl sft --config {folder / TRL}{marks}{note}",
            model | {"datasets": [data], only: True, "max_length": training.max_length} | common,
        )
    if export.dataset_info([record], file_name):
        files[LLAMA_FACTORY] = _yaml(
            f"llamafactory-cli train {folder / LLAMA_FACTORY}{note}",
            {"stage": "sft", "do_train": True, "finetuning_type": "full"}
            | model
            | {"dataset_dir": str(folder), "dataset": export.NAME, "cutoff_len": training.max_length}
            | common,
        )
    return files


def _yaml(command: str, values: Mapping[str, Any]) -> str:
    import yaml

    named = (
        ""
        if "model_name_or_path" in values
        else "# model_name_or_path: the student, which only its scores were given of\n"
    )
    return f"# {command}\n{named}{yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)}"
