"""The correlation stage's tables, figures and record."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table as Grid

from experiments.app import result_folder
from experiments.app.entry import command_line
from experiments.app.shared_configs import CorrelationConfig
from experiments.paper.metric_table import NO_INPUTS, Print, Result, Table
from experiments.paper.published import AVERAGE
from rsr.errors import printable
from rsr.metrics.token import rsr
from rsr.stats.correlation import minimum_detectable_correlation
from rsr.stats.effect import interval_text
from rsr.store.artefacts import write_text, writing
from rsr.store.csv import write_csv
from rsr.views.plots import Estimate, Panel, forest, scatter

SIGNS = {"equal": "=", "attainable": "~", "not attainable": "x", "undecided": "?", NO_INPUTS: "-"}
LEGEND = (
    "Printed coefficients are absolute values, with the verdict on each: = the printed inputs, as they stand, give it; "
    "~ only other inputs that round to the print do; x no inputs that round to the print do; - inputs not printed."
)
MAX_PANELS = 4  # of one figure with named points


def show(results: Sequence[Result], warnings: Sequence[str], folder: Path) -> None:
    """Print the tables, the cells that are not attainable, the diagnosis and where the files are."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    for title, header, rows in grids(results, brief=True):
        grid = Grid(*header, title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for row in rows:
            grid.add_row(*row)
        console.print(grid, "", soft_wrap=True)
    for line in [LEGEND, *_summary(results)]:
        console.print(line, markup=False, soft_wrap=True)
    console.print("\nDiagnosis", style="bold")
    for warning in warnings or ["nothing conspicuous"]:
        console.print(f"- {warning}", markup=False, soft_wrap=True)
    console.print(printable(f"\nWritten to {folder}"), markup=False, soft_wrap=True)


def write(
    folder: Path,
    config: CorrelationConfig,
    results: Sequence[Result],
    tables: Sequence[Table],
    warnings: Sequence[str],
) -> None:
    """Write table.csv, table.md, figures and run.json."""
    records = pl.DataFrame([record(r, p) for r in results for p in r.prints or (None,)], infer_schema_length=None)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(records, folder / "table.csv", digits=6)
        write_text(folder / "table.md", result_folder.inert(_markdown(results, warnings)))
        draw(folder, results, tables)
        result_folder.write_record(
            folder,
            source=config.source.value,
            bootstrap={"resamples": config.bootstrap.resamples, "seed": config.bootstrap.seed},
            teachers=len(config.teachers.teachers),
            verdicts=dict(Counter(p.verdict for r in results for p in r.prints)),
        )


def record(r: Result, p: Print | None) -> dict[str, str | float | None]:
    c, a = r.correlation, r.attainable
    return {
        "student": r.student,
        "metric": r.metric.name,
        "preset": r.preset,
        "direction": r.metric.direction,
        "coefficient": r.coefficient,
        "n": c.n if c else None,
        "value": c.value if c else None,
        "low": c.low if c else None,
        "high": c.high if c else None,
        "p_value": c.p_value if c else None,
        "attainable_low": a.low if a else None,
        "attainable_high": a.high if a else None,
        "attainable_slack": a.slack if a else None,
        "printed": p.value if p else None,
        "table": p.table if p else None,
        "verdict": p.verdict if p else None,
    }


# --- tables, shared by terminal and Markdown -----------------------------------------------------------------------

GridText = tuple[str, list[str], list[list[str]]]  # title, header, rows


def grids(results: Sequence[Result], *, brief: bool = False) -> list[GridText]:
    students = list(dict.fromkeys(r.student for r in results))
    if len(students) == 1:
        return [_of_student(students[0], results, brief)]
    tables = sorted({p.table for r in results for p in r.prints}, key=int)
    return [_as_printed(table, students, results) for table in tables]


def _of_student(student: str, results: Sequence[Result], brief: bool) -> GridText:
    """One line per metric, the strongest first."""
    metrics: dict[str, dict[str, Result]] = {}
    for r in results:
        metrics.setdefault(r.label, {})[r.coefficient] = r
    n = next((r.correlation.n for r in results if r.correlation), 0)
    if brief:
        header = ["metric", "Spearman [95 %]", "p", "printed", "Pearson", "Kendall"]
        rows = [
            [_name(c["spearman"]), *_estimate_text(c["spearman"]), _printed(c["spearman"]), _value(c.get("pearson"))]
            + [_value(c.get("kendall"))]
            for c in sorted(metrics.values(), key=_strength)
        ]
    else:
        header = ["metric", "Spearman [95 %]", "p", "printed", "Pearson [95 %]", "p", "printed", "Kendall [95 %]", "p"]
        rows = [
            [_name(next(iter(c.values())))]
            + [*_estimate_text(c.get("spearman")), _printed(c.get("spearman"))]
            + [*_estimate_text(c.get("pearson")), _printed(c.get("pearson")), *_estimate_text(c.get("kendall"))]
            for c in sorted(metrics.values(), key=_strength)
        ]
    return f"{student}, n = {n} teachers (arrow: better scores are lower or higher)", header, rows


def _as_printed(table: str, students: Sequence[str], results: Sequence[Result]) -> GridText:
    """The cells of one of the paper's tables: recomputed, printed, verdict."""
    lines: dict[tuple[str, str], dict[str, Result]] = {}
    for r in results:
        if any(p.table == table for p in r.prints):
            lines.setdefault((_name(r), r.coefficient), {})[r.student] = r
    shown = [s for s in students if any(s in cells for cells in lines.values())]
    rows = [
        [name, coefficient, *(_cell(cells.get(s), table) for s in shown)]
        for (name, coefficient), cells in sorted(lines.items(), key=lambda line: _strength(line[1]))
    ]
    return f"Table {table}", ["metric", "coefficient", *shown], rows


def _strength(cells: dict[str, Result]) -> tuple[int, float]:
    """For sorting: those printed only come last; an average counts before a student, Spearman before the others."""
    r = cells.get(AVERAGE) or cells.get("spearman") or next(iter(cells.values()))
    return (0, -abs(r.correlation.value)) if r.correlation else (1, 0.0)


def _name(r: Result) -> str:
    return f"{r.label} {'↓' if r.metric.direction == 'lower' else '↑'}"


def _estimate_text(r: Result | None) -> list[str]:
    if r is None or r.correlation is None:
        return ["", ""]
    c = r.correlation
    return [f"{c.value:+.3f} {interval_text(c.low, c.high)}", f"{c.p_value:.4f}"]


def _value(r: Result | None) -> str:
    return f"{r.correlation.value:+.3f}" if r and r.correlation else ""


def _cell(r: Result | None, table: str) -> str:
    return " ".join(filter(None, [_value(r), _printed(r, table)]))


def _printed(r: Result | None, table: str = "") -> str:
    prints = [p for p in r.prints if table in ("", p.table)] if r else []
    number = "" if table else " ({})"
    return ", ".join(f"{p.value.removeprefix('0')}{number.format(p.table)} {SIGNS[p.verdict]}" for p in prints)


def _summary(results: Sequence[Result]) -> list[str]:
    """What n can show, counts of verdicts per table, and every cell that is not attainable."""
    n = next((r.correlation.n for r in results if r.correlation), 0)
    counts: dict[str, Counter[str]] = {}
    for r in results:
        for p in r.prints:
            counts.setdefault(p.table, Counter())[p.verdict] += 1
    lines = [
        f"Table {table}: {sum(count.values())} cells: " + ", ".join(f"{n} {verdict}" for verdict, n in count.items())
        for table, count in sorted(counts.items(), key=lambda item: int(item[0]))
    ]
    if n > 3:
        lines.insert(
            0,
            f"With n = {n} a Spearman must reach {minimum_detectable_correlation(n):.2f} in absolute value to be told from 0 (two-sided 5 %, "
            "power 80 %).",
        )
    for r in results:
        for p in r.prints:
            if p.verdict in ("not attainable", "undecided") and r.attainable and r.correlation:
                slack = f" (give or take {r.attainable.slack:.1g})" if r.attainable.slack else ""
                lines.append(
                    f"{p.verdict}: {r.coefficient} of {r.label} for {r.student}, printed {p.value} in Table {p.table}; "
                    f"recomputed {r.correlation.value:+.4f}, attainable {r.attainable.low:+.4f} to "
                    f"{r.attainable.high:+.4f}{slack}"
                )
    return lines


def _markdown(results: Sequence[Result], warnings: Sequence[str]) -> str:
    parts = ["# Correlation of scores with accuracy after training"]
    for title, header, rows in grids(results):
        parts += [f"## {title}", result_folder.markdown_table(header, rows)]
    parts += [
        LEGEND,
        result_folder.markdown_list(_summary(results)),
        "## Diagnosis",
        result_folder.markdown_list(warnings or ["nothing conspicuous"]),
        f"Made by `{command_line()}`; commit and versions are in run.json, all digits in table.csv.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


# --- figures -------------------------------------------------------------------------------------------------------


def draw(folder: Path, results: Sequence[Result], tables: Sequence[Table]) -> None:
    spearman = {
        (r.student, r.metric.name, r.preset): r for r in results if r.coefficient == "spearman" and r.correlation
    }
    shown = [t for t in tables if t.metric is rsr and not t.preset] if len(tables) > MAX_PANELS else tables
    panels = [
        _panel(part, spearman[part.student, part.metric.name, part.preset])
        for table in shown
        for part in table.by_student_and_average()
        if len(part.students) == 1
    ]
    if panels:
        scatter(panels, folder / "scatter.png")
    last = AVERAGE if any(key[0] == AVERAGE for key in spearman) else next(iter(spearman), ("", "", ""))[0]
    estimates = [_estimate(r) for (student, _, _), r in spearman.items() if student == last]
    if len(estimates) > 1:
        n = next(r.correlation.n for r in spearman.values() if r.correlation)
        forest(
            estimates,
            f"{last}: Spearman with accuracy after training, 95 % interval over {n} teachers",
            "Spearman, sign turned so that right is better",
            folder / "coefficients.png",
        )


def _panel(table: Table, r: Result) -> Panel:
    assert r.correlation
    c = r.correlation
    unit = f" ({table.metric.unit})" if table.metric.unit else ""
    return Panel(
        title=f"{table.student}: {r.label}, Spearman {c.text()}, n = {c.n}",
        x_label=f"{r.label}{unit}, {table.metric.direction} is better",
        y_label="accuracy after training (%)",
        names=table.teachers,
        x=table.scores[0],
        y=table.accuracy[0],
    )


def _estimate(r: Result) -> Estimate:
    assert r.correlation
    sign = r.metric.expected_sign
    low, high = sorted((sign * r.correlation.low, sign * r.correlation.high))
    value = sign * r.correlation.value
    # The sign of a printed absolute value is not known: it is drawn on the side of the recomputed one.
    printed = float(r.prints[0].value) * (1 if value >= 0 else -1) if r.prints else None
    return Estimate(r.label, value, low, high, printed)
