"""The study goes on: the student, and each that was fine-tuned from it, reinforced with GRPO and evaluated again."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from experiments.app.command_configs import BeyondSftConfig
from experiments.stages import evaluation, reinforcement, students
from experiments.study.cells import cell_job, run_cells
from experiments.study.run_table import Cell, RunTable
from experiments.study.trained import TrainedStudents
from rsr.data.trajectories import Dataset
from rsr.errors import InputError
from rsr.store.artefacts import Artefact
from train.base import Base
from train.grpo import STAGE


@dataclass(frozen=True)
class ReinforcedStudents:
    """Students after reinforcement.

    Attributes:
        trained: their evaluation, under the names of the students that they started from.
        artefacts: by the same names.
    """

    trained: TrainedStudents
    artefacts: dict[str, Artefact]

    def rewards(self) -> pl.DataFrame:
        """teacher, generation, reward in the first and in the last tenth of the steps (null where no answer had a verdict),
        share of answers without a verdict, of groups without a difference, seconds.
        """
        rows = []
        for name, artefact in self.artefacts.items():
            student, facts = self.trained.students[name], artefact.facts
            start = {"teacher": student.teacher, "generation": student.dataset.generation if student.dataset else ""}
            reward = {f"reward_{when}": facts["reward"][when] for when in ("first", "last")}
            rows.append(start | reward | {name: facts[name] for name in ("ungradable", "idle", "seconds")})
        return pl.DataFrame(rows, schema_overrides={"reward_first": pl.Float64, "reward_last": pl.Float64})


def reinforce_all(config: BeyondSftConfig, trained: TrainedStudents) -> ReinforcedStudents:
    """Reinforce and evaluate every student of a study; finished cells are reused.

    Raises:
        InputError: what is wrong with the data or settings before any cell can start; or a cell failed.
    """
    base = students.base_of(config.student, config.scoring, config.paths)
    task = reinforcement.task_of(config, base)
    cells = {name: Cell(student.teacher, student.generation, STAGE) for name, student in trained.students.items()}
    runs = RunTable(list(cells.values()))

    def artefact_of(name: str) -> Artefact:
        return reinforcement.find(config, base, trained.students[name].dataset, task)

    jobs = []
    for name, student in trained.students.items():
        artefact = artefact_of(name)
        if _grades(config, base, student.dataset, artefact) is None:
            jobs.append(cell_job(config, STAGE, name, _reinforce, (config, student.dataset)))
        else:
            runs.update(cells[name].name, state="done", seconds=artefact.facts["seconds"])
    run_cells(config, runs, jobs)
    runs.refuse_failed()
    artefacts = {name: artefact_of(name) for name in cells}
    grades = {
        name: _grades(config, base, trained.students[name].dataset, artefact) or []
        for name, artefact in artefacts.items()
    }
    return ReinforcedStudents(TrainedStudents(trained.students, grades, runs), artefacts)


def _grades(config: BeyondSftConfig, base: Base, dataset: Dataset | None, artefact: Artefact) -> list[Artefact] | None:
    """Grades of a reinforced student; None where one is missing."""
    identity = evaluation.identity_of_trained(config, artefact)
    label = reinforcement.label_of(base, dataset)
    grades = evaluation.find_grades(config, label, identity, evaluation.identities(config))
    complete = artefact.manifest is not None and all(grade.manifest is not None for grade in grades)
    return grades if complete else None


def _reinforce(config: BeyondSftConfig, dataset: Dataset | None, advance: Any) -> dict[str, float]:
    """A job, in a process of its own: reinforce a student and evaluate it."""
    base = students.base_of(config.student, config.scoring, config.paths)
    artefact, label = reinforcement.reinforce(config, dataset, advance), reinforcement.label_of(base, dataset)
    identity = evaluation.identity_of_trained(config, artefact)
    if not evaluation.evaluate(config, label, base, artefact, identity):
        raise InputError(f"{label}: no benchmark to evaluate on")
    return {"seconds": artefact.facts["seconds"]}
