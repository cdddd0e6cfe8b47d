"""Scores against accuracy where the same teachers write at several lengths: within each, over all, and paired."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments.analysis.prefixes import ALL, SURPRISAL, Answers
from experiments.app import result_folder
from experiments.app.conclusions import Conclusion
from experiments.app.shared_configs import BootstrapConfig
from rsr.stats.bootstrap import resampled_statistic
from rsr.stats.correlation import correlate, correlation
from rsr.stats.effect import Effect, of_draws
from rsr.stats.paired import partial_spearman
from rsr.views.plots import Panel, scatter

Floats = NDArray[np.float64]
SIGN = {"RSR": -1, "mean surprisal": -1, "token length": 1}  # better is lower, lower, higher
CELL = "Spearman with accuracy, signs turned so that larger is better"


def trained(
    data: Sequence[Answers], accuracies: pl.DataFrame, folder: Path, bootstrap: BootstrapConfig
) -> tuple[list[Conclusion], list[str], pl.DataFrame]:
    """Conclusions, text and the table of scores and accuracies; draws accuracy.png.

    Args:
        accuracies: teacher, generation, accuracy (percent), of every dataset.
    """
    table = accuracies.join(_scores(data), on=["teacher", "generation"], how="inner", validate="1:1")
    assert len(table) == len(data), "a dataset has no accuracy"
    generations = table["generation"].unique(maintain_order=True).to_list()
    teachers = table["teacher"].unique(maintain_order=True).to_list()
    cube = {name: _cube(table, name, teachers, generations) for name in (*SIGN, "accuracy")}
    heading = "## Trained: every length by itself and all together"
    _draw(cube, teachers, generations, folder)
    if not _has_order(cube["accuracy"]):
        alike = "Accuracies, or their changes with length, are all alike: there is no order to correlate."
        return [], [heading, alike, result_folder.markdown_table(*_datasets(cube, teachers, generations))], table
    conclusions = _pooled(cube, bootstrap)
    if len(generations) > 1:
        conclusions += _paired(cube, generations, bootstrap)
    parts = [
        heading,
        f"{CELL}; intervals over {len(teachers)} teachers (over all: a teacher's datasets come and go together).",
        result_folder.markdown_table(*_grid(cube, generations, bootstrap)),
        result_folder.markdown_table(*_datasets(cube, teachers, generations)),
    ]
    return conclusions, parts, table


def _has_order(accuracy: Floats) -> bool:
    """Whether teachers differ at every length, and in what they gain from the first to the last.

    Args:
        accuracy: shape (generations, teachers).
    """
    changes = accuracy[-1:] - accuracy[:1] if len(accuracy) > 1 else accuracy
    return bool((np.ptp(np.concatenate([accuracy, changes]), axis=1) > 0).all())


def _scores(data: Sequence[Answers]) -> pl.DataFrame:
    rows = []
    for dataset in data:
        rank, surprisal = dataset.parts[ALL].sum(axis=0)
        total, count = dataset.parts[SURPRISAL].sum(axis=0)
        rows.append(
            {
                "teacher": dataset.teacher,
                "generation": dataset.generation,
                "RSR": rank / surprisal,
                "mean surprisal": total / count,
                "token length": float(dataset.lengths.mean()),
            }
        )
    return pl.DataFrame(rows)


def _cube(table: pl.DataFrame, column: str, teachers: Sequence[str], generations: Sequence[str]) -> Floats:
    """Shape (generations, teachers)."""
    values = {(t, g): v for t, g, v in table.select("teacher", "generation", column).iter_rows()}
    return np.array([[values[t, g] for t in teachers] for g in generations], float)


def _over_all(scores: Floats, accuracy: Floats, bootstrap: BootstrapConfig) -> Effect:
    """Spearman over every dataset; teachers are drawn with all that they wrote."""
    n = scores.shape[1]

    def of_teachers(chosen: NDArray[np.int64]) -> Floats:
        x, y = (np.moveaxis(values[:, chosen], 0, -1).reshape(len(chosen), -1) for values in (scores, accuracy))
        return correlate(x, y, "spearman")

    drawn = resampled_statistic(of_teachers, n, bootstrap.resamples, bootstrap.seed)
    return of_draws(float(correlate(scores.ravel(), accuracy.ravel(), "spearman")), drawn)


def _pooled(cube: dict[str, Floats], bootstrap: BootstrapConfig) -> list[Conclusion]:
    accuracy, length = cube["accuracy"], np.log(cube["token length"])
    g, n = accuracy.shape
    conclusions = []
    for name, sign in SIGN.items():
        spearman = _over_all(sign * cube[name], accuracy, bootstrap)
        each = [float(correlate(sign * s, a, "spearman")) for s, a in zip(cube[name], accuracy, strict=True)]
        answer = f"Over {g * n} datasets {spearman.value:+.2f}"
        if g > 1:
            answer += f", within the lengths {', '.join(f'{value:+.2f}' for value in each)}"
        if name != "token length":
            answer += f"; given log length {partial_spearman(sign * cube[name].ravel(), accuracy.ravel(), length.ravel()):+.2f}"
        question = f"Does {name} order datasets whatever their length?"
        basis = f"{CELL}; {g * n} datasets of {n} teachers, bootstrap over teachers, one training seed"
        conclusions.append(Conclusion(question, f"{answer}.", replace(spearman, basis=basis), "Spearman"))
    return conclusions


def _mean(values: Floats, bootstrap: BootstrapConfig) -> Effect:
    """Mean over teachers."""
    drawn = resampled_statistic(
        lambda chosen: values[chosen].mean(axis=1), len(values), bootstrap.resamples, bootstrap.seed
    )
    return of_draws(float(values.mean()), drawn)


def _paired(cube: dict[str, Floats], generations: Sequence[str], bootstrap: BootstrapConfig) -> list[Conclusion]:
    """From the first to the last length, paired over teachers."""
    change = {name: values[-1] - values[0] for name, values in cube.items()}
    n = len(change["RSR"])
    basis = f"{n} teachers, paired, one training seed"
    way = f"from {generations[0]} to {generations[-1]}"
    conclusions = []
    for name, unit in (("RSR", "ranks per nat"), ("accuracy", "points of accuracy")):
        mean_change = _mean(change[name], bootstrap)
        up = int((change[name] > 0).sum())
        answer = f"{name} changes by {mean_change.value:+.2f} on average and rises for {up} of {n} teachers."
        conclusions.append(Conclusion(f"Does {name} change {way}?", answer, replace(mean_change, basis=basis), unit))
    together = correlation(-change["RSR"], change["accuracy"], "spearman", resamples=bootstrap.resamples)
    relation = (
        "together"
        if together.low > 0
        else "against each other"
        if together.high < 0
        else "not to be told from unrelated"
    )
    conclusions.append(
        Conclusion(
            f"Do RSR and accuracy move together {way}?",
            f"Spearman between the fall of RSR and the rise of accuracy is {together.value:+.2f}: {relation}.",
            replace(together, basis=basis),
            "Spearman",
        )
    )
    return conclusions


def _grid(
    cube: dict[str, Floats], generations: Sequence[str], bootstrap: BootstrapConfig
) -> tuple[list[str], list[list[str]]]:
    rows = []
    for name, sign in SIGN.items():
        cells = []
        for scores, accuracy in zip(sign * cube[name], cube["accuracy"], strict=True):
            spearman = correlation(scores, accuracy, "spearman", resamples=bootstrap.resamples, seed=bootstrap.seed)
            cells.append(spearman.text())
        rows.append([name, *cells, _over_all(sign * cube[name], cube["accuracy"], bootstrap).text()])
    return ["metric", *generations, "all"], rows


def _datasets(
    cube: dict[str, Floats], teachers: Sequence[str], generations: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    rows = [
        [teacher, *(f"{cube['accuracy'][g, i]:.1f} ({cube['RSR'][g, i]:.2f})" for g in range(len(generations)))]
        for i, teacher in enumerate(teachers)
    ]
    return ["accuracy after training, % (RSR)", *generations], rows


def _draw(cube: dict[str, Floats], teachers: Sequence[str], generations: Sequence[str], folder: Path) -> None:
    panels = [
        Panel(generation or "all", "RSR", "accuracy after training, %", teachers, cube["RSR"][g], cube["accuracy"][g])
        for g, generation in enumerate(generations)
    ]
    scatter(panels, folder / "accuracy.png")
