"""Teacher selection as Markdown."""

import polars as pl

from experiments.app import result_folder
from experiments.app.entry import command_line
from experiments.paper import consistency


def report(rows: pl.DataFrame, cells: list[consistency.Check]) -> str:
    means = rows.group_by("metric", maintain_order=True).agg(
        accuracy=(pl.col("first_accuracy") + pl.col("second_accuracy")).mean() / 2,
        regret_1=pl.col("regret_1").mean(),
        regret_2=pl.col("regret_2").mean(),
    )
    table = [
        [r["metric"], f"{r['accuracy']:.1f}", f"{r['regret_1']:.1f}", f"{r['regret_2']:.1f}"]
        for r in means.sort("accuracy", descending=True).iter_rows(named=True)
    ]
    printed = [[c.cell, c.printed, f"{c.value:.2f}", c.verdict] for c in cells]
    parts = [
        "# Teacher selection among six candidates",
        "Mean accuracy over five students of the first and second choice, and percentage points lost against the best "
        "candidate by the first choice (by the better of the first two). Six candidates and five students that share them: "
        "differences of a point rest on one or two choices.",
        result_folder.markdown_table(["metric", "accuracy", "regret 1", "regret 2"], table),
        "## Table 7, cell by cell",
        result_folder.markdown_table(
            ["choice (teacher that printed scores choose)", "printed", "recomputed", "verdict"], printed
        ),
        f"Made by `{command_line()}`.",
    ]
    return "\n\n".join(parts) + "\n"
