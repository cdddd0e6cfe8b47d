"""Every printed number that follows from other print, recomputed and judged.

    python experiments/tables.py

Verdicts: equal (the prints as they stand give it), attainable (other numbers that round to them do), not attainable,
contradicted by another print of the same cell. Rankings of teachers that later work prints are judged likewise. Writes
results/tables/cells.csv, later_cells.csv, table.md and run.json.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import polars as pl

from experiments.app import result_folder
from experiments.app.command_configs import TablesConfig
from experiments.app.entry import command_line, entry
from experiments.paper import consistency, published, teacher_rankings
from experiments.paper.consistency import CONTRADICTED, Check
from experiments.paper.metric_table import NO_INPUTS, Aggregates, Result, compare, not_recomputable
from experiments.paper.published import Published
from rsr.metrics import select

VERDICTS = ("equal", "attainable", "not attainable", CONTRADICTED, "undecided", NO_INPUTS)


@entry("tables", TablesConfig)
def main(config: TablesConfig) -> None:
    prints = published.read(config.paths.published)
    teachers = [teacher.name for teacher in config.teachers.teachers]
    checks = all_checks(config.paths.published, prints, teachers, config)
    later = teacher_rankings.checks(config.paths.published)
    folder = config.paths.results / "tables"
    files = {
        name: pl.DataFrame([asdict(c) for c in judged], infer_schema_length=None)
        for name, judged in (("cells.csv", checks), ("later_cells.csv", later))
    }
    verdicts, of_later = (dict(Counter(c.verdict for c in judged)) for judged in (checks, later))
    facts = {"cells": len(checks), "verdicts": verdicts, "later_cells": len(later), "later_verdicts": of_later}
    result_folder.publish(folder, summary(checks, later), files, **facts)


def all_checks(folder: Path, prints: Published, teachers: Sequence[str], config: TablesConfig) -> list[Check]:
    """The checks of every table, ordered by table."""
    checks = [
        *consistency.repeated_cells(prints),
        *consistency.coefficients(_coefficients(prints, teachers, config)),
        *consistency.selection_averages(folder),
        *consistency.composition(folder, prints),
        *consistency.gpu_hours(folder),
        *consistency.teacher_choices(folder, prints),
    ]
    return sorted(checks, key=lambda c: int(c.table))


def _coefficients(prints: Published, teachers: Sequence[str], config: TablesConfig) -> Iterator[Result]:
    """Every coefficient of Tables 4, 5, 13 and 14."""
    aggregates = Aggregates(prints.scores(), prints.performance())
    students = prints.students()
    for metric in select(["all"]):
        tables = aggregates.tables(metric, students, teachers)
        for table in tables:
            for part in table.by_student_and_average():
                yield from compare(part, prints, config.bootstrap)
        scored = {table.preset for table in tables}
        for preset in metric.presets:
            for name in (*students, published.AVERAGE) if preset not in scored else ():
                yield from not_recomputable(name, metric, prints, preset)


def summary(checks: Sequence[Check], later: Sequence[Check]) -> str:
    """Counts per table, the cells that cannot be, and what is not recomputed.

    Args:
        later: of later work.
    """
    parts = [
        "# Printed numbers that follow from other print",
        *_verdicts(checks),
        "## Not recomputed, and why",
        result_folder.markdown_list(
            f"Table {table}: {reason}" for table, reason in consistency.NOT_RECOMPUTABLE.items()
        ),
        "## Later work",
        "Two copies of teacher-ranking-proxy rank the teachers of agents; docs/after_the_paper.md names what was read.",
        *_verdicts(later),
        f"Made by `{command_line()}`; every cell is in cells.csv and later_cells.csv.",
    ]
    return "\n\n".join(parts) + "\n"


def _verdicts(checks: Sequence[Check]) -> Iterator[str]:
    """How many cells of each table got each verdict, and the cells that cannot be."""
    counts: dict[str, Counter[str]] = {}
    for c in checks:
        counts.setdefault(c.table, Counter())[c.verdict] += 1
    used = [v for v in VERDICTS if any(v in count for count in counts.values())]
    total: Counter[str] = sum(counts.values(), Counter())
    rows = [[table, *(str(count[v] or "") for v in used), str(count.total())] for table, count in counts.items()]
    rows.append(["**all**", *(str(total[v]) for v in used), str(total.total())])
    yield result_folder.markdown_table(["table", *used, "cells"], rows)
    for verdict in ("not attainable", CONTRADICTED, "undecided"):
        cells = [c for c in checks if c.verdict == verdict]
        if cells:
            yield f"## {verdict.capitalize()}"
            yield result_folder.markdown_list(_line(c) for c in cells)


def _line(c: Check) -> str:
    if c.verdict == CONTRADICTED:
        return f"Table {c.table}, {c.cell}: printed {c.printed}; {c.basis}"
    return (
        f"Table {c.table}, {c.cell}: printed {c.printed}; from {c.basis}: {c.value:.6g}, attainable {c.low:.6g} to "
        f"{c.high:.6g}"
    )


if __name__ == "__main__":
    main()
