"""How long will it take? At the pace of what was run before."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.performance import STAGE as GRADES
from experiments.app.config import StudyConfig
from experiments.study.study import processes_of
from rsr.data.trajectories import Dataset
from rsr.store.artefacts import MANIFEST
from train.sft import STAGE as TRAINED

LONG = 600  # seconds; what takes longer says so before it starts


def announce(config: StudyConfig, data: Sequence[Dataset], seeds: int) -> None:
    """Say before it starts how many trainings there will be, and that they take long where they do at the pace of this
    student's earlier ones. Nothing is taken off for what is there already.
    """
    said = f"{len(data) * seeds} trainings and evaluations, less what is there"
    trained = [(of["seconds"], of["counts"]["rows"]) for of in _manifests(config, TRAINED)]
    graded = [of["seconds"] for of in _manifests(config, GRADES)]
    if trained and graded:
        each = sum(seconds for seconds, _ in trained) / sum(rows for _, rows in trained)
        evaluation = sum(graded) / len(graded) * len(config.evaluation.benchmarks)
        seconds = sum(each * len(dataset.trajectories) + evaluation for dataset in data) * seeds
        seconds /= processes_of(config.study)
        said += f": about {seconds / 60:.0f} min at the pace of earlier ones" if seconds > LONG else ""
    print(said, file=sys.stderr, flush=True)


def _manifests(config: StudyConfig, stage: str) -> list[dict[str, Any]]:
    files: list[Path] = sorted((config.paths.outputs / stage).glob(f"{config.student.name}-*/{MANIFEST}"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in files]
