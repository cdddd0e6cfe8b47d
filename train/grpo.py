"""Reinforcement of a student with TRL's GRPO: the reward is 1 for a right answer, 0 for a wrong one, and none without a verdict."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rsr.data.trajectories import Dataset
from rsr.errors import InputError
from rsr.grading.grader import VERSION as GRADER_VERSION
from rsr.grading.grader import Grader, Kind
from rsr.store.artefacts import Artefact, find_or_begin, write_text, writing
from rsr.store.locks import locking
from rsr.student.chat import ChatRenderer
from train.base import Base
from train.devices import refuse_several
from train.saving import end_turns, save, tokenizer_of
from train.settings import Reinforcement
from train.sft import HISTORY, MODEL, trainable

if TYPE_CHECKING:
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

# Raised when what a reinforced model of the same key is changes.
VERSION = 3
STAGE, WORK = "reinforced", "trainer"


@dataclass(frozen=True)
class Task:
    """Problems, and how answers to them are graded.

    Attributes:
        prompts: as the student sees them, rendered by the one chat renderer; with `answers` in their order.
        pattern: see `rsr.grading.grader.extract`.
    """

    prompts: Sequence[str]
    answers: Sequence[str]
    pattern: str | None = None
    kind: Kind = Kind.mathematics

    def identity(self) -> dict[str, Any]:
        grader = {"version": GRADER_VERSION, "pattern": self.pattern, "kind": self.kind.value}
        return {"prompts": list(self.prompts), "answers": list(self.answers), "grader": grader}


def task_of(renderer: ChatRenderer, dataset: Dataset, pattern: str | None, kind: Kind) -> Task:
    """The problems of a dataset: what comes before the first response of each chat.

    Raises:
        InputError: a problem has no answer, or its prompt cannot be rendered.
    """
    prompts, answers = [], []
    for t in dataset.trajectories:
        if t.answer is None:
            raise InputError(f"{dataset.name}, trajectory {t.id}: no answer is known, which the reward is given for")
        if t.images:
            raise InputError(
                f"{dataset.name}, trajectory {t.id}: has images, which GRPO shows to no student: leave it out"
            )
        first_reply = next(i for i, m in enumerate(t.messages) if m.role == "assistant")
        prompts.append(renderer.text(t.messages[:first_reply], t.tool_schemas, generation_prompt=True))
        answers.append(t.answer)
    return Task(prompts, answers, pattern, kind)


def reinforced_key(start: Mapping[str, Any], task: Task, settings: Reinforcement) -> dict[str, Any]:
    """Everything that shapes a reinforced student.

    Args:
        start: what identifies the weights that it starts from.
    """
    task_and_settings = {"task": task.identity(), "reinforcement": settings.identity()}
    return {"stage": STAGE, "version": VERSION, "start": dict(start), **task_and_settings}


@locking
def reinforce(
    base: Base,
    model: str,
    start: Mapping[str, Any],
    task: Task,
    settings: Reinforcement,
    root: Path,
    label: str,
    *,
    progress: Callable[[int, int], None] = lambda step, steps: None,
) -> Artefact:
    """Reinforce a student, or find it reinforced. The artefact holds `model/` and `history.json`, as that of fine-tuning.

    Args:
        base: the student, whose renderer made the prompts.
        model: folder or hub name of the weights to start from, which `start` identifies.

    Raises:
        InputError: the template ends no turn, the loss diverges, or the disk is full.
    """
    artefact = find_or_begin(root, STAGE, label, reinforced_key(start, task, settings))
    if artefact.manifest is not None:
        return artefact
    if (eot := base.renderer.eot_id()) is None:
        raise InputError(f"the chat template of {base.name} ends no turn: sampled answers would have no end")
    began = time.perf_counter()
    with Grader(kind=task.kind) as grader:
        trainer = _trainer(base, model, eot, task, settings, artefact.path, grader, progress)
        trainer.train()
    history = trainer.state.log_history
    steps = [entry for entry in history if "loss" in entry]
    if not all(isfinite(entry["loss"]) for entry in steps):
        raise InputError(f"the loss of {label} is not finite: lower reinforcement.learning_rate")
    with writing(artefact.path):
        trained: Any = trainer.accelerator.unwrap_model(trainer.model)
        save(trainer, trained, tokenizer_of(base.renderer, eot), "float32", artefact.path / MODEL)
        write_text(artefact.path / HISTORY, json.dumps(history, indent=1) + "\n")
    rewards = [entry["reward"] for entry in steps]
    tenth = max(1, len(steps) // 10)
    return artefact.complete(
        WORK,
        student=base.name,
        steps=len(steps),
        reward={"first": _mean(rewards[:tenth]), "last": _mean(rewards[-tenth:])},
        **{name: fmean(entry[name] for entry in steps) for name in ("ungradable", "idle")},
        seconds=round(time.perf_counter() - began, 3),
        computed_with={"device": trainer.args.device.type, "micro_batch": settings.micro_batch},
        versions={name: version(name) for name in ("torch", "transformers", "trl")},
    )


def shares(verdicts: Sequence[bool | None], samples: int) -> dict[str, float]:
    """Shares of answers without a verdict (`ungradable`), and of groups without a difference to learn from (`idle`).

    Args:
        verdicts: of whole groups, one after the other.
        samples: of a group.
    """
    groups = [set(verdicts[i : i + samples]) - {None} for i in range(0, len(verdicts), samples)]
    return {
        "ungradable": verdicts.count(None) / len(verdicts),
        "idle": sum(len(group) < 2 for group in groups) / len(groups),
    }


def _mean(rewards: Sequence[float | None]) -> float | None:
    """Of the steps in which any answer had a verdict."""
    known = [reward for reward in rewards if reward is not None]
    return fmean(known) if known else None


def _trainer(
    base: Base,
    model: str,
    eot: int,
    task: Task,
    settings: Reinforcement,
    folder: Path,
    grader: Grader,
    progress: Callable[[int, int], None],
) -> "GRPOTrainer":
    from datasets import Dataset as Table
    from datasets import disable_progress_bars
    from transformers import PrinterCallback, TrainerCallback
    from transformers.utils import logging
    from trl.trainer.grpo_trainer import GRPOTrainer

    tokenizer = tokenizer_of(base.renderer, eot)

    class Trainer(GRPOTrainer):
        def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
            """The prompts' text is whole; TRL's own way would add what the tokenizer puts before any text."""
            return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in prompts], None, {}

    class Report(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            progress(state.global_step, state.max_steps)

    def reward(
        prompts: list[str],
        completion_ids: list[list[int]],
        answer: list[str],
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float | None]:
        ended = [ids[:-1] if ids and ids[-1] == eot else ids for ids in completion_ids]
        texts = [
            str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)) for ids in ended
        ]
        # Where the template has opened the thinking, it belongs to the answer, as in evaluation.
        whole = [f"<think>{t}" if p.rstrip().endswith("<think>") else t for p, t in zip(prompts, texts, strict=True)]
        grades = grader.grade(zip(answer, whole, strict=True), task.pattern)
        verdicts = [grade.verdict for grade in grades]
        for name, share in shares(verdicts, settings.samples).items():
            log_metric(name, share)
        # The trainer leaves an answer without a reward out of the mean of its group, and learns nothing from it.
        return [None if verdict is None else float(verdict) for verdict in verdicts]

    logging.disable_progress_bar()
    disable_progress_bars()
    refuse_several(processes=1)
    weights: Any = trainable(base, model)
    end_turns(weights, eot)
    trainer = Trainer(
        weights,
        reward,
        _arguments(settings, folder),
        train_dataset=Table.from_dict({"prompt": list(task.prompts), "answer": list(task.answers)}),
        processing_class=tokenizer,
        callbacks=[Report()],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(settings: Reinforcement, folder: Path) -> "GRPOConfig":
    """The settings in the trainer's terms."""
    import torch
    from trl.trainer.grpo_config import GRPOConfig

    return GRPOConfig(
        output_dir=str(folder / WORK),
        max_steps=settings.steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant",
        max_grad_norm=settings.max_grad_norm,
        per_device_train_batch_size=settings.micro_batch,
        gradient_accumulation_steps=settings.prompts * settings.samples // settings.micro_batch,
        num_generations=settings.samples,
        temperature=settings.temperature,
        beta=0.0,  # another would load the student by its name once more, in whatever revision is the newest
        max_completion_length=settings.max_new_tokens,
        seed=settings.seed,
        data_seed=settings.seed,
        bf16=False,
        save_strategy="no",
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
