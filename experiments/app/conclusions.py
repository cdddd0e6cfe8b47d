"""What an experiment concludes: one sentence, the effect with its interval, and the minimum detectable effect."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from experiments.app import result_folder
from experiments.app.entry import command_line
from rsr.errors import InputError
from rsr.stats.effect import Effect, of_error
from rsr.store.artefacts import write_text, writing

CONCLUSIONS = "conclusions.json"


@dataclass(frozen=True)
class Conclusion:
    """An answer to a question, whatever it is.

    Attributes:
        answer: one sentence of what was found.
        unit: of the effect, such as "points of accuracy" or "Spearman".
    """

    question: str
    answer: str
    effect: Effect
    unit: str = "points of accuracy"

    def text(self) -> str:
        effect = self.effect
        return (
            f"**{self.question}** {self.answer} {effect.text()} {self.unit} ({effect.basis}); "
            f"minimum detectable effect {effect.minimum_detectable:.2f}."
        )

    def row(self) -> dict[str, str | float]:
        """Everything side by side, as files keep it."""
        return {
            "question": self.question,
            "answer": self.answer,
            "estimate": self.effect.value,
            "low": self.effect.low,
            "high": self.effect.high,
            "detectable": self.effect.minimum_detectable,
            "unit": self.unit,
            "basis": self.effect.basis,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Conclusion":
        """The inverse of `row`.

        Raises:
            KeyError: a field is missing.
        """
        effect = Effect(row["estimate"], row["low"], row["high"], row["detectable"], row["basis"])
        return cls(row["question"], row["answer"], effect, row["unit"])


def contrast(one: pl.DataFrame, other: pl.DataFrame) -> Effect:
    """Accuracy of one way to train less that of another on the same problems, in points.

    Variances of the two ways' seeds (not paired: another dataset has another order) and of the problems (paired) add up,
    with Welch and Satterthwaite's degrees of freedom. With one seed the interval is over problems alone, and says so. The
    variance of problems is at least that of one of them answered otherwise: two ways that never differ are not known to be one.

    Args:
        one, other: rows of `TrainedStudents.answers` of one way each: benchmark, problem, seed, correct. Benchmarks weigh the same.
    """
    key = ["benchmark", "problem"]
    mean = pl.col("correct").mean()
    both = one.group_by(key).agg(a=mean).join(other.group_by(key).agg(b=mean), on=key, how="inner", validate="1:1")
    assert len(both) == len(one.select(key).unique()) == len(other.select(key).unique()), "problems differ"
    difference = pl.col("a") - pl.col("b")
    least = 1 / pl.len() ** 2
    by_benchmark = both.group_by("benchmark").agg(
        value=difference.mean(), variance=pl.max_horizontal(difference.var() / pl.len(), least)
    )
    value = float(by_benchmark["value"].to_numpy().mean())
    parts = [(float(by_benchmark["variance"].sum()) / len(by_benchmark) ** 2, max(1, len(both) - 1))]
    seeds = [_by_seed(way) for way in (one, other)]
    if min(len(way) for way in seeds) > 1:
        parts += [(float(way.var(ddof=1)) / len(way), len(way) - 1) for way in seeds]
        basis = f"{len(both)} problems, {len(seeds[0])} and {len(seeds[1])} training seeds"
    else:
        basis = f"{len(both)} problems, one training seed: its variance is not in the interval"
    variance = sum(part for part, _ in parts)
    return of_error(100 * value, 100 * variance**0.5, variance**2 / sum(part**2 / n for part, n in parts), basis)


def _by_seed(answers: pl.DataFrame) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Accuracy of each seed."""
    by_benchmark = answers.group_by("seed", "benchmark").agg(pl.col("correct").mean())
    return by_benchmark.group_by("seed").agg(pl.col("correct").mean())["correct"].to_numpy()


def conclude(
    folder: Path,
    title: str,
    conclusions: Sequence[Conclusion],
    parts: Sequence[str],
    tables: Mapping[str, pl.DataFrame],
    **facts: Any,
) -> None:
    """Write and show an experiment: its conclusions first, then tables. The summary reads conclusions.json beside them.

    Raises:
        InputError: the folder cannot be written.
    """
    text = [f"# {title}", result_folder.markdown_list(conclusion.text() for conclusion in conclusions), *parts]
    text.append(f"Made by `{command_line()}`; commit and versions are in run.json, all digits in the .csv files.")
    rows = [conclusion.row() for conclusion in conclusions]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / CONCLUSIONS, json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    result_folder.publish(folder, "\n\n".join(part for part in text if part) + "\n", tables, **facts)


def summary(results: Path) -> str:
    """Every conclusion under a folder of results as one Markdown table, by experiment; "" where there is none.

    Raises:
        InputError: a file of conclusions cannot be read.
    """
    rows = []
    for path in sorted(results.rglob(CONCLUSIONS)):
        try:
            conclusions = [Conclusion.from_row(row) for row in json.loads(path.read_text(encoding="utf-8"))]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{path}: no conclusions that can be read ({error!r}); run its experiment again"
            ) from error
        rows += [[str(path.parent.relative_to(results)), *_cells(conclusion)] for conclusion in conclusions]
    header = ["experiment", "question", "found", "effect [95 %]", "minimum detectable effect", "basis"]
    return result_folder.markdown_table(header, rows) if rows else ""


def _cells(conclusion: Conclusion) -> list[str]:
    effect = conclusion.effect
    numbers = [f"{effect.text()} {conclusion.unit}", f"{effect.minimum_detectable:.2f}"]
    return [conclusion.question, conclusion.answer, *numbers, effect.basis]
