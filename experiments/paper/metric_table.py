"""A metric's scores against accuracy after training, beside what the paper prints of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from experiments.app.shared_configs import BootstrapConfig
from experiments.paper.published import ACCURACY, AVERAGE, Published
from rsr.errors import InputError
from rsr.metrics import Metric
from rsr.stats.attainable import Attainable, Column, attainable_pearson, attainable_spearman, verdict
from rsr.stats.correlation import COEFFICIENTS, Coefficient, Correlation, correlation

NO_INPUTS = "inputs not printed"


@dataclass(frozen=True)
class Table:
    """The scores of one metric beside accuracies: numbers of shape (students, teachers)."""

    metric: Metric
    preset: str
    students: list[str]
    teachers: list[str]
    scores: list[list[float]]
    errors: list[list[float]]
    accuracy: list[list[float]]  # percent

    @property
    def student(self) -> str:
        """Of the coefficient over this table, which is an average where there are several students."""
        return self.students[0] if len(self.students) == 1 else AVERAGE

    def by_student_and_average(self) -> "list[Table]":
        if len(self.students) == 1:
            return [self]
        numbers = zip(self.students, self.scores, self.errors, self.accuracy, strict=True)
        return [*(Table(self.metric, self.preset, [n], self.teachers, [s], [e], [a]) for n, s, e, a in numbers), self]


@dataclass(frozen=True)
class Aggregates:
    """What the comparison reads, whatever its source.

    Attributes:
        scores: student, teacher, metric, preset, value, error.
        performance: student, teacher, accuracy (percent).
    """

    scores: pl.DataFrame
    performance: pl.DataFrame

    def tables(self, metric: Metric, students: Sequence[str], teachers: Sequence[str]) -> list[Table]:
        """One table per preset of the metric; none where it has no scores.

        Raises:
            InputError: a teacher has a score or an accuracy, but not both.
        """
        of_metric = self.scores.filter((pl.col("metric") == metric.name) & pl.col("student").is_in(students))
        return [
            self._table(metric, preset, of_metric.filter(pl.col("preset") == preset), students, teachers)
            for preset in of_metric["preset"].unique(maintain_order=True)
        ]

    def _table(
        self, metric: Metric, preset: str, scores: pl.DataFrame, students: Sequence[str], teachers: Sequence[str]
    ) -> Table:
        columns: list[tuple[list[float], list[float], list[float]]] = []
        for student in students:
            value, error = _by_teacher(scores, student, "value"), _by_teacher(scores, student, "error")
            accuracy = _by_teacher(self.performance, student, "accuracy")
            for teacher in teachers:
                has = {f"{metric.name} score": teacher in value, "accuracy": teacher in accuracy}
                if not all(has.values()):
                    present = " and ".join(name for name, there in has.items() if there)
                    missing = " and ".join(name for name, there in has.items() if not there)
                    raise InputError(
                        f"teacher {teacher!r} has no {missing} for student {student!r}"
                        + (f", but has its {present}: add the missing one or take the teacher out" if present else "")
                    )
            columns.append(
                ([value[t] for t in teachers], [error[t] for t in teachers], [accuracy[t] for t in teachers])
            )
        values, errors, accuracies = (list(column) for column in zip(*columns, strict=True))
        return Table(metric, preset, list(students), list(teachers), values, errors, accuracies)


def _by_teacher(frame: pl.DataFrame, student: str, column: str) -> dict[str, float]:
    return dict(frame.filter(pl.col("student") == student).select("teacher", column).iter_rows())


@dataclass(frozen=True)
class Print:
    """A printed coefficient (absolute value), the table that prints it, and the verdict on it."""

    value: str
    table: str
    verdict: str


@dataclass(frozen=True)
class Result:
    """One coefficient of one metric for one student, or averaged over all.

    `correlation` is None where the inputs are not printed; `attainable` where nothing is printed to compare with.
    """

    student: str
    metric: Metric
    preset: str
    coefficient: Coefficient
    correlation: Correlation | None
    attainable: Attainable | None
    prints: tuple[Print, ...]

    @property
    def label(self) -> str:
        return f"{self.metric.title} ({self.preset})" if self.preset else self.metric.title


def compare(
    table: Table,
    published: Published | None,
    bootstrap: BootstrapConfig,
    coefficients: Sequence[Coefficient] = COEFFICIENTS,
) -> list[Result]:
    """Coefficients between the scores of a table and its accuracies, averaged over its students.

    Args:
        published: None where there is nothing printed to compare with.

    Raises:
        InputError: the correlation has no value (see `rsr.stats.correlation.correlation`), naming metric and student.
    """
    return [_compare(table, coefficient, published, bootstrap) for coefficient in coefficients]


def _compare(table: Table, coefficient: Coefficient, published: Published | None, bootstrap: BootstrapConfig) -> Result:
    try:
        measured = correlation(
            table.scores,
            table.accuracy,
            coefficient,
            resamples=bootstrap.resamples,
            seed=bootstrap.seed,
        )
    except InputError as error:
        raise InputError(f"{table.metric.name} of student {table.student}: {error}") from error
    printed = published.printed(table.student, table.metric.name, table.preset, coefficient) if published else []
    attainable = _attainable(table, coefficient, published) if published and printed else None
    prints = tuple(Print(p.value, p.table, verdict(p.value, measured.value, attainable)) for p in printed if attainable)
    return Result(table.student, table.metric, table.preset, coefficient, measured, attainable, prints)


def _attainable(table: Table, coefficient: Coefficient, published: Published) -> Attainable:
    def columns(name: str, preset: str) -> list[Column]:
        cells = [published.column(student, name, preset) for student in table.students]
        return [[of_student[teacher] for teacher in table.teachers] for of_student in cells]

    scores, accuracy = columns(table.metric.name, table.preset), columns(ACCURACY, "")
    if coefficient == "pearson":
        return attainable_pearson(scores, accuracy)
    assert coefficient == "spearman", "the paper prints no other coefficient"
    return attainable_spearman(scores, accuracy, shared_scores=not table.metric.per_student)


def not_recomputable(student: str, metric: Metric, published: Published, preset: str = "") -> list[Result]:
    """The printed coefficients of a metric whose scores are not printed."""
    return [
        Result(
            student, metric, preset, coefficient, None, None, tuple(Print(p.value, p.table, NO_INPUTS) for p in prints)
        )
        for coefficient in COEFFICIENTS
        if (prints := published.printed(student, metric.name, preset, coefficient))
    ]
