"""The teachers' datasets as configured."""

from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

from experiments.config import ScoringConfig, Teachers
from rsr import trajectories
from rsr.errors import InputError
from rsr.trajectories import Dataset


def load(teachers: Teachers, scoring: ScoringConfig) -> list[Dataset]:
    """Read every dataset of a teacher table, in its order; without a table, all that is found.

    Raises:
        InputError: a teacher or generation of the table is not there, its folder is not the only one that fits, or a file
            cannot be read.
    """
    found = trajectories.find(teachers.data)
    chosen = found if not teachers.teachers else _by_table(teachers, found)
    datasets = [trajectories.read(file, name, gen, on_error=scoring.on_error.value) for name, gen, file in chosen]
    if scoring.limit is None:
        return datasets
    return [replace(d, trajectories=d.trajectories[: scoring.limit]) for d in datasets]


def _by_table(teachers: Teachers, found: list[tuple[str, str, Path]]) -> list[tuple[str, str, Path]]:
    folders = list(dict.fromkeys(name for name, _, _ in found))
    chosen = []
    for teacher in teachers.teachers:
        pattern = teacher.folder or teacher.name
        fitting = [f for f in folders if fnmatch(f.lower(), pattern.lower())]
        if len(fitting) != 1:
            raise InputError(
                f"{teachers.data}: {len(fitting)} folders fit teacher {teacher.name!r} ({pattern}); it has "
                f"{', '.join(folders)}"
            )
        files = {gen: file for name, gen, file in found if name == fitting[0]}
        for generation in teachers.generations or files:
            if generation not in files:
                raise InputError(f"{teachers.data}: teacher {teacher.name!r} has no generation {generation!r}")
            chosen.append((teacher.name, generation, files[generation]))
    return chosen
