"""The layout's promises: who imports whom, and which folders there are (tests/test_wheel.py has what a wheel holds)."""

import ast
import subprocess

import pytest

from experiments.app.config import ROOT

# Imports point one way: experiments -> train, eval -> rsr -> third parties.
FORBIDDEN = {
    "rsr": {"train", "eval", "experiments", "hydra", "omegaconf"},
    "train": {"eval", "experiments", "hydra", "omegaconf"},
    "eval": {"train", "experiments", "hydra", "omegaconf"},
}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_point_one_way(package):
    for path in (ROOT / package).rglob("*.py"):
        wrong = {name for name in imported(path) if name.split(".")[0] in FORBIDDEN[package]}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_top_level_holds_the_agreed_folders():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    folders = {path.split("/")[0] for path in tracked if "/" in path}
    agreed = {"configs", "rsr", "train", "eval", "experiments", "tests", "results", "docs", "benchmarks", ".ci"}
    assert folders <= agreed
