"""The teachers' datasets as configured."""

from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from experiments.app.shared_configs import PathsConfig, ScoringConfig, TeachersConfig
from experiments.miniature import lengths
from experiments.miniature import teachers as miniature
from experiments.miniature.programs import teachers as programs
from experiments.miniature.world import SEED
from experiments.stages import random_selection
from rsr.data import places, trajectories
from rsr.data.records import FileRecords
from rsr.data.trajectories import Dataset
from rsr.errors import InputError
from rsr.store.artefacts import find_or_begin, writing
from rsr.store.locks import locking

RECIPES = {  # of teachers that are made on the spot: what writes them, and its version
    "miniature": (miniature.write_problems, miniature.VERSION),
    "miniature_lengths": (lengths.write_problems, miniature.VERSION),
    "miniature_programs": (programs.write_problems, programs.VERSION),
}


@locking
def made(teachers: TeachersConfig, paths: PathsConfig) -> Path:
    """The folder of teachers that are made on the spot: `teachers/`, and the benchmark that goes with them.

    Raises:
        InputError: there is no such recipe.
    """
    recipe = RECIPES.get(teachers.recipe or "")
    if recipe is None:
        raise InputError(
            f"teachers {teachers.name!r}: unknown recipe {teachers.recipe!r}; known are {', '.join(RECIPES)}"
        )
    write_problems, made_by = recipe
    key = {"stage": "data", "recipe": teachers.recipe, "seed": SEED, "version": made_by}
    artefact = find_or_begin(paths.outputs, "data", teachers.name, key)
    if artefact.manifest is None:
        with writing(artefact.path):
            write_problems(artefact.path, SEED)
        artefact = artefact.complete(train=miniature.TRAIN, test=miniature.TEST)
    return artefact.checked()


def place(teachers: TeachersConfig, paths: PathsConfig) -> str:
    """Where the teachers' data are: a file, a folder or a hub repository.

    Raises:
        InputError: they are nowhere, or cannot be made.
    """
    if teachers.data is not None:
        return teachers.data
    if teachers.recipe is not None:
        return str(made(teachers, paths) / "teachers")
    raise InputError(f"teachers {teachers.name!r} have no data: give teachers.data=FOLDER")


def load(teachers: TeachersConfig, scoring: ScoringConfig, paths: PathsConfig) -> list[Dataset]:
    """Read every dataset of a teacher table, in its order, then those selected from them; without a table, all that is found.

    Raises:
        InputError: a teacher or generation of the table is not there, its folder is not the only one that fits, or a file
            cannot be read.
    """
    source = place(teachers, paths)
    found = places.find(source)
    chosen = _by_table(teachers, source, found) if teachers.teachers else found
    options: dict[str, Any] = {"on_error": scoring.on_error.value, "fields": teachers.fields}
    datasets = [
        dataset
        for name, generation, file in chosen
        for dataset in trajectories.read_all(
            FileRecords(file), name, generation, **options, one_teacher=bool(teachers.teachers)
        )
    ]
    if not teachers.teachers and (passed_over := places.beside(source)):
        datasets[0] = replace(datasets[0], unread=(*datasets[0].unread, passed_over))
    if scoring.limit is not None:
        datasets = [replace(d, trajectories=d.trajectories[: scoring.limit]) for d in datasets]
    return datasets + [random_selection.as_teacher(method, datasets) for method in teachers.selections]


Found = tuple[str, str, Path]  # teacher, generation and file, as the folder names them


def _by_table(teachers: TeachersConfig, source: str, found: list[Found]) -> list[Found]:
    folders = list(dict.fromkeys(name for name, _, _ in found))
    chosen = []
    for teacher in teachers.teachers:
        pattern = teacher.folder or teacher.name
        folder = fitting(pattern, folders, source, f"folders fit teacher {teacher.name!r}")
        files = {generation: file for name, generation, file in found if name == folder}
        if not teachers.generations:
            chosen += [(teacher.name, generation, file) for generation, file in files.items()]
        for generation in teachers.generations:
            pattern = teachers.file.replace("{generation}", generation)
            fits = f"files of teacher {teacher.name!r} fit generation {generation!r}"
            chosen.append((teacher.name, generation, files[fitting(pattern, [*files], source, fits)]))
    return chosen


def fitting(pattern: str, names: list[str], source: str, fits: str) -> str:
    """The one name that fits a pattern, in any case.

    Args:
        fits: what the names are and what they fit, for the message.

    Raises:
        InputError: none or several fit.
    """
    fitting = [name for name in names if fnmatch(name.lower(), pattern.lower())]
    if len(fitting) != 1:
        raise InputError(f"{source}: {len(fitting)} {fits} ({pattern}); it has {', '.join(names)}")
    return fitting[0]
