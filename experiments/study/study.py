"""A study: datasets that are scored, trained on and evaluated; finished cells are reused."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import Any

import polars as pl

from experiments.app import memo
from experiments.app.executor import Job, Resources
from experiments.app.processes import alone, has_gpu
from experiments.app.shared_configs import CorrelationConfig, StudyConfig, StudyExecutor
from experiments.stages import evaluation, metric_scores, scoring, students, teacher_data, training
from experiments.study.cells import cell_job, resources_of, run_cells
from experiments.study.run_table import Cell, RunTable
from experiments.study.trained import TrainedStudent, TrainedStudents
from rsr.data.trajectories import Dataset
from rsr.errors import InputError
from rsr.metrics.score_tables import DATASETS, Scores, read
from rsr.metrics.teacher import VERIFIED_ACCURACY
from rsr.store.artefacts import MANIFEST, Artefact, of_folder
from rsr.store.parquet import read_parquet
from rsr.tokens.token_store import TokenStore
from train.base import Base

# Settings that say what becomes of scores, not what they are.
AFTER_SCORES = ("source", "metric", "run", "study", "plan", "evaluation", "tracking", "paths")
ALL = "all teachers"  # scoring is one cell: the student is loaded once for every dataset


@dataclass(frozen=True)
class StudyResult(TrainedStudents):
    """What a study has measured of teachers.

    Attributes:
        data: the teachers' datasets.
        scores: one row per dataset, metric and preset; None if scoring failed.
    """

    data: Sequence[Dataset]
    scores: pl.DataFrame | None


def measure(config: CorrelationConfig) -> StudyResult:
    """Score, train on and evaluate the dataset of every teacher.

    Raises:
        InputError: what is wrong with student, data or settings before any cell can start.
    """
    data = teacher_data.load(config.teachers, config.scoring, config.paths)
    study = _Study(config, [TrainedStudent(dataset) for dataset in data], scored=True)
    trained = study.run()
    return StudyResult(trained.students, trained.grades, trained.runs, data, study.scores)


def learn(config: StudyConfig, data: Sequence[Dataset], seeds: Sequence[int] = ()) -> TrainedStudents:
    """Train the student on each dataset, with each seed, and evaluate it; the base is evaluated beside them.

    Datasets of the same content are trained on once. They need not be the teachers' own: what was selected or cut has no
    file that a cell could read, and goes to it as it is.

    Args:
        seeds: of the training; none takes the configured one.

    Raises:
        InputError: what is wrong with student, data or settings before any cell can start.
    """
    each: Sequence[int | None] = seeds or [None]
    return _Study(config, [TrainedStudent(dataset, seed) for dataset in data for seed in each]).run()


def cells(config: StudyConfig) -> list[Cell]:
    """The cells of a study of teachers, those that are there marked; nothing is run.

    Raises:
        InputError: see `measure`.
    """
    data = teacher_data.load(config.teachers, config.scoring, config.paths)
    study = _Study(config, [TrainedStudent(dataset) for dataset in data], scored=True)
    study.missing()
    return list(study.runs.cells.values())


@dataclass
class _Study:
    """The cells of a study and the jobs that fill them."""

    config: StudyConfig
    trained: Sequence[TrainedStudent]
    scored: bool = False  # whether the teachers' datasets are scored as well
    students: dict[str, TrainedStudent] = field(init=False)
    scores: pl.DataFrame | None = None
    runs: RunTable = field(init=False)

    def __post_init__(self) -> None:
        if evaluation.BASE in {student.teacher for student in self.trained}:
            raise InputError(f"a teacher cannot be called {evaluation.BASE!r}, which is the student before training")
        if self.scored:
            _refuse_twins([student.dataset for student in self.trained if student.dataset is not None])
        if self.config.student.recipe and not students.is_made(self.config.student, self.config.paths):
            alone(students.model_of, self.config.student, self.config.paths)
        self._benchmarks = evaluation.identities(self.config)
        self.students = {student.name: student for student in [TrainedStudent(), *self.trained]}
        if len(self.students) <= len(self.trained):
            raise InputError("two datasets have the same teacher and generation: name them apart")
        self._artefacts = {
            name: training.find(student.configured(self.config), self.base, student.dataset)
            for name, student in self.students.items()
            if student.dataset is not None
        }
        cells = [Cell(ALL, "", "score")] if self.scored else []
        cells.append(Cell(evaluation.BASE, "", "evaluate"))
        for name in self._first_of_each():
            student = self.students[name]
            cells += [Cell(student.teacher, student.generation, stage) for stage in ("train", "evaluate")]
        self.runs = RunTable(cells)

    @cached_property
    def base(self) -> Base:
        return students.base_of(self.config.student, self.config.scoring, self.config.paths)

    def _first_of_each(self) -> list[str]:
        """Names of students without those that learn the same."""
        first: dict[str, str] = {}
        for name, artefact in self._artefacts.items():
            first.setdefault(artefact.id.rpartition("-")[2], name)
        return list(first.values())

    def run(self) -> TrainedStudents:
        """Run what is missing and collect what all have left."""
        run_cells(self.config, self.runs, self.missing(), self._note_scores)
        grades = {name: grades for name in self.students if (grades := self.grades(name)) is not None}
        return TrainedStudents(self.students, grades, self.runs)

    # --- what is there -------------------------------------------------------------------------------------------------

    def grades(self, name: str) -> list[Artefact] | None:
        """Grades of a model on every benchmark; None where one is missing."""
        grades = evaluation.find_grades(self.config, self._label(name), self._identity(name), self._benchmarks)
        return grades if all(artefact.manifest is not None for artefact in grades) else None

    def sampled(self, name: str) -> bool:
        """Whether a model has answered every benchmark, so that it need not be there."""
        samples = evaluation.find_samples(self.config, self._label(name), self._identity(name), self._benchmarks)
        return all(artefact.manifest is not None for artefact in samples)

    def _label(self, name: str) -> str:
        return f"{self.base.name}-{name}"

    def _identity(self, name: str) -> dict[str, Any]:
        if name == evaluation.BASE:
            return evaluation.identity_of_base(self.config, self.base)
        return evaluation.identity_of_trained(self.config, self._artefacts[name])

    # --- what is missing -----------------------------------------------------------------------------------------------

    def missing(self) -> list[Job]:
        """The jobs that can start at once; the cells of what is there are marked."""
        jobs = []
        if self.scored and not self._reuse_scores():
            jobs.append(self._score())
        for name in [evaluation.BASE, *self._first_of_each()]:
            grades, trained = self.grades(name), self._artefacts.get(name)
            if trained is not None and trained.manifest is not None:
                self._finished(f"train {name}", trained.facts["seconds"])
            elif trained is not None and self.sampled(name):
                self.runs.cells[f"train {name}"].state = "not needed"
            if grades is not None:
                self._finished(f"evaluate {name}", sum(artefact.facts["seconds"] for artefact in grades))
            elif trained is None or trained.manifest is not None or self.sampled(name):
                jobs.append(self._evaluate(name))
            else:
                jobs.append(self._train(name))
        return jobs

    def _reuse_scores(self) -> bool:
        """Whether the scores are known, and everything that they were made from is there."""
        inputs, outputs = self._score_inputs, self.config.paths.outputs
        result = memo.read(outputs, "scores", inputs) if inputs else None
        if result is None or not all((outputs / path / MANIFEST).is_file() for path in result["made"]):
            return False
        self._read_scores(result)
        self._finished(f"score {ALL}", result["seconds"])
        return True

    @cached_property
    def _score_inputs(self) -> dict[str, Any] | None:
        """What the scores follow from; None where that is not known: behind a hub name or a server, which may change."""
        data = [student.dataset for student in self.trained if student.dataset is not None]
        model, settings = memo.folder_content(self.base.model), score_settings(self.config)
        if model is None or self.config.judge.endpoint or self.config.influence.reference:
            return None
        named = [[d.teacher, d.generation, d.digest(), len(d.skipped)] for d in data]
        return settings | {"model": model, "data": named, "template": self.base.identity(), "gpu": has_gpu()}

    def _finished(self, cell: str, seconds: float) -> None:
        self.runs.cells[cell].state, self.runs.cells[cell].seconds = "done", seconds

    def _score(self) -> Job:
        """On a cluster it only looks on: what it has done elsewhere takes what scoring takes."""
        takes = None if self.config.study.executor is StudyExecutor.local else Resources(0, 0)
        return cell_job(self.config, "score", ALL, _score, (self.config,), takes=takes)

    def _train(self, name: str) -> Job:
        student = self.students[name]
        arguments = (student.configured(self.config), student.dataset)
        return cell_job(self.config, "train", name, _train, arguments, then=lambda result: [self._evaluate(name)])

    def _evaluate(self, name: str) -> Job:
        student = self.students[name]
        arguments = (student.configured(self.config), self._label(name), student.dataset, self._identity(name))
        return cell_job(self.config, "evaluate", name, _evaluate, arguments)

    def _note_scores(self, job: Job, result: dict[str, Any]) -> None:
        """Take the scores from the job that made them."""
        if job.run is _score:
            self._read_scores(result)
            if self._score_inputs:
                memo.write(self.config.paths.outputs, "scores", self._score_inputs, result)

    def _read_scores(self, result: dict[str, Any]) -> None:
        self.scores = read_parquet(of_folder(self.config.paths.outputs / result["made"][0]), DATASETS)


def _refuse_twins(data: Sequence[Dataset]) -> None:
    """Datasets of the same content have the same artefacts, which two jobs must not fill at once."""
    first: dict[str, str] = {}
    for dataset in data:
        other = first.setdefault(dataset.digest(), dataset.name)
        if other != dataset.name:
            raise InputError(f"{other} and {dataset.name} hold the same trajectories: take one of them out")


def score_settings(config: StudyConfig) -> dict[str, Any]:
    """The settings that shape scores: all but those that are known not to."""
    plain = json.loads(json.dumps(asdict(config), default=_plain))
    return {name: value for name, value in plain.items() if name not in AFTER_SCORES}


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else str(value)


# --- jobs, each in a process of its own --------------------------------------------------------------------------------


def _score(config: CorrelationConfig, advance: Any) -> dict[str, Any]:
    """The folders in outputs of the score tables (`made`, the first) and of what they were made from; and the seconds that
    went into them in this run or an earlier one.
    """
    # Answers are graded apart (experiments.stages.verification).
    graded = (VERIFIED_ACCURACY.name, VERIFIED_ACCURACY.needs)
    names = [name for name in config.names if name not in graded] or ["tokens"]
    stores, scores = _scored(replace(config, metrics=names), advance)
    measurements = scores.artefact.facts.get("measurements", [])
    seconds = sum(s.artefact.facts["seconds"] for s in stores) + sum(m["seconds"] or 0 for m in measurements)
    made = [f"{scores.artefact.path.parent.name}/{scores.artefact.id}"]
    made += [f"{s.artefact.path.parent.name}/{s.artefact.id}" for s in stores]
    made += [f"{m['stage']}/{m['artefact']}" for m in measurements]
    return {"made": made, "seconds": seconds}


def _scored(config: CorrelationConfig, advance: Any) -> tuple[list[TokenStore], Scores]:
    if config.study.executor is StudyExecutor.ray:
        from experiments.app.ray_executor import apart, placed

        takes = resources_of(config, "score")
        stores = scoring.token_stores_on_ray(config, placed(takes), advance)
        return stores, read(apart(takes, metric_scores.folder_of, config))
    own, scores = scoring.token_stores(config, advance), metric_scores.score(config)
    assert own is not None and scores is not None  # there is one process
    return own, scores


def _train(config: StudyConfig, dataset: Dataset, advance: Any) -> dict[str, float]:
    return {"seconds": training.train(config, dataset, advance).facts["seconds"]}


def _evaluate(
    config: StudyConfig, label: str, dataset: Dataset | None, identity: dict[str, Any], advance: Any
) -> dict[str, float]:
    base = students.base_of(config.student, config.scoring, config.paths)
    trained = None if dataset is None else training.find(config, base, dataset)
    wanted = evaluation.load_benchmarks(config)
    total, done = sum(len(b.documents) for b in wanted) * config.evaluation.samples, 0

    def advanced(answers: int) -> None:
        nonlocal done
        done += answers
        advance(done, total)

    grades = evaluation.evaluate(config, label, base, trained, identity, advanced)
    return {"seconds": sum(artefact.facts["seconds"] for artefact in grades)}
