"""The first and second teacher that each metric would have chosen, and their regret."""

import numpy as np
import polars as pl

from experiments.paper import consistency
from experiments.paper.metric_table import Aggregates
from rsr.metrics import select
from rsr.stats.paired import regret


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
