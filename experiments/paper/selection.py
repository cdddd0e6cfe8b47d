"""Trajectory selection as the paper prints it (Tables 6, 11, 15-24): what follows from these prints."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from experiments.app.conclusions import Conclusion
from experiments.paper.published import Published, read_cells
from rsr.stats.correlation import correlation
from rsr.stats.effect import Effect, of_error

MATHS, SCIENCE = "math_average", "gpqa_diamond"
MAIN, VARIANTS, FEWER = "33-to-1", "variants", "7 teachers"
RSR, RANDOM, ALL = "rsr_min", "random", "no_selection_55k"


def cells(folder: Path, students: Sequence[str]) -> pl.DataFrame:
    """Accuracies of the students: student, setting, method, benchmark, accuracy (percent); of several prints the first.

    Raises:
        InputError: see `published.read_cells`.
    """
    rows = read_cells(folder / "trajectory_selection.csv", ["student", "setting", "method", "benchmark"], "accuracy")
    table = pl.DataFrame(rows).with_columns(pl.col("accuracy").cast(pl.Float64))
    key = ["student", "setting", "method", "benchmark"]
    table = table.unique(key, keep="first", maintain_order=True).filter(pl.col("student").is_in([*students]))
    return table.select(*key, "accuracy")


def over_students(values: ArrayLike) -> Effect:
    """The mean of one value a student, with Student's t; nothing can be said of the error of one student."""
    x = np.asarray(values, float)
    value, n = float(x.mean()), len(x)
    if n < 2:
        return Effect(value, np.nan, np.nan, np.nan, "one student")
    return of_error(value, float(x.std(ddof=1)) / n**0.5, n - 1, f"{n} students, printed means over three seeds")


def by_method(table: pl.DataFrame, setting: str, benchmark: str, students: Sequence[str]) -> dict[str, list[float]]:
    """Accuracies by method in the order of students, of methods that are printed for all of these."""
    cells = table.filter(setting=setting, benchmark=benchmark)
    accuracies = {
        method: dict(rows.select("student", "accuracy").iter_rows())
        for (method,), rows in cells.group_by("method", maintain_order=True)
    }
    return {str(method): [a[s] for s in students] for method, a in accuracies.items() if set(students) <= set(a)}


def differences(accuracies: Mapping[str, Sequence[float]], reference: str = RSR) -> pl.DataFrame:
    """The reference less each other method: mean over students with interval, wins, and regret of the method."""
    best = np.max(list(accuracies.values()), axis=0)
    rows = []
    for method, values in accuracies.items():
        gap = np.subtract(accuracies[reference], values)
        contrast = over_students(gap)
        rows.append(
            {
                "method": method,
                "accuracy": float(np.mean(values)),
                "rsr_less_it": contrast.value,
                "low": contrast.low,
                "high": contrast.high,
                "detectable": contrast.minimum_detectable,
                "rsr_wins": int((gap > 0).sum()),
                "students": len(values),
                "regret": float(np.mean(best - values)),
                "best_of": int((np.array(values) == best).sum()),
            }
        )
    return pl.DataFrame(rows)


def against_teachers(main: Mapping[str, Sequence[float]], prints: Published, students: Sequence[str]) -> pl.DataFrame:
    """What RSR and chance select, against the best single teacher of Table 1 (known only after training on all)."""
    rows = []
    for i, student in enumerate(students):
        performance = prints.performance().filter(student=student).sort("accuracy", descending=True)
        rows.append(
            {
                "student": student,
                "best_teacher": performance["teacher"][0],
                "its_accuracy": performance["accuracy"][0],
                "mean_of_teachers": float(performance["accuracy"].to_numpy().mean()),
                "rsr_selected": main[RSR][i],
                "random_selected": main[RANDOM][i],
            }
        )
    return pl.DataFrame(rows)


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
    compositions = []
    for (student, setting), share in shares.items():
        score = dict(scores.filter(student=student).select("teacher", "value").iter_rows())
        right = dict(accuracy.filter(student=student).select("teacher", "accuracy").iter_rows())
        values = list(share.values())
        with_score = correlation([-score[t] for t in share], values, "spearman")
        with_accuracy = correlation([right[t] for t in share], values, "spearman")
        first = max(share, key=lambda t: share[t])
        compositions.append(
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
    return pl.DataFrame(compositions)


def conclusions(
    table: pl.DataFrame, main: Mapping[str, Sequence[float]], single: pl.DataFrame, students: Sequence[str]
) -> list[Conclusion]:
    variants = by_method(table, VARIANTS, MATHS, students)
    others = np.max([values for method, values in main.items() if method != RSR], axis=0)
    asked = {
        "In the published numbers, does selection by RSR beat selection at random?": np.subtract(
            main[RSR], main[RANDOM]
        ),
        "In the published numbers, does it beat the best of the other methods, chosen by an oracle?": np.subtract(
            main[RSR], others
        ),
        "In the published numbers, does it beat the best single teacher, chosen by an oracle?": single["rsr_selected"]
        - single["its_accuracy"],
        "In the published numbers, does it beat training on all 55,000 trajectories?": np.subtract(
            variants[RSR], variants[ALL]
        ),
    }
    answers = []
    for question, gap in asked.items():
        contrast = over_students(gap)
        answer = f"{contrast.verdict}; it is ahead for {int((np.asarray(gap) > 0).sum())} of {len(students)} students."
        answers.append(Conclusion(question, answer, contrast))
    return answers
