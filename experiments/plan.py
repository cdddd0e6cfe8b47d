"""What a measured study would cost, before anything is spent."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.performance import STAGE as GRADES
from experiments import datasets, students
from experiments.config import StudyConfig
from rsr import student
from rsr.artefacts import MANIFEST
from rsr.errors import InputError
from rsr.trajectories import Dataset
from train.sft import STAGE as TRAINED

# Assumptions behind the hours; an estimate, named with every number it gives.
FLOPS = 4e14  # per second: 40 % of one H200's peak in bfloat16
SAMPLE = 200  # trajectories that the length is estimated from
LONG = 600  # seconds; what takes longer says so before it starts


def refuse_or_go(config: StudyConfig) -> None:
    """Go ahead with a study whose teachers are made on the spot; of any other show the plan and ask for run=true.

    Raises:
        InputError: the plan was shown and not agreed to.
    """
    if config.teachers.recipe is not None or config.run:
        return
    print("\n".join(plan(config)))
    raise InputError("nothing has been run: add run=true to go ahead with this plan")


def announce(config: StudyConfig, data: Sequence[Dataset], seeds: int) -> None:
    """Say before it starts that training on datasets and evaluating will take long, at the pace of this student's earlier runs.

    Nothing is said where there was none, and nothing taken off for what is there already.
    """
    trained = [(of["seconds"], of["counts"]["rows"]) for of in _manifests(config, TRAINED)]
    graded = [of["seconds"] for of in _manifests(config, GRADES)]
    if not trained or not graded:
        return
    each = sum(seconds for seconds, _ in trained) / sum(rows for _, rows in trained)
    evaluation = sum(graded) / len(graded) * len(config.evaluation.benchmarks)
    seconds = sum(each * len(dataset.trajectories) + evaluation for dataset in data) * seeds
    seconds /= config.study.processes or os.cpu_count() or 1
    if seconds > LONG:
        minutes = f"about {seconds / 60:.0f} min at the pace of this student's earlier ones"
        print(f"{len(data) * seeds} trainings: {minutes}, less what is there", file=sys.stderr, flush=True)


def _manifests(config: StudyConfig, stage: str) -> list[dict[str, Any]]:
    files: list[Path] = sorted((config.paths.outputs / stage).glob(f"{config.student.name}-*/{MANIFEST}"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in files]


def plan(config: StudyConfig) -> list[str]:
    """Models, datasets, tokens, hours and disk of a study.

    Raises:
        InputError: the student or its data cannot be read.
    """
    training = config.student.training
    model = students.model_of(config.student, config.paths)
    parameters = student.parameters(
        model, revision=config.student.revision, trust_remote_code=config.scoring.trust_remote_code
    )
    renderer = student.load_renderer(
        model,
        revision=config.student.revision,
        template=config.student.template,
        template_variables=config.student.template_variables,
        trust_remote_code=config.scoring.trust_remote_code,
    )
    data = datasets.load(config.teachers, config.scoring, config.paths)
    tokens = 0.0
    for dataset in data:
        sample = dataset.trajectories[:SAMPLE]
        lengths = [min(renderer.render(t.messages).length, training.max_length) for t in sample]
        tokens += sum(lengths) / len(lengths) * len(dataset.trajectories)
    models = len(data) + 1
    evaluation = config.evaluation
    flops = {
        "score": 2 * parameters * tokens,
        "train": 6 * parameters * tokens * training.epochs,
    }
    hours = {stage: amount / FLOPS / 3600 for stage, amount in flops.items()}
    weights = parameters * (2 if training.bf16 else 4) / 1e9
    return [
        f"student     {config.student.name}: {model}, {parameters / 1e9:.3g} billion parameters",
        f"datasets    {len(data)} from {len({d.teacher for d in data})} teachers, "
        f"{sum(len(d.trajectories) for d in data):,} trajectories, about {tokens:,.0f} tokens (from the first {SAMPLE} each)",
        f"score       {hours['score']:.3g} GPU-hours",
        f"train       {len(data)} models, {training.epochs} epochs, {hours['train']:.3g} GPU-hours"
        + (f", LoRA of rank {training.lora.rank}" if training.lora.rank else ""),
        f"evaluate    {models} models on {', '.join(evaluation.benchmarks)}, {evaluation.samples} samples a problem of at most "
        f"{evaluation.max_new_tokens:,} tokens; hours depend on the lengths, which are not known before",
        f"disk        {len(data) * weights:.3g} GB of trained weights, {tokens * 12 / 1e9:.3g} GB of token statistics; "
        f"while it trains {12 * parameters / 1e9:.3g} GB for a checkpoint with its optimiser",
        f"assumed     {FLOPS:.0e} FLOP/s on one device (40 % of an H200's peak in bfloat16), 2 FLOP per parameter and token "
        "to score, 6 to train; attention not counted. An estimate, nothing of it is measured.",
    ]
