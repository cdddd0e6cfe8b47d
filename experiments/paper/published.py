"""The paper's printed numbers (results/published), read into the aggregates that every later stage reads.

A file holds one row per printed cell, with the number of its table. Some cells are printed more than once, not always
with the same value: the aggregates take the print of the table that prints the whole column (`PRIMARY`), and `column`
gives all prints of a cell as intervals of what the unrounded number may be.
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from rsr.errors import InputError
from rsr.stats.attainable import Cell, cell, rounding_interval

# Scores and accuracies appear for all teachers in these tables (that of the teachers' sizes is not numbered);
# Tables 2 and 7 repeat some of them.
PRIMARY = ("1", "25", "26", "27", "28", "29", "")
ACCURACY = "post_training_performance"
AVERAGE = "average"  # the "student" of a coefficient averaged over all students
FIXED_STUDENT = "qwen14b"
PRESETS = {"rsr_200_samples": ("rsr", "200 samples")}
ABLATIONS = {  # (variant, setting) of Tables 5 and 14 -> metric and preset
    ("rsr", "r_max=100"): ("rsr", ""),
    ("no_rank_clipping", ""): ("rsr", "no clipping"),
    ("rsr", "r_max=50"): ("rsr", "r_max=50"),
    ("rsr", "r_max=500"): ("rsr", "r_max=500"),
    ("rsr", "200 samples"): ("rsr", "200 samples"),
    ("avg_rsr_token", "no weighted average"): ("avg_rsr_token", ""),
    ("avg_rsr_token_filtered", "top 30% surprisal"): ("avg_rsr_token_filtered", ""),
    ("simple_dataset_average", ""): ("rsr_simple_average", ""),
    ("rank_power_1.05", ""): ("rsr", "r^1.05"),
    ("rank_power_0.95", ""): ("rsr", "r^0.95"),
    ("surprisal_power_1.05", ""): ("rsr", "s^1.05"),
    ("surprisal_power_0.95", ""): ("rsr", "s^0.95"),
    ("fixed_student", "scored with qwen14b"): ("rsr", "fixed student"),
    **{
        (name, ""): (name, "")
        for name in (
            "avg_rank_clipped",
            "avg_entropy",
            "surprisal_weighted_sum_of_rank",
            "rank_weighted_sum_of_surprisal",
            "rank_minus_surprisal",
            "rank_times_surprisal",
            "rank_entropy_ratio",
        )
    },
}


@dataclass(frozen=True)
class Printed:
    """A coefficient as the paper prints it: an absolute value, digits kept."""

    value: str
    table: str


@dataclass(frozen=True)
class Published:
    """Every print of scores, accuracies and coefficients.

    Attributes:
        prints: student, teacher, metric, preset, printed, scale, table; accuracies under the metric
            `post_training_performance`.
        coefficients: metric, preset, student (or AVERAGE), coefficient, printed, table.
    """

    prints: pl.DataFrame
    coefficients: pl.DataFrame

    def students(self, name: str = "all") -> list[str]:
        """The student of that name, or every student for "all".

        Raises:
            InputError: the paper prints nothing of it.
        """
        students: list[str] = self.prints["student"].unique(maintain_order=True).to_list()
        if name == "all":
            return students
        if name not in students:
            raise InputError(
                f"no results of student {name!r}; there are some of {', '.join(students)}, and student=all. "
                "A student of your own is measured: its file in configs/student/ has no 'source: published'"
            )
        return [name]

    def scores(self) -> pl.DataFrame:
        """Aggregate: one score per student, teacher, metric and preset, with the half-width of its rounding."""
        return self._primary(pl.col("metric") != ACCURACY)

    def performance(self) -> pl.DataFrame:
        """Aggregate: accuracy after training, in percent, per student and teacher."""
        return self._primary(pl.col("metric") == ACCURACY).drop("metric", "preset").rename({"value": "accuracy"})

    def _primary(self, rows: pl.Expr) -> pl.DataFrame:
        key = ["student", "teacher", "metric", "preset"]
        decimals = pl.col("printed").str.split(".").list.get(1, null_on_oob=True).str.len_chars().fill_null(0)
        return (
            self.prints.filter(rows & pl.col("table").is_in(PRIMARY))
            .unique(key, keep="first", maintain_order=True)
            .select(
                *key,
                value=pl.col("printed").cast(pl.Float64) * pl.col("scale"),
                error=0.5 * pl.lit(10.0).pow(-decimals.cast(pl.Float64)) * pl.col("scale"),
                source=pl.lit("published"),
                artefact=pl.format("table {}", "table"),
            )
        )

    def column(self, student: str, metric: str, preset: str = "") -> dict[str, Cell]:
        """Teacher -> intervals that the unrounded number may lie in, from all prints of it."""
        rows = self.prints.filter(
            (pl.col("student") == student) & (pl.col("metric") == metric) & (pl.col("preset") == preset)
        )
        intervals: dict[str, list[tuple[float, float]]] = {}
        for teacher, printed, scale in rows.select("teacher", "printed", "scale").iter_rows():
            intervals.setdefault(teacher, []).append(rounding_interval(printed, scale))
        return {teacher: cell(prints) for teacher, prints in intervals.items()}

    def printed(self, student: str, metric: str, preset: str, coefficient: str) -> list[Printed]:
        """Every print of a coefficient; of a student or AVERAGE."""
        rows = self.coefficients.filter(
            (pl.col("student") == student)
            & (pl.col("metric") == metric)
            & (pl.col("preset") == preset)
            & (pl.col("coefficient") == coefficient)
        )
        return [Printed(value, table) for value, table in rows.select("printed", "table").iter_rows()]


def read(folder: Path) -> Published:
    """Read the printed numbers.

    Raises:
        InputError: a file is missing, lacks a column, or holds something that is not a number, naming the line.
    """
    scores = _read(folder / "metrics.csv", ["student", "teacher", "metric", "printed_value", "printed_scale", "table"])
    scores = scores.rename({"printed_value": "printed"})
    accuracy = _read(folder / "distillation.csv", ["student", "teacher", "accuracy", "table"])
    accuracy = accuracy.rename({"accuracy": "printed"})
    _numbers(folder / "metrics.csv", scores, ["printed", "printed_scale"], optional="printed_scale")
    _numbers(folder / "distillation.csv", accuracy, ["printed"])
    prints = pl.concat(
        [
            accuracy.with_columns(metric=pl.lit(ACCURACY), printed_scale=pl.lit("")),
            scores,
            _teacher_params(folder, scores["student"].unique(maintain_order=True).to_list()),
        ],
        how="diagonal",
    ).unique(["student", "teacher", "metric", "table"], keep="first", maintain_order=True)
    prints = _with_presets(prints)
    return Published(
        prints=pl.concat([prints, _fixed_student(prints)], how="diagonal").select(
            "student",
            "teacher",
            "metric",
            "preset",
            "printed",
            scale=pl.col("printed_scale").replace("", "1").cast(pl.Float64),
            table="table",
        ),
        coefficients=_coefficients(folder),
    )


def read_cells(path: Path, key: list[str], value: str) -> list[dict[str, str]]:
    """The rows of any file of printed cells, digits kept.

    Raises:
        InputError: see `read`.
    """
    rows = _read(path, [*key, value, "table"])
    _numbers(path, rows, [value])
    return rows.drop("line").to_dicts()


def _fixed_student(frame: pl.DataFrame) -> pl.DataFrame:
    """Table 14 scores with one student for all: its printed RSR is every student's."""
    students = frame.select("student").unique(maintain_order=True)
    fixed = frame.filter((pl.col("student") == FIXED_STUDENT) & (pl.col("metric") == "rsr") & (pl.col("preset") == ""))
    return students.join(fixed.drop("student", "preset"), how="cross").with_columns(preset=pl.lit("fixed student"))


def _with_presets(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(
        metric=pl.col("metric").replace({name: metric for name, (metric, _) in PRESETS.items()}),
        preset=pl.col("metric").replace_strict({name: preset for name, (_, preset) in PRESETS.items()}, default=""),
    )


def _teacher_params(folder: Path, students: list[str]) -> pl.DataFrame:
    """The size of a teacher is a score that it has for every student."""
    path = folder / "teachers.csv"
    rows = _read(path, ["teacher", "quantity", "value", "table"]).filter(pl.col("quantity") == "params_billion")
    _numbers(path, rows, ["value"])
    return pl.DataFrame({"student": students}).join(
        rows.select(
            "teacher",
            metric=pl.lit("teacher_params"),
            printed="value",
            printed_scale=pl.lit(""),
            table="table",
        ),
        how="cross",
    )


def _coefficients(folder: Path) -> pl.DataFrame:
    path = folder / "correlations.csv"
    rows = _read(path, ["metric", "student", "coefficient", "absolute_value", "table"])
    _numbers(path, rows, ["absolute_value"])
    per_student = rows.rename({"absolute_value": "printed"}).with_columns(preset=pl.lit(""))

    path = folder / "ablations.csv"
    rows = _read(path, ["variant", "setting", "average_absolute_spearman", "table"])
    _numbers(path, rows, ["average_absolute_spearman"])
    averages = [
        {
            "metric": metric,
            "preset": preset,
            "student": AVERAGE,
            "coefficient": "spearman",
            "printed": row["average_absolute_spearman"],
            "table": row["table"],
        }
        for row in rows.iter_rows(named=True)
        for metric, preset in [ABLATIONS[row["variant"], row["setting"]]]
    ]
    return pl.concat([per_student, pl.DataFrame(averages)], how="diagonal")


def _read(path: Path, columns: list[str]) -> pl.DataFrame:
    """A CSV file as strings: a print is its digits, not only its value."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; paths.published=FOLDER names the folder of printed numbers")
    try:
        frame = pl.read_csv(path, infer_schema=False).fill_null("").with_row_index("line", offset=2)
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable CSV file: {str(error).splitlines()[0]}") from error
    if missing := [name for name in columns if name not in frame.columns]:
        raise InputError(f"{path}: no column {missing[0]!r}; it has {', '.join(frame.columns[1:])}")
    return frame.select("line", *columns)


def _numbers(path: Path, frame: pl.DataFrame, columns: list[str], *, optional: str = "") -> None:
    for name in columns:
        number = pl.col(name).cast(pl.Float64, strict=False)
        bad = frame.filter((number.is_null() | ~number.is_finite()) & ~((pl.col(name) == "") & (name == optional)))
        if len(bad):
            raise InputError(f"{path}, line {bad['line'][0]}: {name} is {bad[name][0]!r}, not a number")
