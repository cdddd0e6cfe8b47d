"""The teachers' datasets as configured."""

from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

from experiments.app.shared_configs import PathsConfig, ScoringConfig, TeachersConfig
from experiments.miniature import lengths
from experiments.miniature import teachers as miniature
from experiments.miniature.programs import teachers as programs
from experiments.miniature.world import SEED
from experiments.stages import random_selection
from rsr.data import trajectories
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
    return artefact.path


def load(teachers: TeachersConfig, scoring: ScoringConfig, paths: PathsConfig) -> list[Dataset]:
    """Read every dataset of a teacher table, in its order, then those selected from them; without a table, all that is found.

    Raises:
        InputError: a teacher or generation of the table is not there, its folder is not the only one that fits, or a file
            cannot be read.
    """
    if teachers.data is not None:
        source = teachers.data
    elif teachers.recipe is not None:
        source = str(made(teachers, paths) / "teachers")
    else:
        raise InputError(f"teachers {teachers.name!r} have no data: give teachers.data=FOLDER")
    found = trajectories.find(source)
    chosen = _by_table(teachers, source, found) if teachers.teachers else found
    datasets = [trajectories.read(file, name, gen, on_error=scoring.on_error.value) for name, gen, file in chosen]
    if scoring.limit is not None:
        datasets = [replace(d, trajectories=d.trajectories[: scoring.limit]) for d in datasets]
    return datasets + [random_selection.as_teacher(method, datasets) for method in teachers.selections]


def _by_table(teachers: TeachersConfig, source: str, found: list[tuple[str, str, Path]]) -> list[tuple[str, str, Path]]:
    folders = list(dict.fromkeys(name for name, _, _ in found))
    chosen = []
    for teacher in teachers.teachers:
        pattern = teacher.folder or teacher.name
        fitting = [f for f in folders if fnmatch(f.lower(), pattern.lower())]
        if len(fitting) != 1:
            raise InputError(
                f"{source}: {len(fitting)} folders fit teacher {teacher.name!r} ({pattern}); it has "
                f"{', '.join(folders)}"
            )
        files = {gen: file for name, gen, file in found if name == fitting[0]}
        for generation in teachers.generations or files:
            if generation not in files:
                raise InputError(f"{source}: teacher {teacher.name!r} has no generation {generation!r}")
            chosen.append((teacher.name, generation, files[generation]))
    return chosen
