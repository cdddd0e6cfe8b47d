"""Ablations as Markdown: those that follow from the paper's published numbers, and those that are measured."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from experiments.app import result_folder
from experiments.app.command_configs import AblationConfig
from experiments.app.entry import command_line
from experiments.paper.metric_table import Aggregates, Result, compare
from experiments.paper.published import AVERAGE, Published
from rsr.metrics import METRICS, select
from rsr.stats.correlation import correlate
from rsr.stats.effect import interval_text
from rsr.tokens.token_store import TokenStore


def published_report(prints: Published, config: AblationConfig) -> str:
    aggregates = Aggregates(prints.scores(), prints.performance())
    students = prints.students(config.student.name)
    teachers = [teacher.name for teacher in config.teachers.teachers]
    results = [
        result
        for metric in select(["rsr", "avg_rsr_token", "avg_rsr_token_filtered", "avg_rank_clipped"])
        for table in aggregates.tables(metric, students, teachers)
        for result in compare(table, prints, config.bootstrap)
        if result.coefficient == "spearman"
    ]
    rows = [_printed_row(r) for r in results]
    rows.append(_unclipped(aggregates, prints, students, teachers))
    name = AVERAGE if len(students) > 1 else students[0]
    parts = [
        f"# Ablations that follow from the published numbers, {name}",
        result_folder.markdown_table(["variant", "Spearman [95 %]", "printed (Tables 5 and 14)", "verdict"], rows),
        "No clipping: mean rank over mean surprisal per teacher, which stands for the mean over three datasets only about, "
        "so that it has no verdict. Other variants need token statistics that are not printed.",
        f"Made by `{command_line()}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _printed_row(r: Result) -> list[str]:
    assert r.correlation
    c = r.correlation
    shown = [p for p in r.prints if p.table in ("5", "14")]
    return [
        r.label,
        f"{c.value:+.3f} {interval_text(c.low, c.high)}",
        ", ".join(p.value for p in shown),
        ", ".join(p.verdict for p in shown),
    ]


def _unclipped(
    aggregates: Aggregates, prints: Published, students: Sequence[str], teachers: Sequence[str]
) -> list[str]:
    (rank,), (surprisal,) = (aggregates.tables(METRICS[n], students, teachers) for n in ("avg_rank", "avg_surprisal"))
    value = float(correlate(np.divide(rank.scores, surprisal.scores), rank.accuracy, "spearman").mean())
    printed = prints.printed(AVERAGE, "rsr", "no clipping", "spearman") if len(students) > 1 else []
    return ["RSR (no clipping), about", f"{value:+.3f}", ", ".join(p.value for p in printed), ""]


def measured_report(table: pl.DataFrame, stores: Sequence[TokenStore]) -> str:
    rows = [[r["group"], r["variant"], f"{r['agreement']:+.3f}"] for r in table.iter_rows(named=True)]
    scoring = stores[0].artefact.key["student"]["dtype"]
    parts = [
        f"# Ablations measured, {stores[0].student} ({scoring})",
        f"Spearman between the order of {len(stores)} datasets under a variant and under RSR; their scores are in table.csv. "
        "There are no accuracies after training to correlate with yet.",
        result_folder.markdown_table(["group", "variant", "agreement with RSR's order"], rows),
        f"Made by `{command_line()}`.",
    ]
    return "\n\n".join(parts) + "\n"
