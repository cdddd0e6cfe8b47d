"""How far does each metric order teachers as accuracy after training does? (Tables 4 and 13)

    python experiments/correlation.py student=qwen3b
    python experiments/correlation.py student=all
    python experiments/correlation.py student=qwen7b metric=grad
    python experiments/correlation.py -m student=qwen3b,qwen4b metric=[rsr,rule_based_quality]

Prints the table and a diagnosis, and writes both with figures to results/correlation/<student>[-<metrics>]/.
"""

from experiments import diagnosis, published
from experiments.comparison import Aggregates, Result, Table, compare, not_recomputable
from experiments.config import CorrelationConfig, Source
from experiments.correlation_output import show, write
from experiments.entry import entry
from rsr.errors import InputError
from rsr.metrics import Metric, select


@entry("correlation", CorrelationConfig)
def main(config: CorrelationConfig) -> None:
    if config.source is Source.measured:
        raise InputError(
            f"student {config.student.name!r} has no measured accuracies: only the paper's students have print"
        )
    prints = published.read(config.paths.published)
    aggregates = Aggregates(prints.scores(), prints.performance())
    students = students_of(config.student.name, prints.students())
    teachers = [teacher.name for teacher in config.teachers.teachers]

    results: list[Result] = []
    tables: list[Table] = []
    names = config.metrics
    for metric in select(names):
        found = aggregates.tables(metric, students, teachers)
        tables += found
        results += [
            result
            for table in found
            for part in table.by_student_and_average()
            for result in compare(part, prints, config.bootstrap)
        ] or _printed_only(metric, students, prints, required=metric.name in names)

    findings = [
        *(finding for table in tables for finding in diagnosis.of_scores(table)),
        *diagnosis.of_signs(results),
        *diagnosis.of_count(len(teachers)),
    ]
    name = "-".join([config.student.name, *(n for n in names if n != "all")])
    folder = config.paths.results / "correlation" / name
    write(folder, config, results, tables, findings)
    show(results, findings, folder)


def students_of(name: str, known: list[str]) -> list[str]:
    """The student of that name, or every known one for "all".

    Raises:
        InputError: there are no results of it.
    """
    if name == "all":
        return known
    if name not in known:
        raise InputError(f"no results of student {name!r}; there are some of {', '.join(known)}, and student=all")
    return [name]


def _printed_only(metric: Metric, students: list[str], prints: published.Published, *, required: bool) -> list[Result]:
    names = [*students, published.AVERAGE] if len(students) > 1 else students
    found = [result for name in names for result in not_recomputable(name, metric, prints)]
    if required and not found:
        raise InputError(f"no scores of {metric.name} for student {students[0]!r}, printed or measured")
    return found


if __name__ == "__main__":
    main()
