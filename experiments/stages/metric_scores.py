"""The scoring stage for every metric: token stores, the other measurements, and their tables.

Each kind of measurement is an artefact per student and dataset, made where it is not there yet; the same command goes on
where it was stopped. What cannot be measured here is left out with its reason, unless it was asked for by name.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table as Grid

from experiments.app.processes import alone
from experiments.app.shared_configs import MetricsConfig
from experiments.stages import features, scoring, teacher_data
from rsr.cli.progress import TokenProgress
from rsr.cli.terminal import BESIDE, name_cell, show_scores
from rsr.data.trajectories import Dataset, dataset_name
from rsr.errors import InputError
from rsr.features.extractor import FeatureExtractor, FeatureTable, extract_features
from rsr.metrics import Metric, select, text
from rsr.metrics.aggregate import DATASET_SCHEMA, SCHEMA, dataset_scores, feature_dataset_scores, feature_scores
from rsr.metrics.base import Need
from rsr.metrics.gradient import too_few
from rsr.metrics.score_tables import DATASETS, STAGE, TRAJECTORIES, Scores, read
from rsr.store.artefacts import digest, find_or_begin, writing
from rsr.store.locks import in_turn, locking
from rsr.store.parquet import read_parquet, write_parquet

# Raised when what the tables of baselines hold for the same key changes its meaning.
VERSION = 1


@dataclass(frozen=True)
class Baselines:
    """What is tabulated beside token metrics.

    Attributes:
        key: what shapes it.
        trajectories, datasets: rows for the two tables; those of `datasets` have no trajectories below them.
        facts: for the manifest.
    """

    key: Mapping[str, Any]
    trajectories: pl.DataFrame
    datasets: pl.DataFrame
    facts: Mapping[str, Any]


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
    # All token metrics come from the same pass, so that their tables hold all of them, whichever are chosen.
    tokens = scoring.score(config) if by_tokens else None
    if not others:
        return tokens
    baselines = _baselines(config, [m for m in others if m.name not in skipped], skipped)
    return None if baselines is None else _tabulate(tokens, by_tokens, baselines, config)


def score_apart(config: MetricsConfig) -> Scores:
    """The same in a process of its own, so that what it used is gone when it ends.

    Raises:
        InputError: see `score`.
    """
    return read(alone(_folder, config))


def _folder(config: MetricsConfig) -> Path:
    scores = score(config)
    assert scores is not None  # there is one process
    return scores.artefact.path


@locking
def _tabulate(tokens: Scores | None, by_tokens: list[str], baselines: Baselines, config: MetricsConfig) -> Scores:
    """Tables of the chosen token metrics and of baselines, made once for the same measurements."""
    bootstrap = config.bootstrap
    key = {
        "stage": STAGE,
        "version": VERSION,
        "tokens": None if tokens is None else [digest(tokens.artefact.key), by_tokens],
        "baselines": baselines.key,
        "bootstrap": [bootstrap.resamples, bootstrap.seed],
    }
    label = f"{config.student.name}-{config.teachers.name}"
    artefact = find_or_begin(config.paths.outputs, STAGE, label, key)
    paths = [artefact.path / name for name in (TRAJECTORIES, DATASETS)]
    if artefact.manifest is None:
        table = dataset_scores(baselines.trajectories, resamples=bootstrap.resamples, seed=bootstrap.seed)
        frames = [baselines.trajectories, pl.concat([table, baselines.datasets])]
        if tokens is not None:
            wanted = pl.col("metric").is_in(by_tokens)
            of_tokens = (tokens.trajectories.filter(wanted), tokens.datasets.filter(wanted))
            frames = [pl.concat(pair) for pair in zip(of_tokens, frames, strict=True)]
        for path, frame in zip(paths, frames, strict=True):
            write_parquet(frame, path)
        with writing(artefact.path):
            frames[1].write_csv(paths[1].with_suffix(".csv"), float_precision=9)
        facts = {} if tokens is None else tokens.artefact.facts
        of_tokens_facts = {name: facts.get(name) for name in ("student", "scoring", "datasets")}
        artefact = artefact.complete(**of_tokens_facts, **baselines.facts)
    return Scores(artefact, *(read_parquet(artefact, path.name) for path in paths))


def _missing(config: MetricsConfig, metrics: Sequence[Metric]) -> dict[str, str]:
    """Reason by name of the metrics that cannot be had here; one asked for is refused before anything long begins."""
    reasons = {}
    for metric in metrics:
        if reason := features.missing(metric.needs, config):
            if {metric.name, metric.needs} & {*config.names}:
                raise InputError(f"{metric.name}: {reason}")
            reasons[metric.name] = reason
    return reasons


def _baselines(config: MetricsConfig, metrics: Sequence[Metric], skipped: dict[str, str]) -> Baselines | None:
    from accelerate import PartialState

    data = teacher_data.load(config.teachers, config.scoring, config.paths)
    state = PartialState(cpu=config.scoring.device == "cpu")
    kinds = features.Measures(config, data)
    measured: dict[Need, list[FeatureTable]] = {}
    for need in dict.fromkeys(m.needs for m in metrics):
        if need != "teacher":
            with state.main_process_first():
                measure = kinds.measure(need)
            measured[need] = _measure(measure, data, config, state)
    if not state.is_main_process:
        return None
    return _collect(metrics, measured, config, data, skipped)


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

        return in_turn(measured, data, process)


# --- tables --------------------------------------------------------------------------------------------------------


def _collect(
    metrics: Sequence[Metric],
    measured: dict[Need, list[FeatureTable]],
    config: MetricsConfig,
    data: Sequence[Dataset],
    skipped: dict[str, str],
) -> Baselines:
    trajectories, tables = [pl.DataFrame(schema=SCHEMA)], [pl.DataFrame(schema=DATASET_SCHEMA)]
    for need, of_need in measured.items():
        chosen = [m for m in metrics if m.needs == need]
        trajectories.append(feature_scores(of_need, [m for m in chosen if "trajectory" in m.levels]))
        tables.append(feature_dataset_scores(of_need, [m for m in chosen if "trajectory" not in m.levels]))
    teachers = _teacher_rows([m for m in metrics if m.needs == "teacher"], config, data)
    everything = [m for of_need in measured.values() for m in of_need]
    key = {
        "metrics": {m.name: {preset: dict(of) for preset, of in m.presets.items()} for m in metrics},
        "measured": [
            [m.student, m.teacher, m.generation, digest(m.artefact.key), sorted(m.failed)] for m in everything
        ],
        "teachers": teachers.select("teacher", "metric", "value").rows(),
        "skipped": sorted(skipped),
    }
    facts = {
        "measurements": [_facts_of(m) for m in everything],
        "skipped": skipped,
        "warnings": list(dict.fromkeys(w for m in measured.get("gradients", []) if (w := too_few(m.rows)))),
    }
    if "text" in measured:
        facts["pool"] = text.pool_statistics(pl.concat([m.rows for m in measured["text"]]))
    return Baselines(key, pl.concat(trajectories), pl.concat([*tables, teachers]), facts)


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


def _facts_of(measured: FeatureTable) -> dict[str, Any]:
    manifest = measured.artefact.manifest or {}
    return {
        "artefact": measured.artefact.id,
        "stage": measured.artefact.key["stage"],
        "teacher": measured.teacher,
        "generation": measured.generation,
        "failed": dict(measured.failed),
        **{name: manifest.get(name) for name in ("counts", "seconds", "tokens_in_those_seconds")},
    }


# --- shown ---------------------------------------------------------------------------------------------------------


def show(scores: Scores, names: Sequence[str]) -> None:
    """Print RSR and what goes with it where the tables hold it, then the other metrics, a line a dataset.

    Args:
        names: of metrics or groups that were asked for; a token metric of no group is shown where it is among them.
    """
    facts = scores.artefact.facts
    with_rsr = "rsr" in scores.datasets["metric"]
    if with_rsr:
        show_scores(scores)
    shown_already = {"rsr", *BESIDE} if with_rsr else set()
    held = [m for m in select(["all"]) if m.name in scores.datasets["metric"] and m.name not in shown_already]
    others = [m for m in held if m.needs != "tokens" or m.name in names]
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    if others:
        console.print(_grid(scores.datasets, others))
    for name, reason in facts.get("skipped", {}).items():
        console.print(f"{name} is left out: {reason}", markup=False, soft_wrap=True)
    for line in [*facts.get("warnings", []), *_failures(facts.get("measurements", []))]:
        console.print(line, markup=False, soft_wrap=True)
    if not with_rsr:
        console.print(f"Written to {scores.artefact.path}", markup=False, soft_wrap=True)


def _grid(table: pl.DataFrame, metrics: Sequence[Metric]) -> Grid:
    arrows = {"lower": "↓", "higher": "↑"}
    grid = Grid("teacher", *(f"{m.title} {arrows[m.direction]}" for m in metrics), box=None, padding=(0, 2, 0, 0))
    shown = table.filter(pl.col("preset") == "")
    for name, of_dataset in shown.group_by("teacher", "generation", maintain_order=True):
        values = dict(of_dataset.select("metric", "value").iter_rows())
        cells = ["no value" if values.get(m.name) is None else f"{values[m.name]:.3g}" for m in metrics]
        grid.add_row(name_cell(dataset_name(*map(str, name))), *cells)
    return grid


def _failures(measurements: Iterable[dict[str, Any]]) -> list[str]:
    lines = []
    for m in measurements:
        if m["failed"]:
            identity, reason = next(iter(m["failed"].items()))
            lines.append(
                f"{m['stage']} of {dataset_name(m['teacher'], m['generation'])}: {len(m['failed'])} trajectories have no value, the first "
                f"{identity}: {reason}; the same command tries them again"
            )
    return lines
