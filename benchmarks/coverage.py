"""How often the 95 % intervals of this project cover the truth, by simulation.

    python benchmarks/coverage.py [--trials 1000]

Every world below has a known truth. It is drawn again and again, and the interval is made as the commands make it. Writes
results/benchmarks/coverage/.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.progress import track

from eval.performance import performance
from experiments.app.result_folder import markdown_table, publish
from experiments.app.shared_configs import ROOT
from rsr.selection.ranking import adjusted_difference
from rsr.stats import jackknife
from rsr.stats.correlation import Coefficient, correlation
from rsr.stats.effect import Effect, of_error
from rsr.stats.paired import difference

RESAMPLES = 1_000
TEACHERS = 11  # the paper's
Floats = NDArray[np.float64]
Interval = tuple[float, float]
Trial = Callable[[np.random.Generator], Interval]


@dataclass(frozen=True)
class World:
    """What an interval is tried in.

    Attributes:
        interval: its name, of what, and by which method.
        units: how many are drawn, in words.
        trial: draws the world and makes the interval.
    """

    interval: str
    method: str
    units: str
    truth: float
    trial: Trial


def worlds() -> Iterator[World]:
    """Every kind of interval that a command prints, where it is easy and where it is hard."""
    for n in (2, 4, 12, 100):
        yield World("RSR of a dataset", "jackknife", f"{n} problems", _truth_of_ratio(), partial(_ratio, problems=n))
    for n in (5, 12, 30, 100):
        yield World("a lead at equal length", "jackknife", f"{n} problems", 0.1, partial(_at_equal_length, problems=n))
    for problems, samples in ((30, 8), (40, 1), (500, 4)):
        for p in (0.02, 0.2, 0.5):
            units = f"{problems} problems of {samples}, {p:.0%} right"
            yield World("accuracy", "bootstrap", units, p, partial(_accuracy, problems=problems, samples=samples, p=p))
    coefficients: tuple[Coefficient, ...] = ("spearman", "pearson")
    for coefficient in coefficients:
        for r in (0.0, 0.5, 0.85):
            truth = 6 / np.pi * np.arcsin(r / 2) if coefficient == "spearman" else r
            units = f"{TEACHERS} teachers, {truth:.2f}"
            yield World(
                coefficient.title(), "bootstrap", units, truth, partial(_correlation, r=r, coefficient=coefficient)
            )
    for first, second in ((0.5, 0.5), (0.85, 0.3)):
        truth = float(np.subtract(*(6 / np.pi * np.arcsin(np.array([first, second]) / 2))))
        units = f"{TEACHERS} teachers, {truth:.2f}"
        yield World(
            "one Spearman less another", "bootstrap", units, truth, partial(_difference, first=first, second=second)
        )
    for n in (3, 5):
        yield World("a mean over seeds or students", "Student's t", f"{n}", 0.0, partial(_mean, n=n))


def _truth_of_ratio() -> float:
    return float(np.exp(1.1 + (0.2**2 - 0.15**2) / 2))


def _ratio(rng: np.random.Generator, problems: int) -> Interval:
    """Answers of log-normal lengths; the ratio of summed ranks and surprisals."""
    length = np.exp(rng.normal(0, 0.6, problems))
    ranks = length * np.exp(rng.normal(1.1, 0.2, problems))
    sums = np.stack([ranks, length * np.exp(rng.normal(0, 0.15, problems))], axis=1)
    numerator, denominator = sums.sum(axis=0)
    return jackknife.interval(numerator / denominator, jackknife.ratios_without_each(sums))


def _at_equal_length(rng: np.random.Generator, problems: int) -> Interval:
    """A difference of scores that has a part of its own, 0.1, and one by length."""
    longer = rng.normal(0.3, 0.4, problems)
    scores = 0.1 + 0.2 * longer + rng.normal(0, 0.3, problems)
    adjusted = adjusted_difference("other", longer, scores)
    return adjusted.adjusted_low, adjusted.adjusted_high


def _accuracy(rng: np.random.Generator, problems: int, samples: int, p: float) -> Interval:
    """Problems that are hard or easy: their chances are Beta-distributed with the mean p."""
    chances = rng.beta(2 * p, 2 * (1 - p), problems)
    right = rng.random((problems, samples)) < chances[:, None]
    grades = pl.DataFrame(
        {
            "problem": np.repeat(np.arange(problems), samples),
            "correct": right.ravel(),
            "tokens": 1,
            "finish_reason": "stop",
            "outcome": "correct",
        }
    )
    found = performance(grades, resamples=RESAMPLES, seed=int(rng.integers(2**31)))
    return found.low, found.high


def _normal(rng: np.random.Generator, *correlations: float) -> tuple[Floats, Floats]:
    """Accuracies, and scores that are correlated so with them."""
    accuracy = rng.normal(size=TEACHERS)
    scores = [r * accuracy + np.sqrt(1 - r**2) * rng.normal(size=TEACHERS) for r in correlations]
    return accuracy, np.stack(scores)


def _correlation(rng: np.random.Generator, r: float, coefficient: Coefficient) -> Interval:
    accuracy, (scores,) = _normal(rng, r)
    return _ends(correlation(scores, accuracy, coefficient, resamples=RESAMPLES, seed=int(rng.integers(2**31))))


def _difference(rng: np.random.Generator, first: float, second: float) -> Interval:
    accuracy, scores = _normal(rng, first, second)
    return _ends(difference(scores[0], scores[1], accuracy, resamples=RESAMPLES, seed=int(rng.integers(2**31))))


def _mean(rng: np.random.Generator, n: int) -> Interval:
    values = rng.normal(size=n)
    return _ends(of_error(float(values.mean()), float(values.std(ddof=1)) / n**0.5, n - 1, ""))


def _ends(effect: Effect) -> Interval:
    return effect.low, effect.high


def measured(world: World, trials: int) -> dict[str, object]:
    """Share of trials whose interval covers the truth, and the mean width."""
    rng = np.random.default_rng(0)
    intervals = np.array([world.trial(rng) for _ in range(trials)])
    low, high = intervals.T
    covered = float(((low - 1e-12 <= world.truth) & (world.truth <= high + 1e-12)).mean())
    return {
        "interval": world.interval,
        "method": world.method,
        "over": world.units,
        "coverage": covered,
        "width": float((high - low).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1_000)
    trials = parser.parse_args().trials
    table = pl.DataFrame([measured(world, trials) for world in track([*worlds()], "simulating")])
    lines = [[row[0], row[1], row[2], f"{row[3]:.1%}", f"{row[4]:.3f}"] for row in table.iter_rows()]
    text = [
        "# How often intervals cover",
        f"Of 95 % intervals, {trials:,} trials each; bootstraps have {RESAMPLES:,} resamples. A share of 95 % varies by "
        f"{2 * (0.95 * 0.05 / trials) ** 0.5:.1%} (two standard errors). The worlds are in `benchmarks/coverage.py`.",
        markdown_table(["interval", "method", "over", "covers", "mean width"], lines),
    ]
    publish(ROOT / "results" / "benchmarks" / "coverage", "\n\n".join(text) + "\n", {"coverage.csv": table})


if __name__ == "__main__":
    main()
