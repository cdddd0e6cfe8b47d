"""How much does RSR's correlation depend on a teacher, on length, on chance, and does it beat the baselines?

    python experiments/robustness.py student=all
    python experiments/robustness.py student=qwen3b

Per metric: Kendall's tau-b, pairs of teachers ordered rightly, accuracy lost by its first (and first two) choices, range
when one teacher is left out, correlation given log length; and RSR against each baseline, paired. Writes
results/robustness/<student>/.
"""

import polars as pl

from experiments.app import result_folder
from experiments.app.command_configs import RobustnessConfig
from experiments.app.entry import entry
from experiments.paper import published
from experiments.paper.metric_table import Aggregates
from experiments.paper.robustness import statistics
from experiments.reports.robustness import report
from rsr.metrics import select


@entry("robustness", RobustnessConfig)
def main(config: RobustnessConfig) -> None:
    prints = published.read(config.paths.published)
    aggregates = Aggregates(prints.scores(), prints.performance())
    students = prints.students(config.student.name)
    teachers = [teacher.name for teacher in config.teachers.teachers]
    tables = [t for metric in select(["all"]) for t in aggregates.tables(metric, students, teachers)]
    rows = pl.DataFrame([statistics(table, tables, config) for table in tables]).sort("spearman", descending=True)
    text = report(rows, students, len(teachers))
    folder = result_folder.folder_of(config, "robustness")
    result_folder.publish(folder, text, {"table.csv": rows})


if __name__ == "__main__":
    main()
