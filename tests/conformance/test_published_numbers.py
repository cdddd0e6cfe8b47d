"""The numbers in results/published are those of the reference material, cell by cell."""

import csv

import pytest

from experiments.app.shared_configs import PathsConfig

SAME = [
    "metrics",
    "distillation",
    "correlations",
    "ablations",
    "selected_composition",
    "teacher_selection",
    "trajectory_selection",
]
LONG = {"students": "student", "teachers": "teacher", "simulation": "trajectory", "cost": "metric"}


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", SAME)
def test_cells(shared, name):
    assert rows(PathsConfig().published / f"{name}.csv") == rows(shared / "paper" / f"{name}.csv")


@pytest.mark.parametrize(("name", "key"), LONG.items())
def test_cells_of_wide_tables(shared, name, key):
    ours = rows(PathsConfig().published / f"{name}.csv")
    quantity = "setting" if name == "students" else "quantity"
    cells = {(r[key], r[quantity]): r["value"] for r in ours}
    theirs = {
        (r[key], column): value
        for r in rows(shared / "paper" / f"{name}.csv")
        for column, value in r.items()
        if column not in (key, "table")
    }
    assert cells == theirs
