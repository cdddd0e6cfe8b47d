"""Which teacher would each metric have chosen, and what did that cost? (Table 7)

    python experiments/teacher_selection.py

For each metric and student the first and second of six candidate teachers by printed scores, the accuracy they lead to,
and the regret against the best. Beside it Table 7 as printed, cell by cell. Writes results/teacher_selection/.
"""

import numpy as np
import polars as pl

from experiments.app import result_folder
from experiments.app.command_configs import TablesConfig
from experiments.app.entry import command_line, entry
from experiments.paper import consistency, published
from experiments.paper.metric_table import Aggregates
from rsr.metrics import select
from rsr.stats.paired import regret


@entry("teacher_selection", TablesConfig)
def main(config: TablesConfig) -> None:
    prints = published.read(config.paths.published)
    rows = choices(Aggregates(prints.scores(), prints.performance()), prints.students())
    cells = list(consistency.teacher_choices(config.paths.published, prints))
    text = _report(rows, cells)
    folder = config.paths.results / "teacher_selection"
    result_folder.publish(folder, text, {"choices.csv": rows})


def choices(aggregates: Aggregates, students: list[str]) -> pl.DataFrame:
    """First and second candidate of every metric for every student, with accuracy and regret (percentage points)."""
    rows = []
    for metric in select(["all"]):
        for table in aggregates.tables(metric, students, consistency.CANDIDATES):
            for student, scores, accuracy in zip(students, table.scores, table.accuracy, strict=True):
                oriented = metric.expected_sign * np.array(scores)
                order = np.argsort(-oriented, kind="stable")
                rows.append(
                    {
                        "metric": f"{metric.title} ({table.preset})" if table.preset else metric.title,
                        "student": student,
                        "first": table.teachers[order[0]],
                        "second": table.teachers[order[1]],
                        "first_accuracy": accuracy[order[0]],
                        "second_accuracy": accuracy[order[1]],
                        "regret_1": regret(oriented, accuracy, 1),
                        "regret_2": regret(oriented, accuracy, 2),
                    }
                )
    return pl.DataFrame(rows)


def _report(rows: pl.DataFrame, cells: list[consistency.Check]) -> str:
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


if __name__ == "__main__":
    main()
