"""Time, memory and disk up to the paper's size: 33 datasets of 5,000 trajectories, 1.47e9 response tokens.

    python benchmarks/scale.py FOLDER [--sizes 4 12 40]
    python benchmarks/scale.py FOLDER --tasks many_datasets many_files --results RESULTS  # some, in a folder of their own

Makes a token store in FOLDER (10 GB in full; what is there is used again), where a task reads it, and runs each task (see `tasks`)
at each size, in a process of its own. Slopes are of log on log: 1 where it grows as the size does, 0 where it does not grow.

What is measured is kept in FOLDER, so that the same command goes on where it was stopped; another commit measures anew.

Writes results/benchmarks/scale.md, scale.json and growth.png.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.generated import SHARD, SHARDS, TRAJECTORIES, generate, stores
from benchmarks.tasks import CHARACTERS, DATASETS, TASKS, measured, tokens
from experiments.app.result_folder import markdown_table, provenance
from experiments.app.shared_configs import ROOT
from rsr.views.plots import Growth, growth

Row = dict[str, Any]
MEASURED = {
    "seconds": "seconds",
    "core_seconds": "seconds of all cores",
    "peak_mb": "peak memory, MB",
    "disk_mb": "read or left on disk, MB",
}
OF_THE_STORE = ("ablation", "tables", "ranking", "selection")  # tasks whose size is the paper's at most
TARGET_SECONDS, TARGET_MB = 300, 2048


def slope(rows: Sequence[Row], measured: str) -> float:
    """Of the logarithm of what was measured on that of the size, by least squares."""
    return float(np.polyfit(np.log([row["size"] for row in rows]), np.log([row[measured] for row in rows]), 1)[0])


def extrapolated(rows: Sequence[Row], measured: str) -> float:
    """What it would be at the paper's size, on a straight line: slopes of log on log would forget what is fixed."""
    return float(np.polyval(np.polyfit([row["size"] for row in rows], [row[measured] for row in rows], 1), SHARDS))


def of_task(rows: Sequence[Row], task: str) -> list[Row]:
    return [row for row in rows if row["task"] == task]


def draw(rows: Sequence[Row], path: Path) -> None:
    panels = [
        (
            title,
            [
                Growth(
                    f"{task} ({slope(points, name):.2f})",
                    [row["size"] for row in points],
                    [row[name] for row in points],
                )
                for task in dict.fromkeys(row["task"] for row in rows)
                if (points := of_task(rows, task))
            ],
        )
        for name, title in MEASURED.items()
        if name != "seconds"  # on the clock other work counts as well
    ]
    growth(panels, x_label=f"size ({SHARDS}: the paper's)", path=path)


def report(rows: Sequence[Row], folder: Path) -> str:
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    generated = len(stores(folder)) if set(tasks) & set(OF_THE_STORE) else "No"
    parts = [
        "# Time, memory and disk as the study grows",
        f"{generated} generated datasets; {os.cpu_count()} cores. A line is one run in a process of its own; its peak "
        "memory counts the libraries as well. Seconds are on the clock, core seconds of all cores. A size is a number of shards "
        f"({SHARD} trajectories) of each dataset, {SHARDS} in the paper's study; of scoring a number of shards under a tiny "
        f"student; of the report a number of results. A unit of size of many datasets, and of many files of one, is {DATASETS} files of a "
        f"trajectory each, of many ranked {DATASETS} datasets of ten, of a long answer {CHARACTERS:,} characters.",
        markdown_table(
            ["task", "size", "trajectories", "response tokens", "seconds", "core seconds", "peak MB", "disk MB"],
            [_line(row, folder) for row in rows],
        ),
        "Slopes of log on log:",
        markdown_table(
            ["task", *MEASURED.values()],
            [[task, *(f"{slope(of_task(rows, task), name):.2f}" for name in MEASURED)] for task in tasks],
        ),
        *([_at_the_papers_size(of_task(rows, "ablation"))] if "ablation" in tasks else []),
        f"Made by `{provenance()['command']}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _at_the_papers_size(rows: Sequence[Row]) -> str:
    """All ablation metrics beside the target: measured, or extrapolated where the largest size is not the paper's."""
    largest, cores = rows[-1], os.cpu_count() or 1
    measured = largest["size"] == SHARDS
    seconds = largest["seconds"] if measured else extrapolated(rows, "core_seconds") / cores
    peak = largest["peak_mb"] if measured else extrapolated(rows, "peak_mb")
    how = (
        "measured"
        if measured
        else f"extrapolated on a straight line through the sizes, as if the {cores} cores were free"
    )
    met = seconds <= TARGET_SECONDS and peak <= TARGET_MB
    return (
        f"All ablation metrics at the paper's size: {seconds:.0f} s and {peak:,.0f} MB, {how}; the target, {TARGET_SECONDS} s and "
        f"{TARGET_MB:,} MB on 2 cores, is {'met' if met else 'not met'}."
    )


def _line(row: Row, folder: Path) -> list[str]:
    task, size = row["task"], row["size"]
    files = size * DATASETS
    trajectories = {
        "scoring": size * SHARD,
        "many_datasets": files,
        "many_files": files,
        "many_ranked": 10 * files,
        "long_answer": 1,
    }.get(task)
    if task in OF_THE_STORE:
        trajectories = min(size * SHARD, TRAJECTORIES) * len(stores(folder))
    return [
        task,
        str(size),
        "" if trajectories is None else f"{trajectories:,}",
        f"{tokens(folder, size):.3g}" if task in ("ablation", "tables") else "",
        f"{row['seconds']:.1f}",
        f"{row['core_seconds']:.1f}",
        f"{row['peak_mb']:,.0f}",
        f"{row['disk_mb']:,.1f}",
    ]


def _measured(task: str, folder: Path, size: int) -> Row:
    """A row, measured now or by the same commit before."""
    kept, commit = folder / "measured" / f"{task}-{size}.json", provenance()["commit"]
    if kept.exists() and (result := json.loads(kept.read_text()))["commit"] == commit:
        return dict(result["row"])
    row = measured(task, folder, size)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"commit": commit, "row": row}))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[4, 12, SHARDS])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "benchmarks")
    arguments = parser.parse_args()
    sizes = sorted(arguments.sizes)
    if set(arguments.tasks) & set(OF_THE_STORE):
        generate(arguments.folder, sizes[-1])
    rows = [_measured(task, arguments.folder, size) for task in arguments.tasks for size in sizes]
    arguments.results.mkdir(parents=True, exist_ok=True)
    record = provenance() | {"cores": os.cpu_count(), "rows": rows}
    (arguments.results / "scale.json").write_text(json.dumps(record, indent=2) + "\n")
    (arguments.results / "scale.md").write_text(report(rows, arguments.folder))
    draw(rows, arguments.results / "growth.png")
    print(report(rows, arguments.folder))


if __name__ == "__main__":
    main()
