"""The layout's promises: who imports whom, and which folders there are (tests/test_wheel.py has what a wheel holds)."""

import ast
import subprocess

import pytest

from experiments.app.shared_configs import ROOT

# Imports point one way: experiments -> train, eval -> rsr -> third parties.
FORBIDDEN = {
    "rsr": {"train", "eval", "experiments", "hydra", "omegaconf"},
    "train": {"eval", "experiments", "hydra", "omegaconf"},
    "eval": {"train", "experiments", "hydra", "omegaconf"},
}


# The rooms of a package, bottom to top. What lies in no room is a command: it stands above all rooms, and nothing imports it.
ROOMS = {
    "rsr": (
        [
            "errors",
            "store",
            "stats",
            "data",
            "grading",
            "student",
            "tokens",
            "features",
            "metrics",
            "selection",
            "views",
        ]
        + ["api", "__init__", "cli", "__main__"]
    ),
    # Modules outside these rooms are commands, which nothing imports.
    "experiments": ["__init__", "app", "miniature", "paper", "stages", "study", "analysis", "reports"],
}
# They write on a terminal, or are a process that answers on its own standard output.
MAY_PRINT = {"rsr.__main__", "rsr.cli", "rsr.grading.math_worker", "rsr.grading.program_worker"}


def modules(package):
    """Path by name of each module; a package is called by its folder."""
    for path in (ROOT / package).rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def room(module):
    """The place of a module's room from the bottom; a command's is above all."""
    package, name = (*module.split(".")[:2], "__init__")[:2]
    return ROOMS[package].index(name) if name in ROOMS[package] else len(ROOMS[package])


def imported(path):
    """Names that a module imports anywhere in it, inside functions and for type checkers too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports(package):
    """The modules of a package that each of its modules imports."""
    own = dict(modules(package))
    return {
        name: {of if of in own else of.rpartition(".")[0] for of in imported(path)} & own.keys()
        for name, path in own.items()
    }


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_one_way(package):
    for name, path in modules(package):
        wrong = {of for of in imported(path) if of.split(".")[0] in FORBIDDEN[package]}
        assert not wrong, f"{name} imports {wrong}"


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_rooms_below(package):
    arrows = [(name, of) for name, others in imports(package).items() for of in others]
    assert not [f"{name} imports {of}" for name, of in arrows if room(of) > room(name)]
    assert not [f"{name} imports the command {of}" for name, of in arrows if room(of) == len(ROOMS[package])]


@pytest.mark.parametrize("package", ROOMS)
def test_no_module_imports_itself_by_way_of_others(package):
    rest = imports(package)
    while free := {name for name, others in rest.items() if not others & rest.keys()}:
        rest = {name: others for name, others in rest.items() if name not in free}
    assert not rest, f"a circle among {sorted(rest)}"


def test_the_library_is_silent_below_its_command_line():
    for name, path in modules("rsr"):
        if not MAY_PRINT & {name, ".".join(name.split(".")[:2])}:
            code = ast.parse(path.read_text())
            calls = {ast.unparse(node.func) for node in ast.walk(code) if isinstance(node, ast.Call)}
            assert not calls & {"print", "sys.stdout.write", "sys.stderr.write"}, f"{name} prints"
            assert not {of.split(".")[0] for of in imported(path)} & {"rich", "click"}, f"{name} draws on a terminal"


def test_top_level_holds_the_agreed_folders():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    folders = {path.split("/")[0] for path in tracked if "/" in path}
    agreed = {"configs", "rsr", "train", "eval", "experiments", "tests", "results", "docs", "benchmarks", ".ci"}
    assert folders <= agreed
