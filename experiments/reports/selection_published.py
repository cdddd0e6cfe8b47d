"""The tables, figure and record of trajectory selection as printed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from experiments.app import result_folder
from experiments.app.command_configs import SelectionConfig
from experiments.app.conclusions import conclude
from experiments.paper.published import AVERAGE, read, read_cells
from experiments.paper.selection import (
    FEWER,
    MAIN,
    MATHS,
    RSR,
    SCIENCE,
    VARIANTS,
    against_teachers,
    by_method,
    cells,
    composition,
    conclusions,
    differences,
)
from rsr.stats.effect import estimate_text
from rsr.views.plots import Estimate, ranges


def report(config: SelectionConfig) -> None:
    """Write results/trajectory_selection/<student>/ from the published numbers.

    Raises:
        InputError: there are no prints of this student.
    """
    folder, prints = config.paths.published, read(config.paths.published)
    students = prints.students(config.student.name)
    table = cells(folder, students)
    main = by_method(table, MAIN, MATHS, students)
    gaps = differences(main)
    single = against_teachers(main, prints, students)
    made = composition(folder, prints, students)
    parts = [
        "## 33-to-1, mean of four mathematics benchmarks (Tables 6 and 20 to 24)",
        accuracies_markdown(main, students),
        differences_markdown(gaps),
        "Intervals are Student's t over students, who share teachers, problems and benchmarks; prints are means over three "
        "seeds whose spread is not printed. Rounding moves a difference by 0.1 at most. Regret: points lost against the best "
        "printed method of each student. Which prints follow from which others: results/tables/.",
    ]
    for title, setting, benchmark in (
        ("33-to-1, GPQA-Diamond (Table 16)", MAIN, SCIENCE),
        ("Variants of selection by RSR, and none: all 55,000 trajectories (Table 15)", VARIANTS, MATHS),
        ("Seven teachers (Table 18)", FEWER, MATHS),
    ):
        having = [s for s in students if s in set(table.filter(setting=setting, benchmark=benchmark)["student"])]
        if having:
            accuracies = by_method(table, setting, benchmark, having)
            parts += [
                f"## {title}",
                accuracies_markdown(accuracies, having),
                differences_markdown(differences(accuracies)),
            ]
    parts += ["## Against single teachers (Table 1)", _single_markdown(single), *_composition_parts(made, folder)]
    results = result_folder.folder_of(config, "trajectory_selection")
    ranges(
        {"33-to-1, over students": [_estimate(r) for r in gaps.iter_rows(named=True) if r["method"] != RSR]},
        "What RSR selects against other methods, as printed",
        "accuracy of RSR's selection less that of the other method (points)",
        results / "differences.png",
        marks={"no difference": 0.0},
    )
    concluded = conclusions(table, main, single, students) if len(students) > 1 else []
    tables = {"accuracies.csv": table, "differences.csv": gaps, "teachers.csv": single, "composition.csv": made}
    conclude(
        results,
        f"Trajectory selection as printed: {config.student.name}",
        concluded,
        parts,
        tables,
        source="published",
    )


def _estimate(row: Mapping[str, Any]) -> Estimate:
    return Estimate(row["method"], row["rsr_less_it"], row["low"], row["high"])


def accuracies_markdown(accuracies: Mapping[str, Sequence[float]], students: Sequence[str]) -> str:
    rows = [[m, *(f"{v:.1f}" for v in values), f"{np.mean(values):.1f}"] for m, values in accuracies.items()]
    return result_folder.markdown_table(["method", *students, AVERAGE], rows)


def differences_markdown(table: pl.DataFrame) -> str:
    rows = [
        [
            r["method"],
            "" if r["method"] == RSR else estimate_text(r["rsr_less_it"], r["low"], r["high"], "+.1f"),
            "" if r["method"] == RSR else f"{r['rsr_wins']} of {r['students']}",
            f"{r['regret']:.1f}",
            f"{r['best_of']} of {r['students']}",
        ]
        for r in table.sort("accuracy", descending=True).iter_rows(named=True)
    ]
    return result_folder.markdown_table(
        ["method", "RSR less it [95 %]", "RSR is better for", "regret against the best method", "best for"], rows
    )


def _single_markdown(table: pl.DataFrame) -> str:
    rows = [
        [
            r["student"],
            f"{r['best_teacher']}: {r['its_accuracy']:.1f}",
            *(f"{r[name]:.1f}" for name in table.columns[3:]),
        ]
        for r in table.iter_rows(named=True)
    ]
    return result_folder.markdown_table(
        ["student", "best teacher", *(c.replace("_", " ") for c in table.columns[3:])], rows
    )


def _composition_parts(made: pl.DataFrame, folder: Path) -> list[str]:
    correlations = ("share_and_low_rsr", "share_and_accuracy")
    rows = [
        [
            r["student"],
            r["setting"],
            f"{r['most_selected']} ({r['its_share']:.1f} %)",
            str(r["its_place_by_rsr"]),
            str(r["its_place_by_accuracy"]),
            *(estimate_text(r[name], r[f"{name}_low"], r[f"{name}_high"]) for name in correlations),
        ]
        for r in made.iter_rows(named=True)
    ]
    header = ["student", "setting", "most selected", "place by its RSR", "place by accuracy"]
    cells_of_11 = [
        [r["student"], r["quantity"].replace("_", " "), r["setting"], r["value"]]
        for r in read_cells(folder / "selected_composition.csv", ["student", "setting", "quantity"], "value")
        if r["table"] == "11"
    ]
    return [
        "## Who is selected (Tables 17 and 19)",
        result_folder.markdown_table([*header, "share and low RSR, Spearman", "share and accuracy, Spearman"], rows),
        "Selection problem by problem follows the teachers' own RSR, but is not the choice of one teacher: intervals are "
        "bootstraps over teachers.",
        "## Length and verified accuracy of what is selected (Table 11)",
        result_folder.markdown_table(["student", "quantity", "of", "printed"], cells_of_11),
    ]
