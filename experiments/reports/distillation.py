"""Accuracy after training, by teacher and student, as Markdown."""

import polars as pl

from experiments.app import result_folder
from experiments.app.entry import command_line
from experiments.paper import consistency


def report(
    accuracy: pl.DataFrame, students: list[str], strength: dict[str, float], repeated: list[consistency.Check]
) -> str:
    places = accuracy.with_columns(pl.col(s).rank("min", descending=True).cast(pl.Int64) for s in students)
    rows = [
        [a["teacher"], f"{strength[a['teacher']]:.3f}", *(f"{a[s]:.1f} ({p[s]})" for s in students)]
        for a, p in zip(accuracy.iter_rows(named=True), places.iter_rows(named=True), strict=True)
    ]
    strongest = max(strength, key=lambda t: strength[t])
    best = {s: accuracy.sort(s, descending=True)["teacher"][0] for s in students}
    lost = {s: accuracy[s].max() - accuracy.filter(teacher=strongest)[s][0] for s in students}
    parts = [
        "# Accuracy after training, by teacher and student",
        result_folder.markdown_table(["teacher", "its own accuracy", *(f"{s} (place)" for s in students)], rows),
        result_folder.markdown_list(
            [
                "Best teacher: " + ", ".join(f"{s}: {t}" for s, t in best.items()) + ".",
                f"The strongest teacher is {strongest}. Training on it instead of the best loses "
                + ", ".join(f"{loss:.1f} points for {s}" for s, loss in lost.items())
                + ".",
                f"{len(repeated)} cells are printed again in other tables; "
                f"{sum(c.verdict == consistency.CONTRADICTED for c in repeated)} of these prints contradict the first: "
                + "; ".join(
                    f"Table {c.table}, {c.cell.split(', ', 1)[1]}: {c.printed}, but {c.basis}"
                    for c in repeated
                    if c.verdict == consistency.CONTRADICTED
                )
                + ".",
            ]
        ),
        f"Made by `{command_line()}`.",
    ]
    return "\n\n".join(parts) + "\n"
