"""The training stage: a student fine-tuned on each of its teachers' datasets."""

from collections.abc import Callable

from experiments import students
from experiments.config import TrainConfig, Wandb
from rsr.artefacts import Artefact, find_or_begin
from rsr.errors import InputError
from rsr.trajectories import Dataset
from train import Base, Tracking, Training, fine_tune
from train.sft import STAGE, model_key


def training_of(config: TrainConfig) -> Training:
    """The student's training settings.

    Raises:
        InputError: it has none.
    """
    if config.student.training is None:
        raise InputError(
            f"student {config.student.name!r} has no training settings: give student.training.learning_rate, batch_size, "
            "epochs and max_length, or write them into configs/student/"
        )
    return config.student.training


def find(config: TrainConfig, base: Base, dataset: Dataset) -> Artefact:
    """The trained student of a dataset, complete or not.

    Raises:
        InputError: see `rsr.artefacts.find_or_begin`.
    """
    label = f"{base.name}-{dataset.name}".replace("/", "-")
    return find_or_begin(config.paths.outputs, STAGE, label, model_key(base, dataset, training_of(config)))


def train(
    config: TrainConfig, dataset: Dataset, progress: Callable[[int, int], None] = lambda step, steps: None
) -> Artefact:
    """Train the student on a dataset, or find it trained.

    Raises:
        InputError: see `train.fine_tune`.
    """
    base = students.base_of(config.student, config.scoring, config.paths)
    return fine_tune(
        base,
        dataset,
        training_of(config),
        config.paths.outputs,
        tracking=tracking_of(config, f"train {base.name} {dataset.name}"),
        progress=progress,
    )


def tracking_of(config: TrainConfig, run_name: str) -> Tracking:
    """Where the trainer reports to."""
    return Tracking((), None) if config.tracking.wandb is Wandb.off else Tracking(("wandb",), run_name)
