"""A score tried on some teachers: which are chosen, and the predicted beside the measured order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import factorial

import numpy as np
import polars as pl

from experiments.analysis.selection import accuracy
from experiments.app.command_configs import ValidationConfig
from experiments.app.conclusions import Conclusion, contrast
from experiments.study.trained import TrainedStudents
from rsr.data.trajectories import Dataset
from rsr.errors import InputError
from rsr.metrics import Metric
from rsr.metrics.score_tables import Scores
from rsr.stats.bootstrap import percentile_interval, resampled_sums
from rsr.stats.correlation import correlation
from rsr.stats.effect import Effect
from rsr.stats.paired import pairwise_accuracy

RESAMPLES = 2000


def predictions(scores: Scores, metric: Metric) -> dict[tuple[str, str], float]:
    """Score of each dataset by teacher and generation."""
    rows = scores.datasets.filter(metric=metric.name, preset="").drop_nulls("value")
    return {
        (teacher, generation): value
        for teacher, generation, value in rows.select("teacher", "generation", "value").rows()
    }


def choose(
    data: Sequence[Dataset], scores: dict[tuple[str, str], float], metric: Metric, config: ValidationConfig
) -> list[Dataset]:
    """The teachers asked for, or some spread over the order of scores, the predicted best first.

    Raises:
        InputError: one that is asked for is not there, or there are fewer than three.
    """
    asked = config.validation.teachers
    if unknown := sorted({*asked} - {dataset.teacher for dataset in data}):
        raise InputError(
            f"validation.teachers names {', '.join(unknown)}: there are {', '.join(d.teacher for d in data)}"
        )
    ordered = sorted(
        (d for d in data if (d.teacher, d.generation) in scores and (not asked or d.teacher in asked)),
        key=lambda d: -metric.expected_sign * scores[d.teacher, d.generation],
    )
    if len(ordered) < 3:
        raise InputError(f"{len(ordered)} teachers with a score are too few to be put in order: the least is 3")
    if asked:
        return ordered
    places = np.linspace(0, len(ordered) - 1, min(config.validation.count, len(ordered))).round().astype(int)
    return [ordered[place] for place in places]


@dataclass(frozen=True)
class Compared:
    """Predicted and measured, the predicted best first.

    Attributes:
        answers: of each teacher, see `TrainedStudents.answers`.
    """

    teachers: list[str]
    scores: list[float]
    answers: list[pl.DataFrame]

    @property
    def accuracies(self) -> list[float]:
        """Percent."""
        return [accuracy(rows).value for rows in self.answers]


def compared(data: Sequence[Dataset], scores: dict[tuple[str, str], float], learned: TrainedStudents) -> Compared:
    """What there is of both.

    Raises:
        InputError: fewer than three teachers have an accuracy, since cells failed.
    """
    answers = learned.answers()
    answers_by_dataset = [(d, answers.filter(teacher=d.teacher, generation=d.generation)) for d in data]
    there = [(d, rows) for d, rows in answers_by_dataset if len(rows)]
    if len(there) < 3:
        learned.runs.refuse_failed()
    return Compared(
        [d.teacher for d, _ in there], [scores[d.teacher, d.generation] for d, _ in there], [rows for _, rows in there]
    )


def resampled_accuracies(comparison: Compared, seed: int = 0) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """Accuracies of the teachers over resampled problems, drawn once for all within each benchmark: resamples x teachers."""
    rng = np.random.default_rng(seed)
    key = ["benchmark", "problem"]
    means = [rows.group_by(key).agg(pl.col("correct").mean()).sort(key) for rows in comparison.answers]
    drawn = []
    for (benchmark,), _ in means[0].group_by("benchmark", maintain_order=True):
        shares = np.stack([table.filter(benchmark=benchmark)["correct"].to_numpy() for table in means], axis=1)
        drawn.append(resampled_sums(shares, RESAMPLES, rng) / len(shares))
    return np.asarray(np.mean(drawn, axis=0))


def by_chance(n: int, right: float) -> float:
    """Probability that an order of n drawn by chance has at least so many pairs right (exact, by Mahonian numbers)."""
    counts = np.ones(1)
    for i in range(2, n + 1):
        counts = np.convolve(counts, np.ones(i))
    return float(counts[int(np.ceil(right - 1e-9)) :].sum() / factorial(n))


def conclusions(comparison: Compared, metric: Metric) -> list[Conclusion]:
    """The order and the pairs, where accuracies have an order, and what the predicted best costs."""
    best = int(np.argmax(comparison.accuracies))
    lost = contrast(comparison.answers[best], comparison.answers[0])
    cost = Conclusion(
        "What does training on the predicted best teacher lose?",
        f"{comparison.teachers[0]} is predicted to be the best, {comparison.teachers[best]} is.",
        replace(lost, basis=f"{lost.basis}; the best is an oracle's choice"),
        "points of accuracy lost",
    )
    return [*_of_order(comparison, metric), cost] if has_order(comparison) else [cost]


def has_order(comparison: Compared) -> bool:
    return len(set(comparison.accuracies)) > 1 and len(set(comparison.scores)) > 1


def _of_order(comparison: Compared, metric: Metric) -> list[Conclusion]:
    oriented = [metric.expected_sign * score for score in comparison.scores]
    n, pairs = len(oriented), len(oriented) * (len(oriented) - 1) // 2
    order = correlation(oriented, comparison.accuracies, "spearman")
    share = pairwise_accuracy(oriented, comparison.accuracies)
    low, high = percentile_interval(
        np.array([pairwise_accuracy(oriented, accuracies) for accuracies in resampled_accuracies(comparison)])
    )
    least = next((k for k in range(pairs + 1) if by_chance(n, k) <= 0.05), pairs)
    # With so few teachers a bootstrap's interval is too short: the permutation test decides.
    said = "Significant" if order.p_value <= 0.05 else "Not significant"
    chance = by_chance(n, share * pairs)
    basis = (
        "bootstrap over problems for these teachers; the last number is the least that chance reaches in 5 % or less"
    )
    return [
        Conclusion(
            f"Does {metric.title} order these {n} teachers?",
            f"{said}: with {n} teachers only a Spearman beyond {order.minimum_detectable:.2f} is.",
            replace(order, basis=f"{n} teachers, bootstrap over them; permutation p {order.p_value:.2f}"),
            "Spearman (positive: as predicted)",
        ),
        Conclusion(
            "How many pairs of teachers are in the predicted order?",
            f"{share * pairs:.0f} of {pairs}; so many or more come by chance with probability {chance:.2f}.",
            Effect(2 * share - 1, 2 * low - 1, 2 * high - 1, 2 * least / pairs - 1, basis),
            "of the pairs right less wrong",
        ),
    ]
