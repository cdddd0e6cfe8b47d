"""Robustness of the correlations as Markdown."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from experiments.app import result_folder
from experiments.app.entry import command_line
from rsr.stats.correlation import minimum_detectable_correlation
from rsr.stats.effect import estimate_text


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
