"""What an experiment found: one sentence, its interval, and the smallest effect it could have told from none."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from experiments.app import result_folder
from experiments.app.entry import command_line
from rsr.errors import InputError
from rsr.stats.effect import Effect, of_error
from rsr.store.artefacts import write_text, writing

FINDINGS = "findings.json"


@dataclass(frozen=True)
class Finding:
    """An answer to a question, whatever it is.

    Attributes:
        answer: one sentence of what was found.
        estimate, low, high: of the effect, with its 95 % interval.
        detectable: the smallest effect that this experiment tells from none with 80 % power (two-sided, 5 %).
        unit: of these numbers, such as "points of accuracy" or "Spearman".
        basis: what the interval is over: how many teachers, problems, seeds.
    """

    question: str
    answer: str
    estimate: float
    low: float
    high: float
    detectable: float
    unit: str
    basis: str

    @classmethod
    def of(
        cls, question: str, answer: str, effect: Effect, unit: str = "points of accuracy", basis: str = ""
    ) -> "Finding":
        """Of an effect, whose own basis is taken where none is given."""
        numbers = (effect.value, effect.low, effect.high, effect.detectable)
        return cls(question, answer, *numbers, unit, basis or effect.basis)

    def text(self) -> str:
        return (
            f"**{self.question}** {self.answer} {self.estimate:+.2f} [{self.low:+.2f}, {self.high:+.2f}] {self.unit} "
            f"({self.basis}); an effect of {self.detectable:.2f} could have been told from none."
        )


def contrast(one: pl.DataFrame, other: pl.DataFrame) -> Effect:
    """Accuracy of one way to train less that of another on the same problems, in points.

    Variances of the two ways' seeds (not paired: another dataset has another order) and of the problems (paired) add up,
    with Welch and Satterthwaite's degrees of freedom. With one seed the interval is over problems alone, and says so. The
    variance of problems is at least that of one of them answered otherwise: two ways that never differ are not known to be one.

    Args:
        one, other: rows of `Learned.answers` of one way each: benchmark, problem, seed, correct. Benchmarks weigh the same.
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
    findings: Sequence[Finding],
    parts: Sequence[str],
    tables: Mapping[str, pl.DataFrame],
    **facts: Any,
) -> None:
    """Write and show an experiment: its findings first, then tables; findings.json beside them is what the summary reads.

    Raises:
        InputError: the folder cannot be written.
    """
    text = [f"# {title}", result_folder.markdown_list(finding.text() for finding in findings), *parts]
    text.append(f"Made by `{command_line()}`; commit and versions are in run.json, all digits in the .csv files.")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / FINDINGS, json.dumps([asdict(f) for f in findings], indent=2, ensure_ascii=False) + "\n")
    result_folder.publish(folder, "\n\n".join(part for part in text if part) + "\n", tables, **facts)


def summary(results: Path) -> str:
    """Every finding under a folder of results as one Markdown table, by experiment; "" where there is none.

    Raises:
        InputError: a file of findings cannot be read.
    """
    rows = []
    for path in sorted(results.rglob(FINDINGS)):
        try:
            found = [Finding(**finding) for finding in json.loads(path.read_text(encoding="utf-8"))]
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{path}: no findings that can be read ({error}); run its experiment again") from error
        rows += [[str(path.parent.relative_to(results)), *_row(finding)] for finding in found]
    header = ["experiment", "question", "found", "effect [95 %]", "could have been told from none", "basis"]
    return result_folder.markdown_table(header, rows) if rows else ""


def _row(f: Finding) -> list[str]:
    effect = f"{f.estimate:+.2f} [{f.low:+.2f}, {f.high:+.2f}] {f.unit}"
    return [f.question, f.answer, effect, f"{f.detectable:.2f}", f.basis]
