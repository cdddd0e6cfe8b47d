"""The training stage: a student fine-tuned on each of its teachers' datasets."""

from collections.abc import Callable

from experiments.app import tracking
from experiments.app.gpus import take_one_gpu
from experiments.app.shared_configs import ScoreConfig, Wandb
from experiments.stages import students
from rsr.data.trajectories import Dataset
from rsr.store.artefacts import Artefact, locate
from train.base import Base
from train.sft import STAGE, Tracking, fine_tune, model_key


def find(config: ScoreConfig, base: Base, dataset: Dataset) -> Artefact:
    """The trained student of a dataset, complete or not.

    Raises:
        InputError: see `rsr.store.artefacts.locate`.
    """
    return locate(
        config.paths.outputs, STAGE, f"{base.name}-{dataset.name}", model_key(base, dataset, config.student.training)
    )


def train(
    config: ScoreConfig, dataset: Dataset, progress: Callable[[int, int], None] = lambda step, steps: None
) -> Artefact:
    """Train the student on a dataset, or find it trained.

    Raises:
        InputError: see `train.fine_tune`.
    """
    take_one_gpu()
    tracking.prepare(config.tracking, config.paths.outputs)
    base = students.base_of(config.student, config.scoring, config.paths)
    try:
        return fine_tune(
            base,
            dataset,
            config.student.training,
            config.paths.outputs,
            tracking=tracking_of(config, f"train {base.name} {dataset.name}"),
            progress=progress,
        )
    finally:
        tracking.finish(config.tracking)


def tracking_of(config: ScoreConfig, run_name: str) -> Tracking:
    """Where the trainer reports to."""
    return Tracking((), None) if config.tracking.wandb is Wandb.off else Tracking(("wandb",), run_name)
