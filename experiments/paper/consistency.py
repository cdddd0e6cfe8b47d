"""Printed numbers that follow from other printed numbers, recomputed and judged cell by cell.

Each check knows the interval of values that unrounded inputs could give, and so says whether a print is attainable; a
cell that another table prints as well is compared with that print.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import polars as pl

from experiments.paper.metric_table import NO_INPUTS, Result
from experiments.paper.published import ACCURACY, AVERAGE, PRIMARY, Published, read_cells
from rsr.metrics import METRICS
from rsr.stats.attainable import FLOAT_SLACK, Cell, Interval, cell, rounding_interval, weak_orders

CONTRADICTED = "contradicted by another print"
BENCHMARKS = ("aime24", "aime25", "amc23", "math500")
CANDIDATES = (
    "deepseek-r1",
    "qwen3-235b-thinking",
    "nemotron-super-49b",
    "qwen3-30b-thinking",
    "magistral-small",
    "gpt-oss-20b",
)


@dataclass(frozen=True)
class Check:
    """A printed cell and what other print says of it.

    Attributes:
        table: that prints the cell.
        cell: which one.
        printed: its digits.
        basis: what it was recomputed from.
        value: recomputed from the prints as they stand; None where no number follows.
        low, high: what unrounded inputs could give.
        verdict: equal, attainable, not attainable, undecided, or contradicted by another print.
    """

    table: str
    cell: str
    printed: str
    basis: str
    value: float | None
    low: float | None
    high: float | None
    verdict: str


def judged(
    table: str,
    name: str,
    printed: str,
    basis: str,
    value: float,
    intervals: Iterable[Interval],
    *,
    repeat: bool = False,
) -> Check:
    """Judge a print against intervals of attainable values (contiguous sets, ends included).

    Args:
        repeat: the basis is another print of the same cell, so that disagreement is a contradiction.
    """
    spans = list(intervals)
    low, high = rounding_interval(printed)
    if low - FLOAT_SLACK <= value <= high + FLOAT_SLACK:
        verdict = "equal"
    elif any(a <= high + FLOAT_SLACK and b >= low - FLOAT_SLACK for a, b in spans):
        verdict = "attainable"
    else:
        verdict = CONTRADICTED if repeat else "not attainable"
    return Check(table, name, printed, basis, value, min(a for a, _ in spans), max(b for _, b in spans), verdict)


def means(cells: Sequence[Cell]) -> list[Interval]:
    """Intervals of the mean of numbers, one per choice among contradicting prints."""
    return [
        (sum(a for a, _ in choice) / len(choice), sum(b for _, b in choice) / len(choice)) for choice in product(*cells)
    ]


def repeated_cells(published: Published) -> Iterator[Check]:
    """Scores and accuracies that another table prints again: accuracies in 2, 7 and 25-29, scores in 2, and those that
    depend on the teacher alone for every student after the first (26-29).
    """
    prints = published.prints.filter(pl.col("table") != "")
    prints = prints.filter(pl.col("preset") != "fixed student")
    for (student, teacher, metric, preset), rows in prints.group_by(
        ["student", "teacher", "metric", "preset"], maintain_order=True
    ):
        ordered = rows.sort(pl.col("table").is_in(PRIMARY), descending=True, maintain_order=True)
        yield from _repeats(ordered, f"{metric} {preset}".strip(), f"{student}, {teacher}")
    shared = [name for name, metric in METRICS.items() if not metric.per_student]
    rows = prints.filter(pl.col("metric").is_in(shared) & pl.col("table").is_in(PRIMARY))
    for (metric, teacher), group in rows.group_by(["metric", "teacher"], maintain_order=True):
        yield from _repeats(group, str(metric), str(teacher))


def _repeats(rows: pl.DataFrame, what: str, where: str) -> Iterator[Check]:
    """Every row after the first, against the first."""
    first, *others = rows.iter_rows(named=True)
    for again in others:
        scale = float(first["scale"]) / float(again["scale"])
        yield judged(
            again["table"],
            f"{what}, {where}",
            again["printed"],
            f"Table {first['table']} prints {first['printed']}",
            float(first["printed"]) * scale,
            [rounding_interval(first["printed"], scale)],
            repeat=True,
        )


def coefficients(results: Iterable[Result]) -> Iterator[Check]:
    """Tables 4, 5, 13 and 14: the verdicts of the correlation stage."""
    for r in results:
        for p in r.prints:
            name = f"{r.label}, {r.student}" + ("" if r.coefficient == "spearman" else f", {r.coefficient}")
            basis = NO_INPUTS if r.correlation is None else "printed scores and accuracies"
            value = None if r.correlation is None else abs(r.correlation.value)
            low, high = (None, None) if r.attainable is None else _absolute(r.attainable.low, r.attainable.high)
            yield Check(p.table, name, p.value, basis, value, low, high, p.verdict)


def _absolute(low: float, high: float) -> Interval:
    """The absolute values of an interval."""
    ends = sorted((abs(low), abs(high)))
    return (0.0 if low < 0 < high else ends[0]), ends[1]


def selection_averages(folder: Path) -> Iterator[Check]:
    """Tables 20-24: the mean over four benchmarks; 6, 15 and 16: averages over students and cells printed before."""
    rows = read_cells(folder / "trajectory_selection.csv", ["student", "setting", "method", "benchmark"], "accuracy")
    cells: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for r in rows:
        cells.setdefault((r["student"], r["setting"], r["method"], r["benchmark"]), []).append(
            (r["table"], r["accuracy"])
        )

    def parts(keys: Iterable[tuple[str, ...]]) -> list[Cell] | None:
        prints_by_key = [cells.get(key) for key in keys]
        return (
            None
            if None in prints_by_key
            else [cell([rounding_interval(p) for _, p in prints]) for prints in prints_by_key if prints]
        )

    for (student, setting, method, benchmark), prints in cells.items():
        where = f"{student}, {method}, {benchmark}"
        (table, first), *others = sorted(prints, key=lambda p: -int(p[0]))
        for other, printed in others:
            yield judged(
                other,
                where,
                printed,
                f"Table {table} prints {first}",
                float(first),
                [rounding_interval(first)],
                repeat=True,
            )
        if benchmark == "math_average":
            four = parts((student, setting, method, b) for b in BENCHMARKS)
            values = [float(cells[student, setting, method, b][0][1]) for b in BENCHMARKS] if four else []
            if four:
                yield judged(table, where, first, "mean over the four benchmarks", sum(values) / 4, means(four))
        if student == AVERAGE:
            students = [k for k in cells if k[1:] == (setting, method, benchmark) and k[0] != AVERAGE]
            inputs = parts(students) or []
            value = sum(float(cells[k][0][1]) for k in students) / len(students)
            yield judged(table, where, first, f"mean over {len(students)} students", value, means(inputs))


def composition(folder: Path, published: Published) -> Iterator[Check]:
    """Tables 17 and 19: shares add up to 100 %; 11: mean, largest and smallest over the teachers of Table 25."""
    rows = read_cells(folder / "selected_composition.csv", ["student", "setting", "quantity"], "value")
    shares: dict[tuple[str, str, str], list[str]] = {}
    for r in rows:
        if r["quantity"].startswith("share_percent"):
            shares.setdefault((r["table"], r["student"], r["setting"]), []).append(r["value"])
    for (table, student, setting), printed in shares.items():
        intervals = [rounding_interval(p) for p in printed]
        total = (sum(a for a, _ in intervals), sum(b for _, b in intervals))
        name = f"shares of {len(printed)} teachers, {student}, {setting}"
        yield judged(table, name, "100.0", "sum of the shares", sum(map(float, printed)), [total])
    for r in rows:
        if r["table"] == "11" and r["setting"] != "RSR selected":
            metric, scale = (
                ("avg_token_length", 1) if r["quantity"] == "avg_token_length" else ("verified_accuracy", 100)
            )
            cells = [c[0] for c in published.column(r["student"], metric).values()]
            scaled = [(a * scale, b * scale) for a, b in cells]
            kind = r["setting"].split()[0]
            low, value, high = (
                _summary(kind, [f(c) for c in scaled]) for f in (lambda c: c[0], lambda c: sum(c) / 2, lambda c: c[1])
            )
            yield judged("11", f"{metric}, {r['setting']}", r["value"], "Table 27", value, [(low, high)])


def _summary(kind: str, values: Sequence[float]) -> float:
    return {"mean": sum(values) / len(values), "max": max(values), "min": min(values)}[kind]


def gpu_hours(folder: Path) -> Iterator[Check]:
    """Table 10: GPU-hours are GPUs times hours."""
    rows = read_cells(folder / "cost.csv", ["metric", "quantity"], "value")
    cells = {(r["metric"], r["quantity"]): r["value"] for r in rows}
    for metric in dict.fromkeys(m for m, _ in cells):
        gpus, hours = float(cells[metric, "gpus"]), cells[metric, "hours"]
        low, high = rounding_interval(hours)
        printed = cells[metric, "gpu_hours"]
        yield judged(
            "10", f"GPU-hours, {metric}", printed, "GPUs times hours", gpus * float(hours), [(gpus * low, gpus * high)]
        )


def teacher_choices(folder: Path, published: Published) -> Iterator[Check]:
    """Table 7: the accuracy of the teacher that the printed scores choose first or second, and the averages.

    RSR chooses by the printed scores of 200 samples; of the other metrics only scores of all samples are printed.
    """
    rows = read_cells(folder / "teacher_selection.csv", ["method", "student", "choice"], "accuracy")
    by_method: dict[str, list[dict[str, str]]] = {}
    for r in rows:
        by_method.setdefault(r["method"], []).append(r)
    for method, cells in by_method.items():
        for r in cells:
            if r["choice"] == "mean":
                printed = [c["accuracy"] for c in cells if c["choice"] != "mean"]
                value = sum(map(float, printed)) / len(printed)
                inputs = [cell([rounding_interval(p)]) for p in printed]
                yield judged("7", f"{method}, average", r["accuracy"], "mean of the row", value, means(inputs))
            else:
                yield _choice(published, method, r)


def _choice(published: Published, method: str, r: dict[str, str]) -> Check:
    accuracy = published.column(r["student"], ACCURACY)
    place = 0 if r["choice"] == "top1" else 1
    if method == "oracle":
        scores, descending, basis = accuracy, True, "accuracies of Table 1"
    else:
        name, direction = method.rsplit("_", 1)
        name = "avg_token_length" if name == "token_length" else name
        preset = "200 samples" if name == "rsr" else ""
        scores, descending = published.column(r["student"], name, preset), direction == "max"
        basis = "RSR of 200 samples" if preset else "scores of all samples (those of 200 are not printed)"
    chosen = _may_be_chosen([scores[t] for t in CANDIDATES], place, descending)
    intervals = [interval for teacher in chosen for interval in accuracy[teacher]]
    first = accuracy[chosen[0]][0]
    name = f"{method}, {r['student']}, {r['choice']} ({' or '.join(chosen)})"
    return judged("7", name, r["accuracy"], basis, sum(first) / 2, intervals)


def _may_be_chosen(scores: Sequence[Cell], place: int, descending: bool) -> list[str]:
    """The candidates that some unrounded scores put in a place; equal ones may stand in either order."""
    orders = weak_orders(scores)
    better = orders[:, None, :] > orders[:, :, None] if descending else orders[:, None, :] < orders[:, :, None]
    ahead, equal = better.sum(-1), (orders[:, None, :] == orders[:, :, None]).sum(-1)
    possible = ((ahead <= place) & (place < ahead + equal)).any(axis=0)
    return [t for t, may in zip(CANDIDATES, possible, strict=True) if may]


NOT_RECOMPUTABLE = {
    "3": "samples of a simulation whose token orders and third distribution are not given: see simulation.py",
    "4, mean local surprisal": "its scores are printed for six teachers of one student only (Table 2)",
    "5, r_max 50 and 500": "need clipped ranks of tokens, which are not printed",
    "5, no clipping": "follows from mean rank and mean surprisal only up to the mean over three datasets: see ablation.py",
    "8, 9": "descriptions of teachers and settings: nothing follows from other print",
    "12": "coloured tokens of trajectories, not among the numbers",
    "14, entropy and weighting variants": "need token statistics, which are not printed",
    "17, RSR and length of the selection; 18": "need the selected trajectories",
    "19": "shares are checked for their sum only",
}
