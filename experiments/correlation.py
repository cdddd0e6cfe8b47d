"""How far does each metric order teachers as accuracy after training does? (Tables 4 and 13)

    python experiments/correlation.py student=qwen3b
    python experiments/correlation.py student=all
    python experiments/correlation.py student=qwen7b metric=grad
    python experiments/correlation.py -m student=qwen3b,qwen4b metric=[rsr,rule_based_quality]
    python experiments/correlation.py student=miniature         # measured here: scores, trains and evaluates first

Prints the table and a diagnosis, and writes both with figures to results/correlation/<student>[-<metrics>]/.
"""

from pathlib import Path

from experiments.analysis import warnings
from experiments.app import result_folder
from experiments.app.entry import entry
from experiments.app.shared_configs import CorrelationConfig, ResultSource, reads_published
from experiments.paper import published
from experiments.paper.metric_table import Aggregates, Result, Table, compare, not_recomputable
from experiments.reports.correlation import show, write
from rsr.errors import InputError
from rsr.metrics import Metric, select


@entry("correlation", CorrelationConfig, open_groups=True)
def main(config: CorrelationConfig) -> None:
    if reads_published(config.source, config.teachers):
        of_print(config)
    else:
        of_measurements(config)


def of_print(config: CorrelationConfig) -> None:
    """The paper's printed scores against its printed accuracies."""
    prints = published.read(config.paths.published)
    aggregates = Aggregates(prints.scores(), prints.performance())
    students = prints.students(config.student.name)
    teachers = [teacher.name for teacher in config.teachers.teachers]

    results: list[Result] = []
    tables: list[Table] = []
    names = config.compared
    for metric in select(names):
        metric_tables = aggregates.tables(metric, students, teachers)
        tables += metric_tables
        results += [
            result
            for table in metric_tables
            for part in table.by_student_and_average()
            for result in compare(part, prints, config.bootstrap)
        ] or _printed_only(metric, students, prints, required=metric.name in names)
    raised = warnings.raised_by(tables, results, len(teachers))
    folder = folder_of(config)
    write(folder, config, results, tables, raised)
    show(results, raised, folder)


def of_measurements(config: CorrelationConfig) -> None:
    """Scores against accuracies that this project measures; stages that are missing run first.

    Raises:
        InputError: a study that costs much has not been given run=true; or a cell failed, after everything else is written.
    """
    from experiments.reports import correlation_measured
    from experiments.study.plan import refuse_or_go
    from experiments.study.study import measure

    folder = folder_of(config)  # refused before anything runs
    refuse_or_go(config)
    measured = measure(config)
    correlation_measured.report(measured, config, folder)
    measured.runs.refuse_failed()


def folder_of(config: CorrelationConfig) -> Path:
    """Where the results of a comparison go: named after student, teachers where they are not the usual ones, and metrics; measured
    ones of a student whose published numbers are compared elsewhere say so.
    """
    both = config.student.source is ResultSource.published and config.source is ResultSource.measured
    parts = [name for name in config.compared if name != "study"] + ["measured"] * both
    return result_folder.folder_of(config, "correlation", *parts)


def _printed_only(metric: Metric, students: list[str], prints: published.Published, *, required: bool) -> list[Result]:
    names = [*students, published.AVERAGE] if len(students) > 1 else students
    results = [result for name in names for result in not_recomputable(name, metric, prints)]
    if required and not results:
        raise InputError(f"no scores of {metric.name} for student {students[0]!r}, printed or measured")
    return results


if __name__ == "__main__":
    main()
