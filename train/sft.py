"""Supervised fine-tuning of a student on one dataset, with TRL."""

import json
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rsr.data.trajectories import Dataset
from rsr.errors import InputError
from rsr.store.artefacts import Artefact, digest, find_or_begin, write_text, writing
from rsr.store.locks import locking
from rsr.student import pretrained
from train.base import Base
from train.checkpoints import PREFIX, last_whole, note_digests
from train.devices import refuse_copies, refuse_several
from train.loss import refuse_other_head
from train.rows import Rows, training_rows
from train.saving import end_turns, save, tokenizer_of
from train.settings import Training
from train.stopping import rate_of_stopping, tokens_to_stop_within
from train.token_weights import weights_of_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

# Raised when what a trained model of the same key is changes.
VERSION = 2
STAGE = "trained"
MODEL, HISTORY, CHECKPOINTS = "model", "history.json", "checkpoints"
# Attention that keeps packed trajectories apart by their position ids; the tests show it of the first two.
KEEPS_PACKED_APART = ("sdpa", "eager", "flash_attention_2", "flash_attention_3")


@dataclass(frozen=True)
class Tracking:
    """Where the trainer reports to: [] or ["wandb"]."""

    report_to: tuple[str, ...] = ()
    run_name: str | None = None


def model_key(base: Base, dataset: Dataset, training: Training) -> dict[str, object]:
    """Everything that shapes a trained student."""
    key = {
        "stage": STAGE,
        "version": VERSION,
        "base": base.identity(),
        "data": dataset.digest(),
        "training": training.identity(),
    }
    weights = [t.weight for t in dataset.trajectories]
    return key | ({"weights": digest({"weights": weights})} if any(w is not None for w in weights) else {})


@locking
def fine_tune(
    base: Base,
    dataset: Dataset,
    training: Training,
    root: Path,
    *,
    tracking: Tracking = Tracking(),
    progress: Callable[[int, int], None] = lambda step, steps: None,
) -> Artefact:
    """Train a student on a dataset, or find it trained; killed and called again, it goes on from its last checkpoint.

    The artefact holds `model/`, a plain model folder whose tokenizer and generation settings end a turn with the token that
    was trained to end it, and `history.json`, the trainer's log.

    Args:
        progress: called after every step with its number and the number of all.

    Raises:
        InputError: a trajectory cannot be rendered or is too long, a setting fits nothing, the loss diverges, or the disk
            is full.
    """
    import torch
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    # Processes on CPUs would else each take themselves for the only one.
    state = PartialState(cpu=not torch.cuda.is_available())
    label = f"{base.name}-{dataset.name}"
    key = model_key(base, dataset, training)
    begun = find_or_begin(root, STAGE, label, key) if state.is_main_process else None
    artefact: Artefact = broadcast_object_list([begun])[0]  # the first process locks it for all
    if artefact.manifest is not None:
        return artefact
    rows = training_rows(
        base.renderer,
        dataset,
        training.max_length,
        training.overlong,
        token_weights=weights_of_tokens(base, dataset, training, root),
    )
    run = _train(base, dataset, rows, training, artefact.path, tracking, progress)
    if not state.is_main_process:
        return artefact
    within, stops = tokens_to_stop_within(rows), None
    if state.num_processes == 1:  # the first of several would keep the others waiting
        code = base.trust_remote_code
        stops = rate_of_stopping(artefact.path / MODEL, rows, within, training.attention, trust_remote_code=code)
    write_text(artefact.path / HISTORY, json.dumps(run.history, indent=1) + "\n")
    return artefact.complete(
        CHECKPOINTS,
        student=base.name,
        teacher=dataset.teacher,
        generation=dataset.generation,
        counts=_counts(dataset, rows),
        truncated=rows.truncated,
        dropped=rows.dropped,
        weights=rows.range_of_weights,
        steps=run.steps,
        loss=fmean(run.losses),
        stopped={"prompts": len(rows.prompts), "within": within, "rate": stops},
        seconds=round(run.seconds, 3),
        computed_with={
            "processes": state.num_processes,
            "device": state.device.type,
            **{k: getattr(training, k) for k in ("micro_batch", "gradient_checkpointing", "checkpoints")},
        },
        versions={name: version(name) for name in ("torch", "transformers", "trl", "peft")},
    )


@dataclass(frozen=True)
class _Run:
    """What a training did: its optimiser steps, the trainer's log, and its seconds (of this call)."""

    steps: int
    history: list[dict[str, Any]]
    seconds: float

    @property
    def losses(self) -> list[float]:
        """Of every step, those before a kill as well."""
        return [entry["loss"] for entry in self.history if "loss" in entry]


def _train(
    base: Base,
    dataset: Dataset,
    rows: Rows,
    training: Training,
    folder: Path,
    tracking: Tracking,
    progress: Callable[[int, int], None],
) -> _Run:
    """Train, from the last whole checkpoint in the folder, and save the model there."""
    began = time.perf_counter()
    trainer = _trainer(base, rows, training, folder, tracking, progress)
    with writing(folder):
        last = last_whole(folder / CHECKPOINTS)
        result = trainer.train(resume_from_checkpoint=None if last is None else str(last))
        run = _Run(result.global_step, trainer.state.log_history, time.perf_counter() - began)
        if not all(map(isfinite, run.losses)):
            raise InputError(f"the loss on {dataset.name} is not finite: lower student.training.learning_rate")
        model: Any = trainer.accelerator.unwrap_model(trainer.model)
        if training.lora.rank:
            model = model.merge_and_unload()
        end_turns(model, rows.eot)
        tokenizer = tokenizer_of(base.renderer, rows.eot)
        save(trainer, model, tokenizer, "bfloat16" if training.bf16 else "float32", folder / MODEL)
    return run


def _counts(dataset: Dataset, rows: Rows) -> dict[str, int]:
    return {
        "trajectories": len(dataset.trajectories),
        "rows": len(rows.input_ids),
        "tokens": rows.tokens,
        "response_tokens": rows.response_tokens,
        "truncated": len(rows.truncated),
        "dropped": len(rows.dropped),
        **{f"rendering_{name}": number for name, number in vars(rows.departures).items()},
        "malformed": len(dataset.skipped),
    }


def _trainer(
    base: Base,
    rows: Rows,
    training: Training,
    folder: Path,
    tracking: Tracking,
    progress: Callable[[int, int], None],
) -> "SFTTrainer":
    from accelerate import PartialState
    from datasets import Dataset as Table
    from datasets import disable_progress_bars
    from peft import LoraConfig, TaskType
    from transformers import PrinterCallback, TrainerCallback
    from transformers.utils import logging
    from trl.trainer.sft_trainer import SFTTrainer

    from train.weighted_trainer import WEIGHTS, WeightedTrainer

    devices = PartialState().num_processes

    class Report(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            progress(state.global_step, state.max_steps)

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if devices == 1:  # of several, the others may still be writing
                note_digests(folder / CHECKPOINTS / f"{PREFIX}{state.global_step}")

    logging.disable_progress_bar()
    disable_progress_bars()
    refuse_several(devices)
    _check(training, training.attention or str(base.identity()["attention"]), devices)
    if training.packing and rows.weights is not None:
        raise InputError("TRL packs no weights: choose student.training.packing=false")
    lora = None
    if training.lora.rank:
        lora = LoraConfig(
            task_type=TaskType.CAUSAL_LM,
            r=training.lora.rank,
            lora_alpha=training.lora.alpha,
            target_modules="all-linear",
        )
    arguments = _arguments(
        training, devices, folder, tracking
    )  # first: under ZeRO-3 they have weights spread as they load
    weights = {} if rows.weights is None else {WEIGHTS: rows.weights}
    trainer = (WeightedTrainer if weights else SFTTrainer)(
        _untrained(base, rows, training),
        arguments,
        train_dataset=Table.from_dict({"input_ids": rows.input_ids, "labels": rows.labels} | weights),
        processing_class=deepcopy(base.renderer.tokenizer),  # the trainer sets its special tokens
        peft_config=lora,
        callbacks=[Report()],
    )
    if lora and (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        raise InputError(
            "adapters cannot be merged into weights that FSDP or DeepSpeed spread: train them on one device"
        )
    refuse_copies(trainer)
    refuse_other_head(trainer, rows.input_ids[0])
    trainer.remove_callback(PrinterCallback)
    return trainer


def _check(training: Training, attention: str, devices: int) -> None:
    """Refuse settings that do not go together."""
    if training.packing and attention not in KEEPS_PACKED_APART:
        raise InputError(
            f"packing with attention={attention} may let trajectories see one another: choose "
            f"student.training.attention={KEEPS_PACKED_APART[0]}, or packing=false"
        )
    if training.batch_size % (training.micro_batch * devices):
        raise InputError(
            f"student.training.batch_size={training.batch_size} is no multiple of micro_batch={training.micro_batch} "
            f"times {devices} devices"
        )


def _untrained(base: Base, rows: Rows, training: Training) -> "PreTrainedModel":
    """The student before training, in float32."""
    model = trainable(base, base.model, training.attention)
    positions, longest = pretrained.positions_of(model.config), max(len(ids) for ids in rows.input_ids)
    if positions and longest > positions:
        raise InputError(
            f"a trajectory of {longest} tokens is beyond the {positions} positions of {base.name}: lower "
            "student.training.max_length"
        )
    return model


def trainable(base: Base, model: str, attention: str | None = None) -> "PreTrainedModel":
    """Weights to train, in float32: the student's own, or a folder of what was trained from it.

    Raises:
        InputError: see `rsr.student.pretrained.load_model`; or they carry an adapter, which training would freeze.
    """
    loaded, _ = pretrained.load_model(
        model,
        revision=base.revision if model == base.model else None,
        attention=attention,
        trust_remote_code=base.trust_remote_code,
    )
    if hasattr(loaded, "peft_config"):
        raise InputError(f"{model}: holds an adapter: merge it into the weights to train them")
    return loaded


def _arguments(training: Training, devices: int, folder: Path, tracking: Tracking) -> "SFTConfig":
    """The settings in the trainer's terms."""
    import torch
    from trl.trainer.sft_config import SFTConfig

    return SFTConfig(
        output_dir=str(folder / CHECKPOINTS),
        learning_rate=training.learning_rate,
        per_device_train_batch_size=training.micro_batch,
        gradient_accumulation_steps=training.batch_size // (training.micro_batch * devices),
        num_train_epochs=training.epochs,
        lr_scheduler_type="cosine",
        warmup_steps=training.warmup,  # below 1: a share of the steps
        optim="adamw_torch",
        adam_beta1=training.betas[0],
        adam_beta2=training.betas[1],
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        seed=training.seed,
        data_seed=training.seed,
        max_length=training.max_length if training.packing else None,  # overlong rows are dealt with already
        packing=training.packing,
        bf16=training.bf16,
        use_cpu=not torch.cuda.is_available(),  # where it is not said, bf16 is refused
        gradient_checkpointing=training.gradient_checkpointing,
        save_steps=min(0.999, 1 / training.checkpoints),  # a share of the steps, too
        save_total_limit=1,
        logging_steps=1,
        logging_nan_inf_filter=False,  # which would show a diverged run as one of loss 0
        report_to=list(tracking.report_to),
        run_name=tracking.run_name,
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
