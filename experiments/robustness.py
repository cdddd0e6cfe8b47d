"""How much does RSR's correlation depend on a teacher, on length, on chance, and does it beat the baselines?

    python experiments/robustness.py student=all
    python experiments/robustness.py student=qwen3b

Per metric: Kendall's tau-b, pairs of teachers ordered rightly, accuracy lost by its first (and first two) choices, range
when one teacher is left out, correlation given log length; and RSR against each baseline, paired. Writes
results/robustness/<student>/.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from experiments.app import result_folder
from experiments.app.command_configs import RobustnessConfig
from experiments.app.entry import command_line, entry
from experiments.paper import published
from experiments.paper.metric_table import Aggregates, Table
from rsr.metrics import select
from rsr.metrics.token import rsr
from rsr.stats.correlation import correlate, minimum_detectable_correlation
from rsr.stats.effect import estimate_text
from rsr.stats.paired import difference, leave_one_out, pairwise_accuracy, partial_spearman, regret


@entry("robustness", RobustnessConfig)
def main(config: RobustnessConfig) -> None:
    prints = published.read(config.paths.published)
    aggregates = Aggregates(prints.scores(), prints.performance())
    students = prints.students(config.student.name)
    teachers = [teacher.name for teacher in config.teachers.teachers]
    tables = [t for metric in select(["all"]) for t in aggregates.tables(metric, students, teachers)]
    rows = pl.DataFrame([_row(table, tables, config) for table in tables]).sort("spearman", descending=True)
    text = report(rows, students, len(teachers))
    folder = config.paths.results / "robustness" / config.student.name
    result_folder.publish(folder, text, {"table.csv": rows})


def _oriented(table: Table) -> np.ndarray:
    return table.metric.expected_sign * np.array(table.scores)


def _row(table: Table, tables: Sequence[Table], config: RobustnessConfig) -> dict[str, object]:
    """Statistics of one metric, means over students."""
    x, y = _oriented(table), np.array(table.accuracy)
    base = next(t for t in tables if t.metric is rsr and not t.preset)
    length = next(np.log(t.scores) for t in tables if t.metric.name == "avg_token_length")
    left_out = [leave_one_out(a, b) for a, b in zip(x, y, strict=True)]
    paired = difference(_oriented(base), x, y, resamples=config.bootstrap.resamples)
    same = table is base
    return {
        "metric": f"{table.metric.title} ({table.preset})" if table.preset else table.metric.title,
        "spearman": float(correlate(x, y, "spearman").mean()),
        "kendall": float(correlate(x, y, "kendall").mean()),
        "pairs_right": np.mean([pairwise_accuracy(a, b) for a, b in zip(x, y, strict=True)]),
        "regret_1": np.mean([regret(a, b, 1) for a, b in zip(x, y, strict=True)]),
        "regret_2": np.mean([regret(a, b, 2) for a, b in zip(x, y, strict=True)]),
        "left_out_low": np.mean([low for low, _ in left_out]),
        "left_out_high": np.mean([high for _, high in left_out]),
        "given_log_length": None
        if table.metric.name == "avg_token_length"
        else np.mean([partial_spearman(a, b, c) for a, b, c in zip(x, y, length, strict=True)]),
        "rsr_less_this": None if same else paired.value,
        "difference_low": None if same else paired.low,
        "difference_high": None if same else paired.high,
        "p_dependent": None if same or len(x) > 1 else paired.p_value,
    }


def report(rows: pl.DataFrame, students: Sequence[str], n: int) -> str:
    """The statistics as Markdown."""
    baselines = rows.filter(pl.col("rsr_less_this").is_not_null())
    above = baselines.filter(pl.col("difference_low") > 0)
    header = ["metric", "Spearman", "Kendall", "pairs right", "regret 1", "regret 2", "one teacher left out"]
    header += ["given log length", "RSR less this [95 %]", *(["p"] if len(students) == 1 else [])]
    parts = [
        f"# Robustness, {', '.join(students)}",
        "Signs are turned so that larger is better. Means over students. Regret: accuracy points lost against the best "
        "teacher by its first choice (the better of its first two).",
        result_folder.markdown_table(header, [_cells(row, len(students) == 1) for row in rows.iter_rows(named=True)]),
        result_folder.markdown_list(
            [
                f"With {n} teachers, one student's Spearman must reach {minimum_detectable_correlation(n):.2f} in absolute value to be told "
                "from 0 (two-sided, 5 %, in 80 % of such studies).",
                f"The 95 % interval of the difference excludes 0 for {len(above)} of {len(baselines)} metrics"
                + (f": {', '.join(above['metric'])}." if len(above) else "."),
                f"These are {len(baselines)} comparisons, not corrected for their number; at 5 % about "
                f"{0.05 * len(baselines):.1f} would exclude 0 by chance. Metrics share teachers and accuracies.",
            ]
        ),
        f"Made by `{command_line()}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _cells(row: dict[str, Any], single: bool) -> list[str]:
    def number(name: str, form: str = "+.2f") -> str:
        value = row[name]
        return "" if value is None else f"{value:{form}}"

    paired = [row[name] for name in ("rsr_less_this", "difference_low", "difference_high")]
    return [
        str(row["metric"]),
        *(number(name) for name in ("spearman", "kendall")),
        number("pairs_right", ".0%"),
        *(number(name, ".1f") for name in ("regret_1", "regret_2")),
        f"{number('left_out_low')} to {number('left_out_high')}",
        number("given_log_length"),
        "" if None in paired else estimate_text(*paired),
        *([number("p_dependent", ".3f")] if single else []),
    ]


if __name__ == "__main__":
    main()
