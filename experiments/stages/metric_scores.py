"""The scoring stage for every metric: token stores, the other measurements, and their tables.

Each kind of measurement is an artefact per student and dataset, made where it is not there yet; the same command goes on
where it was stopped. What cannot be measured here is left out with its reason, unless it was asked for by name.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from experiments.app.processes import alone
from experiments.app.shared_configs import MetricsConfig
from experiments.stages import features, scoring, teacher_data, verification
from rsr.cli.progress import TokenProgress
from rsr.data.trajectories import Dataset
from rsr.errors import InputError
from rsr.features.extractor import FeatureExtractor, FeatureTable, extract_features
from rsr.metrics import Metric, feature_tables, select
from rsr.metrics.aggregate import DATASET_SCHEMA
from rsr.metrics.base import Need
from rsr.metrics.feature_tables import Baselines
from rsr.metrics.score_tables import Scores, read

REWARDED: tuple[Need, ...] = ("graded", "judged")  # made of rewards, and of the losses that token metrics have


def score(config: MetricsConfig) -> Scores | None:
    """Compute the chosen metrics of every dataset and tabulate; None in a process that is not the first.

    Raises:
        InputError: whatever is wrong with student, data, settings or disk; or a metric asked for by name cannot be
            computed here.
    """
    chosen = select(config.names)
    by_tokens = [m.name for m in chosen if m.needs == "tokens"]
    others = [m for m in chosen if m.needs != "tokens"]
    skipped = _missing(config, others)
    measured = [m for m in others if m.name not in skipped]
    # All token metrics come from the same pass, so that their tables hold all of them, whichever are chosen.
    tokens = scoring.score(config) if by_tokens or any(m.needs in REWARDED for m in measured) else None
    if not others:
        return tokens
    baselines = _baselines(config, measured, skipped, tokens)
    if baselines is None:
        return None
    label = f"{config.student.name}-{config.teachers.name}"
    return feature_tables.tabulate(tokens, by_tokens, baselines, config.paths.outputs, label)


def score_apart(config: MetricsConfig) -> Scores:
    """The same in a process of its own, so that what it used is gone when it ends.

    Raises:
        InputError: see `score`.
    """
    return read(alone(folder_of, config))


def folder_of(config: MetricsConfig) -> Path:
    """The folder of the same tables."""
    scores = score(config)
    assert scores is not None  # there is one process
    return scores.artefact.path


def _missing(config: MetricsConfig, metrics: Sequence[Metric]) -> dict[str, str]:
    """Reason by name of the metrics that cannot be had here; one asked for is refused before anything long begins."""
    reasons = {}
    for metric in metrics:
        if reason := features.missing(metric.needs, config):
            if {metric.name, metric.needs} & {*config.names}:
                raise InputError(f"{metric.name}: {reason}")
            reasons[metric.name] = reason
    return reasons


def _baselines(
    config: MetricsConfig, metrics: Sequence[Metric], skipped: dict[str, str], tokens: Scores | None
) -> Baselines | None:
    from accelerate import PartialState

    data = teacher_data.load(config.teachers, config.scoring, config.paths)
    state = PartialState(cpu=config.scoring.device == "cpu")
    kinds = features.Measures(config, data)
    measured: dict[Need, list[FeatureTable]] = {}
    needs: list[Need] = ["endpoint" if m.needs == "judged" else m.needs for m in metrics]
    for need in dict.fromkeys(needs):
        if need not in ("teacher", "graded"):
            with state.main_process_first():
                measure = kinds.measure(need)
            measured[need] = _measure(measure, data, config, state)
    if not state.is_main_process:
        return None
    for need in REWARDED:
        if any(m.needs == need for m in metrics):
            assert tokens is not None
            measured[need] = _rewards(need, config, data, tokens, measured)
    teachers = _teacher_rows([m for m in metrics if m.needs == "teacher"], config, data)
    return feature_tables.collect(metrics, measured, teachers, skipped)


def _rewards(
    need: Need,
    config: MetricsConfig,
    data: Sequence[Dataset],
    tokens: Scores,
    measured: Mapping[Need, Sequence[FeatureTable]],
) -> list[FeatureTable]:
    """Rewards beside the losses of token metrics: of the grader or of the judge."""
    if need == "judged":
        return verification.beside_losses(tokens, measured["endpoint"], "score")
    return verification.of_scored(tokens, data, config.teachers.answer, config.teachers.grader, config.paths.outputs)


def _measure(
    measure: FeatureExtractor, data: Sequence[Dataset], config: MetricsConfig, state: Any
) -> list[FeatureTable]:
    if state.is_main_process:
        print(f"measuring {measure.stage}", file=sys.stderr, flush=True)
    with TokenProgress(data, state.num_processes if state.is_main_process else 0) as progress:
        process = (state.process_index, state.num_processes)

        def measured(dataset: Dataset) -> FeatureTable:
            return extract_features(
                measure,
                dataset,
                config.paths.outputs,
                config.student.name,
                on_error=config.scoring.on_error.value,
                process=process,
                barrier=state.wait_for_everyone,
                progress=partial(progress, dataset),
            )

        return [measured(dataset) for dataset in data]


def _teacher_rows(metrics: Iterable[Metric], config: MetricsConfig, data: Sequence[Dataset]) -> pl.DataFrame:
    """What the teacher table says, one row a dataset; null where it says nothing."""
    known: dict[str, Callable[[Any], float | None]] = {
        "teacher_params": lambda teacher: teacher.params_billion,
        "teacher_performance": lambda teacher: teacher.performance,
    }
    table = {teacher.name: teacher for teacher in config.teachers.teachers}
    rows = [
        {
            "student": config.student.name,
            "teacher": dataset.teacher,
            "generation": dataset.generation,
            "metric": metric.name,
            "preset": "",
            "value": known[metric.name](table[dataset.teacher]),
            "artefact": "teacher table",
        }
        for metric in metrics
        for dataset in data
    ]
    return pl.DataFrame([{name: row.get(name) for name in DATASET_SCHEMA} for row in rows], schema=DATASET_SCHEMA)
