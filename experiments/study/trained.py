"""Students that learn from datasets, and what they have learned."""

from dataclasses import dataclass, replace

import polars as pl

from eval import performance
from experiments.app.shared_configs import StudyConfig
from experiments.stages.evaluation import BASE
from experiments.study.run_table import RunTable
from rsr.data.trajectories import Dataset, dataset_name
from rsr.store.artefacts import Artefact
from rsr.store.parquet import read_parquet


@dataclass(frozen=True)
class TrainedStudent:
    """The student before training, or as it is trained on a dataset.

    Attributes:
        dataset: None before training.
        seed: of the training, where a study has several; None is the configured one.
    """

    dataset: Dataset | None = None
    seed: int | None = None

    @property
    def teacher(self) -> str:
        return self.dataset.teacher if self.dataset else BASE

    @property
    def generation(self) -> str:
        """Of the dataset, and the seed."""
        generation = self.dataset.generation if self.dataset else ""
        return generation if self.seed is None else f"{generation} seed {self.seed}".strip()

    @property
    def name(self) -> str:
        return dataset_name(self.teacher, self.generation)

    def configured(self, config: StudyConfig) -> StudyConfig:
        """The study's settings with this student's seed."""
        if self.seed is None:
            return config
        trained = replace(config.student.training, seed=self.seed)
        return replace(config, student=replace(config.student, training=trained))


@dataclass(frozen=True)
class TrainedStudents:
    """What students have learned.

    Attributes:
        students: by name, the base first.
        grades: by name, one artefact a benchmark; without the students of which a cell failed.
        runs: the run table.
    """

    students: dict[str, TrainedStudent]
    grades: dict[str, list[Artefact]]
    runs: RunTable

    def performance(self, *, resamples: int = 10_000, seed: int = 0) -> pl.DataFrame:
        """One row per student, the base first: teacher, generation, seed, benchmarks, problems, k, accuracy with its interval
        and error over problems, mean length and what could not be counted; shares in percent.
        """
        rows = []
        for name, tables in self._tables().items():
            student = self.students[name]
            rows.append(
                {
                    "teacher": student.teacher,
                    "generation": student.dataset.generation if student.dataset else "",
                    "seed": student.seed,
                    "benchmarks": "+".join(artefact.facts["benchmark"] for artefact in self.grades[name]),
                    **vars(performance.overall(tables, resamples=resamples, seed=seed)),
                }
            )
        shares = ["accuracy", "low", "high", "error", "truncated", "unanswered", "ungradable"]
        return pl.DataFrame(rows, schema_overrides={"seed": pl.Int64}).with_columns(pl.col(shares) * 100)

    def answers(self) -> pl.DataFrame:
        """One row per student, benchmark and problem: teacher, generation, seed, benchmark, problem, correct (share of right
        samples among those with a verdict); what paired comparisons are made of. A problem on which a student has no verdict at all
        is left out for all of them.
        """
        parts = []
        for name, tables in self._tables().items():
            student = self.students[name]
            for artefact, grades in zip(self.grades[name], tables, strict=True):
                by_problem = grades.group_by("problem", maintain_order=True).agg(pl.col("correct").mean())
                parts.append(
                    by_problem.select(
                        pl.lit(student.teacher).alias("teacher"),
                        pl.lit(student.dataset.generation if student.dataset else "").alias("generation"),
                        pl.lit(student.seed, pl.Int64).alias("seed"),
                        pl.lit(artefact.facts["benchmark"]).alias("benchmark"),
                        "problem",
                        "correct",
                    )
                )
        answers = pl.concat(parts)
        unknown = answers.filter(pl.col("correct").is_null())
        return answers.join(unknown, on=["benchmark", "problem"], how="anti", maintain_order="left")

    def _tables(self) -> dict[str, list[pl.DataFrame]]:
        return {
            name: [read_parquet(artefact, performance.GRADES) for artefact in artefacts]
            for name, artefacts in self.grades.items()
        }
