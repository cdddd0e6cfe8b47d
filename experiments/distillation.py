"""How well does each student do after training on each teacher? (Tables 1 and 2)

    python experiments/distillation.py

The accuracies as printed, each teacher's place per student, and how far the best teacher is the strongest or the largest.
Writes results/distillation/.
"""

from experiments.app import result_folder
from experiments.app.command_configs import TablesConfig
from experiments.app.entry import entry
from experiments.paper import consistency, published
from experiments.paper.metric_table import Aggregates
from experiments.reports.distillation import report
from rsr.metrics import METRICS


@entry("distillation", TablesConfig)
def main(config: TablesConfig) -> None:
    prints = published.read(config.paths.published)
    students = prints.students()
    teachers = [teacher.name for teacher in config.teachers.teachers]
    accuracy = prints.performance().pivot("student", index="teacher", values="accuracy").select("teacher", *students)
    aggregates = Aggregates(prints.scores(), prints.performance())
    (strength,) = aggregates.tables(METRICS["teacher_performance"], students, teachers)
    repeated = [c for c in consistency.repeated_cells(prints) if c.cell.startswith(published.ACCURACY)]
    text = report(accuracy, students, dict(zip(teachers, strength.scores[0], strict=True)), repeated)
    folder = config.paths.results / "distillation"
    result_folder.publish(folder, text, {"table.csv": accuracy})


if __name__ == "__main__":
    main()
