"""A selection beside the one that the paper's authors released with their data, a file a student."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from experiments.app.shared_configs import StudyConfig
from experiments.stages import teacher_data
from experiments.stages.training_sets import Selection
from rsr.data import places, trajectories
from rsr.data.places import RELEASED
from rsr.data.trajectories import Dataset
from rsr.errors import InputError

ALL, UNKNOWN = "all", "no candidate here"


@dataclass(frozen=True)
class Agreement:
    """How far two selections choose alike, on the problems that both hold.

    Attributes:
        setting: label of the selection.
        teachers: teacher (also `ALL`, and `UNKNOWN` for released choices that are no candidate), released and own (choices),
            equal (of both), share (of the released choices, percent; null where there is none).
        elsewhere: released choices of problems that are not here.
    """

    setting: str
    teachers: pl.DataFrame
    elsewhere: int

    @property
    def share(self) -> float:
        """Share of the released choices that are made here too, in percent."""
        return float(self.teachers.filter(teacher=ALL)["share"].item())


def read(config: StudyConfig) -> Dataset:
    """The selection that was released for a student.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    student = config.student
    source = teacher_data.place(config.teachers, config.paths)
    folder = places.local(source) / RELEASED
    if not folder.is_dir():
        raise InputError(f"the data of {config.teachers.name} has no folder {RELEASED}")
    if student.released is None:
        raise InputError(f"student.released does not say which file of {RELEASED} is that of {student.name}")
    files = {file.stem: file for _, _, file in places.find(folder)}
    fitting = teacher_data.fitting(student.released, [*files], str(folder), f"files fit student {student.name!r}")
    return trajectories.read(files[fitting], RELEASED)


def agreement(selection: Selection, data: Sequence[Dataset], released: Dataset) -> Agreement:
    """Compare choices by their content.

    Args:
        data: the candidates of the selection.

    Raises:
        InputError: the two have no problem in common.
    """
    known = {t.problem for dataset in data for t in dataset.trajectories}
    theirs = [t.sha256 for t in released.trajectories if t.problem in known]
    if not theirs:
        raise InputError(
            f"no problem of the {len(released.trajectories):,} in the released selection is among the data"
        )
    ours = [t.sha256 for t in selection.dataset.trajectories]
    rows = [(dataset.teacher, t.sha256) for dataset in data for t in dataset.trajectories]
    candidates = pl.DataFrame(rows, schema=["teacher", "content"], orient="row").unique("content", maintain_order=True)
    chosen = candidates.with_columns(released=pl.col("content").is_in(theirs), own=pl.col("content").is_in(ours))
    counts = [pl.col("released").sum(), pl.col("own").sum(), (pl.col("released") & pl.col("own")).sum().alias("equal")]
    by_teacher = chosen.group_by("teacher", maintain_order=True).agg(counts)
    unknown = len({*theirs}) - int(chosen["released"].sum())
    total = by_teacher.select(
        pl.lit(ALL).alias("teacher"), pl.col("released").sum() + unknown, pl.col("own", "equal").sum()
    )
    absent = total.select(
        pl.lit(UNKNOWN).alias("teacher"),
        pl.lit(unknown).alias("released"),
        pl.lit(0).alias("own"),
        pl.lit(0).alias("equal"),
    )
    frames = [by_teacher, *([absent] if unknown else []), total]
    share = pl.when(pl.col("released") > 0).then(100 * pl.col("equal") / pl.col("released")).alias("share")
    teachers = pl.concat(frames, how="vertical_relaxed").with_columns(share)
    return Agreement(selection.label, teachers, len(released.trajectories) - len(theirs))
