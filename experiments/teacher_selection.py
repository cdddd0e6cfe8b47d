"""Which teacher would each metric have chosen, and what did that cost? (Table 7)

    python experiments/teacher_selection.py

For each metric and student the first and second of six candidate teachers by printed scores, the accuracy they lead to,
and the regret against the best. Beside it Table 7 as printed, cell by cell. Writes results/teacher_selection/.
"""

from experiments.app import result_folder
from experiments.app.command_configs import TablesConfig
from experiments.app.entry import entry
from experiments.paper import consistency, published
from experiments.paper.metric_table import Aggregates
from experiments.paper.teacher_selection import choices
from experiments.reports.teacher_selection import report


@entry("teacher_selection", TablesConfig)
def main(config: TablesConfig) -> None:
    prints = published.read(config.paths.published)
    rows = choices(Aggregates(prints.scores(), prints.performance()), prints.students())
    cells = list(consistency.teacher_choices(config.paths.published, prints))
    text = report(rows, cells)
    folder = config.paths.results / "teacher_selection"
    result_folder.publish(folder, text, {"choices.csv": rows})


if __name__ == "__main__":
    main()
