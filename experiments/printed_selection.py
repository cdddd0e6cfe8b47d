"""Trajectory selection as the paper prints it (Tables 6, 11, 15-24), and what follows from these prints."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from experiments import output
from experiments.published import AVERAGE, Published, read_cells
from rsr import effects
from rsr.agreement import correlation
from rsr.effects import Effect
from rsr.errors import InputError

MATHS = "math_average"
MAIN, VARIANTS, FEWER = "33-to-1", "variants", "7 teachers"
RSR = "rsr_min"
# The benchmark of science questions beside the four of mathematics.
BENCHMARKS = {MATHS: "mean of the four mathematics benchmarks", "gpqa_diamond": "GPQA-Diamond"}


def cells(folder: Path, students: Sequence[str]) -> pl.DataFrame:
    """Accuracies of the students: student, setting, method, benchmark, accuracy (percent); of several prints the first.

    Raises:
        InputError: see `published.read_cells`; or there are none of these students.
    """
    rows = read_cells(
        folder / "trajectory_selection.csv", ["student", "setting", "method", "benchmark"], "accuracy"
    )
    table = pl.DataFrame(rows).with_columns(pl.col("accuracy").cast(pl.Float64))
    key = ["student", "setting", "method", "benchmark"]
    table = table.unique(key, keep="first", maintain_order=True).filter(pl.col("student").is_in([*students]))
    if table.is_empty():
        raise InputError(f"no printed selection for {', '.join(students)}")
    return table.select(*key, "accuracy")


def by_method(table: pl.DataFrame, setting: str, benchmark: str, students: Sequence[str]) -> dict[str, list[float]]:
    """Accuracies by method in the order of students, of methods that are printed for all of these."""
    of = table.filter(setting=setting, benchmark=benchmark)
    found = {
        method: dict(rows.select("student", "accuracy").iter_rows())
        for (method,), rows in of.group_by("method", maintain_order=True)
    }
    return {str(method): [a[s] for s in students] for method, a in found.items() if set(students) <= set(a)}


def differences(accuracies: dict[str, list[float]], reference: str = RSR) -> pl.DataFrame:
    """The reference less each other method: mean over students with interval, wins, and regret of the method."""
    best = np.max(list(accuracies.values()), axis=0)
    rows = []
    for method, values in accuracies.items():
        gap = np.subtract(accuracies[reference], values)
        effect = effects.mean(gap)
        rows.append(
            {
                "method": method,
                "accuracy": float(np.mean(values)),
                **{f"rsr_less_it{'' if k == 'value' else '_' + k}": v for k, v in vars(effect).items()},
                "rsr_wins": int((gap > 0).sum()),
                "students": len(values),
                "regret": float(np.mean(best - values)),
                "best_of": int((np.array(values) == best).sum()),
            }
        )
    return pl.DataFrame(rows)


def against_teachers(
    table: pl.DataFrame, prints: Published, students: Sequence[str]
) -> tuple[pl.DataFrame, Effect]:
    """What RSR selects against the best single teacher of Table 1, which is known only after training on all of them."""
    accuracy = prints.performance()
    rows = []
    for student in students:
        of = accuracy.filter(student=student).sort("accuracy", descending=True)
        chosen = by_method(table, MAIN, MATHS, [student])
        rows.append(
            {
                "student": student,
                "best_teacher": of["teacher"][0],
                "its_accuracy": of["accuracy"][0],
                "mean_of_teachers": float(of["accuracy"].to_numpy().mean()),
                "rsr_selected": chosen[RSR][0],
                "random_selected": chosen["random"][0],
            }
        )
    found = pl.DataFrame(rows)
    return found, effects.mean((found["rsr_selected"] - found["its_accuracy"]).to_numpy())


def composition(folder: Path, prints: Published, students: Sequence[str]) -> pl.DataFrame:
    """Tables 17 and 19: the teacher most selected, and how far the selected shares follow the teachers' own RSR."""
    rows = read_cells(folder / "selected_composition.csv", ["student", "setting", "quantity"], "value")
    shares: dict[tuple[str, str], dict[str, float]] = {}
    for r in rows:
        quantity, _, teacher = r["quantity"].partition(":")
        if quantity == "share_percent" and r["student"] in students:
            shares.setdefault((r["student"], r["setting"]), {})[teacher] = float(r["value"])
    scores = prints.scores().filter(metric="rsr", preset="")
    accuracy = prints.performance()
    found = []
    for (student, setting), share in shares.items():
        score = dict(scores.filter(student=student).select("teacher", "value").iter_rows())
        right = dict(accuracy.filter(student=student).select("teacher", "accuracy").iter_rows())
        values = list(share.values())
        with_score = correlation([-score[t] for t in share], values, "spearman")
        with_accuracy = correlation([right[t] for t in share], values, "spearman")
        first = max(share, key=lambda t: share[t])
        found.append(
            {
                "student": student,
                "setting": setting,
                "teachers": len(share),
                "most_selected": first,
                "its_share": share[first],
                "its_place_by_rsr": sorted(share, key=lambda t: score[t]).index(first) + 1,
                "its_place_by_accuracy": sorted(share, key=lambda t: -right[t]).index(first) + 1,
                "share_and_low_rsr": with_score.value,
                "share_and_low_rsr_low": with_score.low,
                "share_and_low_rsr_high": with_score.high,
                "share_and_accuracy": with_accuracy.value,
                "share_and_accuracy_low": with_accuracy.low,
                "share_and_accuracy_high": with_accuracy.high,
            }
        )
    return pl.DataFrame(found)


def statistics(folder: Path) -> list[list[str]]:
    """Table 11 as printed: length and verified accuracy of what RSR selected, and of the teachers."""
    rows = read_cells(folder / "selected_composition.csv", ["student", "setting", "quantity"], "value")
    of = [r for r in rows if r["table"] == "11"]
    return [[r["student"], r["quantity"].replace("_", " "), r["setting"], r["value"]] for r in of]


# --- shown ---------------------------------------------------------------------------------------------------------


def interval(value: float, low: float, high: float) -> str:
    return f"{value:+.1f}" + ("" if np.isnan(low) else f" [{low:+.1f}, {high:+.1f}]")


def accuracies_markdown(accuracies: dict[str, list[float]], students: Sequence[str]) -> str:
    rows = [[m, *(f"{v:.1f}" for v in of), f"{np.mean(of):.1f}"] for m, of in accuracies.items()]
    return output.markdown_table(["method", *students, AVERAGE], rows)


def differences_markdown(table: pl.DataFrame) -> str:
    rows = [
        [
            r["method"],
            "" if r["method"] == RSR else interval(r["rsr_less_it"], r["rsr_less_it_low"], r["rsr_less_it_high"]),
            "" if r["method"] == RSR else f"{r['rsr_wins']} of {r['students']}",
            f"{r['regret']:.1f}",
            f"{r['best_of']} of {r['students']}",
        ]
        for r in table.sort("accuracy", descending=True).iter_rows(named=True)
    ]
    return output.markdown_table(
        ["method", "RSR less it [95 %]", "RSR is better for", "regret against the best method", "best for"], rows
    )


