"""What is read of each dataset to tell RSR from length: parts of answers, bins of length, accuracies."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments.analysis.prefixes import ALL, Answers, Resampled, answers, marks
from experiments.app.command_configs import LengthConfig
from experiments.stages import students, teacher_data
from experiments.stages.evaluation import BASE
from experiments.stages.scoring import token_stores
from experiments.study import study
from rsr.stats.correlation import correlate
from rsr.stats.effect import Effect, of_draws

Floats = NDArray[np.float64]


def measured_answers(config: LengthConfig) -> list[Answers]:
    stores = token_stores(config)
    assert stores is not None  # there is one process
    base = students.base_of(config.student, config.scoring, config.paths)
    read = teacher_data.load(config.teachers, config.scoring, config.paths)
    longest = stores[0].artefact.key["scoring"]["max_length"]
    return [
        answers(store, config.prefixes, marks(dataset, base.renderer, config.mark, longest))
        for store, dataset in zip(stores, read, strict=True)
    ]


def dataset_accuracies(config: LengthConfig) -> pl.DataFrame:
    learned = study.learn(config, teacher_data.load(config.teachers, config.scoring, config.paths))
    learned.runs.refuse_failed()
    trained = learned.performance(resamples=config.bootstrap.resamples)
    return trained.filter(pl.col("teacher") != BASE).select("teacher", "generation", "accuracy", "low", "high")


def agreement(part: Resampled, whole: Resampled) -> Effect:
    """Spearman of the order by a part with the order by all, which stays as it is."""
    return of_draws(
        float(correlate(part.value, whole.value, "spearman")), correlate(part.drawn, whole.value[None], "spearman")
    )


def spearman_of(lengths: NDArray[np.int64], ratios: Floats, chosen: NDArray[np.int64]) -> Floats:
    return correlate(lengths[chosen], ratios[chosen], "spearman")


def length_bins(data: Sequence[Answers], count: int) -> pl.DataFrame:
    """dataset, bin (from 1, short to long), tokens (mean), n, rsr."""
    rows = []
    for dataset in data:
        for i, chosen in enumerate(np.array_split(np.argsort(dataset.lengths, kind="stable"), count)):
            numerator, denominator = dataset.parts[ALL][chosen].sum(axis=0)
            rows.append(
                {
                    "dataset": dataset.name,
                    "bin": i + 1,
                    "tokens": float(dataset.lengths[chosen].mean()) if len(chosen) else None,
                    "n": len(chosen),
                    "rsr": float(numerator / denominator) if denominator else None,
                }
            )
    return pl.DataFrame(rows)


def part_table(data: Sequence[Answers], scores: Mapping[str, Resampled]) -> pl.DataFrame:
    rows = []
    for name, score in scores.items():
        for i, dataset in enumerate(data):
            low, high = score.interval(i) if np.isfinite(score.value[i]) else (None, None)
            value = float(score.value[i]) if np.isfinite(score.value[i]) else None
            rows.append({"dataset": dataset.name, "part": name, "value": value, "low": low, "high": high})
    return pl.DataFrame(rows)
