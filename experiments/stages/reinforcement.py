"""The reinforcement stage: the student, or as it was fine-tuned on a dataset, reinforced with GRPO."""

from collections.abc import Callable
from typing import Any

from experiments.app.command_configs import BeyondSftConfig
from experiments.app.gpus import take_one_gpu
from experiments.stages import students, teacher_data, training
from experiments.stages.evaluation import BASE
from rsr.data.trajectories import Dataset
from rsr.store.artefacts import Artefact, digest, locate
from train import grpo
from train.base import Base
from train.grpo import STAGE, Task
from train.sft import MODEL


def task_of(config: BeyondSftConfig, base: Base) -> Task:
    """The problems of the first teacher's dataset; the reward is given for the right answer.

    Raises:
        InputError: see `experiments.stages.teacher_data.load` and `train.grpo.task_of`.
    """
    first = teacher_data.load(config.teachers, config.scoring, config.paths)[0]
    return grpo.task_of(base.renderer, first, config.teachers.answer, config.teachers.grader)


def label_of(base: Base, dataset: Dataset | None) -> str:
    """How a reinforced student is called."""
    return f"{base.name}-{dataset.name if dataset else BASE}-{STAGE}"


def find(config: BeyondSftConfig, base: Base, dataset: Dataset | None, task: Task) -> Artefact:
    """The student after reinforcement, complete or not.

    Args:
        dataset: that it was fine-tuned on before; None: the base.

    Raises:
        InputError: see `rsr.store.artefacts.locate`.
    """
    key = grpo.reinforced_key(_start(config, base, dataset), task, config.reinforcement)
    return locate(config.paths.outputs, STAGE, label_of(base, dataset), key)


def reinforce(
    config: BeyondSftConfig,
    dataset: Dataset | None,
    progress: Callable[[int, int], None] = lambda step, steps: None,
) -> Artefact:
    """Reinforce the student, or find it reinforced; its fine-tuned weights are made again where they were not kept.

    Args:
        dataset: see `find`.

    Raises:
        InputError: see `experiments.stages.training.train` and `train.grpo.reinforce`.
    """
    take_one_gpu()
    base = students.base_of(config.student, config.scoring, config.paths)
    model = base.model if dataset is None else str(training.train(config, dataset).checked(MODEL))
    return grpo.reinforce(
        base,
        model,
        _start(config, base, dataset),
        task_of(config, base),
        config.reinforcement,
        config.paths.outputs,
        label_of(base, dataset),
        progress=progress,
    )


def _start(config: BeyondSftConfig, base: Base, dataset: Dataset | None) -> dict[str, Any]:
    """What identifies the weights that reinforcement starts from."""
    if dataset is None:
        return {"base": base.identity()}
    return {"trained": digest(training.find(config, base, dataset).key)}
