"""A study measured: every teacher's dataset scored, trained on and evaluated; what is there already is found."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from experiments import baselines, datasets, evaluation, scoring, students, training
from experiments.config import CorrelationConfig, OnFailure
from experiments.processes import Job, Outcome, alone, run_all
from experiments.runs import Cell, RunTable
from rsr.artefacts import Artefact, write_text
from rsr.errors import InputError
from rsr.metrics.baselines import VERIFIED_ACCURACY
from rsr.tables import DATASETS
from rsr.trajectories import Dataset
from train.sft import MODEL, Base

ALL = "all teachers"  # scoring is one cell: the student is loaded once for every dataset


@dataclass(frozen=True)
class Measured:
    """What a study has measured.

    Attributes:
        data: the teachers' datasets.
        models: teacher and generation of each model by name, the base first.
        scores: one row per dataset, metric and preset; None if scoring failed.
        grades: of the base and of each dataset, one artefact a benchmark; without the cells that failed.
        runs: the run table.
    """

    data: Sequence[Dataset]
    models: dict[str, tuple[str, str]]
    scores: pl.DataFrame | None
    grades: dict[str, list[Artefact]]
    runs: RunTable


def measure(config: CorrelationConfig) -> Measured:
    """Run the stages that are missing and collect what all have left.

    Raises:
        InputError: what is wrong with student, data or settings before any cell can start.
    """
    data = datasets.load(config.teachers, config.scoring, config.paths)
    if config.student.recipe and students.seconds_to_make(config.student, config.paths) is None:
        alone(students.model_of, config.student, config.paths)
    study = _Study(config, data, students.base_of(config.student, config.scoring, config.paths))
    with study.runs.shown():
        run_all(
            study.missing(),
            config.study.processes or _processes(),
            started=lambda job: study.runs.update(job.name, state="running"),
            advanced=lambda job, done, of: study.runs.update(job.name, progress=done / of),
            ended=study.ended,
        )
    return Measured(
        data,
        study.models,
        study.scores,
        {name: grades for name in study.models if (grades := study.grades(name)) is not None},
        study.runs,
    )


def _processes() -> int:
    import torch

    return 1 if torch.cuda.is_available() else os.cpu_count() or 1


@dataclass
class _Study:
    """The cells of a study and the jobs that fill them."""

    config: CorrelationConfig
    data: Sequence[Dataset]
    base: Base
    models: dict[str, tuple[str, str]] = field(init=False)  # name -> teacher and generation
    scores: pl.DataFrame | None = None
    runs: RunTable = field(init=False)

    def __post_init__(self) -> None:
        self._benchmarks = evaluation.load_benchmarks(self.config)
        if evaluation.BASE in {dataset.teacher for dataset in self.data}:
            raise InputError(f"a teacher cannot be called {evaluation.BASE!r}, which is the student before training")
        self.models = {evaluation.BASE: (evaluation.BASE, "")}
        self.models |= {d.name: (d.teacher, d.generation) for d in self.data}
        _refuse_twins(self.data)
        self._trained = {d.name: training.find(self.config, self.base, d) for d in self.data}
        cells = [Cell(ALL, "", "score"), Cell(evaluation.BASE, "", "evaluate")]
        cells += [Cell(d.teacher, d.generation, stage) for d in self.data for stage in ("train", "evaluate")]
        self.runs = RunTable(cells)

    # --- what is there -------------------------------------------------------------------------------------------------

    def grades(self, name: str) -> list[Artefact] | None:
        """Grades of a model on every benchmark; None where one is missing."""
        found = evaluation.find_grades(self.config, self._label(name), self._identity(name), self._benchmarks)
        return found if all(artefact.manifest is not None for artefact in found) else None

    def sampled(self, name: str) -> bool:
        """Whether a model has answered every benchmark, so that it need not be there."""
        found = evaluation.find_samples(self.config, self._label(name), self._identity(name), self._benchmarks)
        return all(artefact.manifest is not None for artefact in found)

    def _label(self, name: str) -> str:
        return f"{self.base.name}-{name}".replace("/", "-")

    def _identity(self, name: str) -> dict[str, Any]:
        if name == evaluation.BASE:
            return evaluation.identity_of_base(self.config, self.base)
        return evaluation.identity_of_trained(self.config, self._trained[name])

    # --- what is missing -----------------------------------------------------------------------------------------------

    def missing(self) -> list[Job]:
        """The jobs that can start at once; the cells of what is there are marked.

        Scores are always asked for: the student has to be loaded to know what they are found by.
        """
        jobs = [self._job(f"score {ALL}", _score, (self.config,))]
        for name in self.models:
            grades, trained = self.grades(name), self._trained.get(name)
            if trained is not None and trained.manifest is not None:
                self._found(f"train {name}", trained.facts["seconds"])
            elif trained is not None and self.sampled(name):
                self.runs.cells[f"train {name}"].state = "not needed"
            if grades is not None:
                self._found(f"evaluate {name}", sum(artefact.facts["seconds"] for artefact in grades))
            elif trained is None or trained.manifest is not None or self.sampled(name):
                jobs.append(self._evaluate(name))
            else:
                jobs.append(self._train(name))
        return jobs

    def _found(self, cell: str, seconds: float) -> None:
        self.runs.cells[cell].state, self.runs.cells[cell].seconds = "done", seconds

    def _train(self, name: str) -> Job:
        arguments = (self.config, *self.models[name])
        return self._job(f"train {name}", _train, arguments, then=lambda result: [self._evaluate(name)])

    def _evaluate(self, name: str) -> Job:
        arguments = (self.config, self._label(name), *self.models[name], self._identity(name))
        return self._job(f"evaluate {name}", _evaluate, arguments)

    def _job(self, name: str, run: Any, arguments: tuple[Any, ...], then: Any = lambda result: ()) -> Job:
        log = self._beside(name, "log")
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        self._beside(name, "error").unlink(missing_ok=True)
        return Job(name, run, arguments, log, then)

    def _beside(self, name: str, kind: str) -> Path:
        return (
            self.config.paths.outputs / "runs" / self.base.name / f"{name.replace('/', '-').replace(' ', '-')}.{kind}"
        )

    def ended(self, job: Job, outcome: Outcome) -> bool:
        """Note how a cell ended; whether the others are to go on."""
        if outcome.error is None:
            seconds = outcome.seconds
            if job.run is _score:
                folder, seconds = outcome.result
                self.scores = pl.read_parquet(Path(folder) / DATASETS)
            self.runs.update(job.name, state="done", seconds=seconds)
            return True
        self.runs.update(job.name, state="failed", seconds=outcome.seconds, error=outcome.error)
        write_text(self._beside(job.name, "error"), f"{outcome.error}\nlog: {job.log}\n")
        if self.config.study.on_error is OnFailure["continue"]:
            return True
        for cell in self.runs.cells.values():
            if cell.state == "running":  # is ended as well
                cell.state = "missing"
        return False


def _refuse_twins(data: Sequence[Dataset]) -> None:
    """Datasets of the same content have the same artefacts, which two jobs must not fill at once."""
    first: dict[str, str] = {}
    for dataset in data:
        other = first.setdefault(dataset.digest(), dataset.name)
        if other != dataset.name:
            raise InputError(f"{other} and {dataset.name} hold the same trajectories: take one of them out")


# --- jobs, each in a process of its own --------------------------------------------------------------------------------


def _score(config: CorrelationConfig, advance: Any) -> tuple[str, float]:
    """The folder of the score tables, and the seconds that went into them in this run or an earlier one."""
    stores = scoring.token_stores(config, advance)
    # Answers are graded apart (experiments.verification).
    names = [name for name in config.names if name != VERIFIED_ACCURACY.name] or ["tokens"]
    scores = baselines.score(replace(config, metrics=names))
    assert stores is not None and scores is not None  # there is one process
    measurements = scores.artefact.facts.get("measurements", [])
    seconds = sum(s.artefact.facts["seconds"] for s in stores) + sum(m["seconds"] for m in measurements)
    return str(scores.artefact.path), seconds


def _train(config: CorrelationConfig, teacher: str, generation: str, advance: Any) -> None:
    (dataset,) = datasets.load(config.teachers, config.scoring, config.paths, only=(teacher, generation))
    training.train(config, dataset, advance)


def _evaluate(
    config: CorrelationConfig, label: str, teacher: str, generation: str, identity: dict[str, Any], advance: Any
) -> None:
    base = students.base_of(config.student, config.scoring, config.paths)
    model = base.model
    if teacher != evaluation.BASE:
        (dataset,) = datasets.load(config.teachers, config.scoring, config.paths, only=(teacher, generation))
        model = str(training.find(config, base, dataset).path / MODEL)
    wanted = evaluation.load_benchmarks(config)
    total, done = sum(len(b.documents) for b in wanted) * config.evaluation.samples, 0

    def advanced(answers: int) -> None:
        nonlocal done
        done += answers
        advance(done, total)

    evaluation.evaluate(config, label, base, model, identity, advanced)
