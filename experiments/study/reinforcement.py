"""The reinforcement stage: the student, and each that was fine-tuned from it, reinforced with GRPO and evaluated again."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from experiments.app.command_configs import BeyondSftConfig
from experiments.app.config import OnFailure
from experiments.app.processes import Job, Outcome, run_all
from experiments.stages import evaluation, students, teacher_data, training
from experiments.study.run_table import Cell, RunTable
from experiments.study.study import logs_of, processes_of
from experiments.study.trained import Learned, Learner
from rsr.data.trajectories import Dataset
from rsr.errors import InputError
from rsr.store.artefacts import Artefact, digest, locate
from train.grpo import STAGE, Task, reinforce, reinforced_key, task_of
from train.sft import MODEL, Base


@dataclass(frozen=True)
class Reinforced:
    """Students after reinforcement.

    Attributes:
        learned: their evaluation, under the names of the students that they started from.
        artefacts: by the same names.
    """

    learned: Learned
    artefacts: dict[str, Artefact]

    def rewards(self) -> pl.DataFrame:
        """teacher, generation, reward in the first and in the last tenth of the steps, share of groups without a difference,
        seconds.
        """
        rows = []
        for name, artefact in self.artefacts.items():
            learner, facts = self.learned.learners[name], artefact.facts
            of = {"teacher": learner.teacher, "generation": learner.dataset.generation if learner.dataset else ""}
            reward = {f"reward_{when}": facts["reward"][when] for when in ("first", "last")}
            rows.append(of | reward | {"idle": facts["idle"], "seconds": facts["seconds"]})
        return pl.DataFrame(rows)


def reinforce_all(config: BeyondSftConfig, learned: Learned) -> Reinforced:
    """Reinforce and evaluate every student of a study; what is there already is found.

    The problems are those of the first teacher's dataset; the reward is given for the right answer.

    Raises:
        InputError: what is wrong with the data or settings before any cell can start.
    """
    base = students.base_of(config.student, config.scoring, config.paths)
    task = _task(config, base)
    found = {name: _find(config, base, learner.dataset, task) for name, learner in learned.learners.items()}
    cells = {name: Cell(learner.teacher, learner.generation, STAGE) for name, learner in learned.learners.items()}
    runs = RunTable(list(cells.values()))
    jobs = []
    for name, learner in learned.learners.items():
        if _grades(config, base, name, found[name]) is None:
            log = logs_of(config) / f"{STAGE}-{name.replace('/', '-')}.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            jobs.append(Job(cells[name].name, _reinforce, (config, name, learner), log))
        else:
            runs.update(cells[name].name, state="done", seconds=found[name].facts["seconds"])
    with runs.shown():
        run_all(
            jobs,
            processes_of(config.study),
            started=lambda job: runs.update(job.name, state="running"),
            advanced=lambda job, done, of: runs.update(job.name, progress=done / of),
            put_off=lambda job: runs.update(job.name, state="elsewhere"),
            ended=partial(_ended, config, runs),
        )
    runs.refuse_failed()
    artefacts = {name: _find(config, base, learner.dataset, task) for name, learner in learned.learners.items()}
    grades = {name: _grades(config, base, name, artefact) or [] for name, artefact in artefacts.items()}
    return Reinforced(Learned(learned.learners, grades, runs), artefacts)


def _task(config: BeyondSftConfig, base: Base) -> Task:
    first = teacher_data.load(config.teachers, config.scoring, config.paths)[0]
    return task_of(base.renderer, first, config.teachers.answer, config.teachers.grader)


def _label(base: Base, name: str) -> str:
    return f"{base.name}-{name}-{STAGE}".replace("/", "-")


def _start(config: BeyondSftConfig, base: Base, dataset: Dataset | None) -> dict[str, Any]:
    """What identifies the weights that reinforcement starts from."""
    if dataset is None:
        return {"base": base.identity()}
    return {"trained": digest(training.find(config, base, dataset).key)}


def _find(config: BeyondSftConfig, base: Base, dataset: Dataset | None, task: Task) -> Artefact:
    key = reinforced_key(_start(config, base, dataset), task, config.reinforcement)
    return locate(config.paths.outputs, STAGE, _label(base, dataset.name if dataset else evaluation.BASE), key)


def _grades(config: BeyondSftConfig, base: Base, name: str, artefact: Artefact) -> list[Artefact] | None:
    """Grades of a reinforced student; None where one is missing."""
    identity = evaluation.identity_of_trained(config, artefact)
    grades = evaluation.find_grades(config, _label(base, name), identity, evaluation.identities(config))
    complete = artefact.manifest is not None and all(grade.manifest is not None for grade in grades)
    return grades if complete else None


def _ended(config: BeyondSftConfig, runs: RunTable, job: Job, outcome: Outcome) -> bool:
    state = "done" if outcome.error is None else "failed"
    runs.update(job.name, state=state, seconds=outcome.seconds, error=outcome.error)
    return outcome.error is None or config.study.on_error is OnFailure["continue"]


def _reinforce(config: BeyondSftConfig, name: str, learner: Learner, advance: Any) -> None:
    """A job: the fine-tuned weights are made again where only their evaluation was kept."""
    base = students.base_of(config.student, config.scoring, config.paths)
    start, model = _start(config, base, learner.dataset), base.model
    if learner.dataset is not None:
        model = str(training.train(config, learner.dataset).path / MODEL)
    label = _label(base, name)
    artefact = reinforce(
        base, model, start, _task(config, base), config.reinforcement, config.paths.outputs, label, progress=advance
    )
    identity = evaluation.identity_of_trained(config, artefact)
    if not evaluation.evaluate(config, label, base, str(artefact.path / MODEL), identity):
        raise InputError(f"{name}: no benchmark to evaluate on")
