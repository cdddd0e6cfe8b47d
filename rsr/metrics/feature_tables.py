"""Score tables of metrics that are computed from features, beside those of token metrics."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from rsr.data.trajectories import Dataset, OnError
from rsr.errors import InputError
from rsr.features.extractor import FeatureExtractor, FeatureTable, extract_features
from rsr.metrics import text
from rsr.metrics.aggregate import DATASET_SCHEMA, SCHEMA, dataset_scores, feature_dataset_scores, feature_scores
from rsr.metrics.base import Metric, Need, select
from rsr.metrics.gradient import too_few
from rsr.metrics.score_tables import DATASETS, STAGE, TRAJECTORIES, Progress, Scores, silent
from rsr.store.artefacts import digest, find_or_begin, writing
from rsr.store.csv import write_csv
from rsr.store.locks import locking
from rsr.store.parquet import read_parquet, write_parquet

if TYPE_CHECKING:
    from rsr.tokens.engine import Scorer

MEASURABLE: tuple[Need, ...] = ("text", "steps", "step_heads", "responses_alone", "activations", "gradients")
# Raised when what these tables hold for the same key changes its meaning.
VERSION = 2


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


def measurable(names: Iterable[str]) -> list[Metric]:
    """The metrics among those of these names that are computed from features of a student and data.

    Raises:
        InputError: a name is unknown, or its metric takes more than a student and data.
    """
    others = [metric for metric in select(names) if metric.needs != "tokens"]
    for metric in others:
        if metric.needs not in MEASURABLE:
            raise InputError(
                f"{metric.name} needs more than a student and data ({metric.needs}): `python experiments/score.py` has it "
                "(docs/baselines.md)"
            )
    return others


def add(
    tokens: Scores,
    metrics: Sequence[Metric],
    scorer: "Callable[[], Scorer]",
    datasets: Sequence[Dataset],
    root: Path,
    label: str,
    *,
    on_error: OnError = "error",
    progress: Progress = silent,
) -> Scores:
    """The tables of token metrics with those of other metrics beside, for which features are extracted where they are not there yet.

    Args:
        metrics: of `measurable`.
        scorer: makes the engine, with its model, where one is needed.

    Raises:
        InputError: see `rsr.features.extractor.extract_features`.
    """
    student = str(tokens.trajectories["student"][0])
    measured: dict[Need, list[FeatureTable]] = {}
    for need in dict.fromkeys(metric.needs for metric in metrics):
        extract = partial(
            extract_features, _extractor(need, scorer, datasets), root=root, student=student, on_error=on_error
        )
        measured[need] = [extract(dataset, progress=partial(progress, dataset)) for dataset in datasets]
    by_tokens = tokens.datasets["metric"].unique(maintain_order=True)
    return tabulate(tokens, by_tokens, collect(metrics, measured), root, label)


def _extractor(need: Need, scorer: "Callable[[], Scorer]", datasets: Sequence[Dataset]) -> FeatureExtractor:
    """What measures a kind of feature as the study does."""
    if need == "text":
        from rsr.features.text import TextCounts

        return TextCounts()
    if need == "steps":
        from rsr.features.local_surprisal import LocalSettings, LocalSurprisal

        return LocalSurprisal(scorer(), LocalSettings())
    if need == "step_heads":
        from rsr.features.step_heads import StepHeads

        return StepHeads(scorer())
    if need == "responses_alone":
        from rsr.features.responses_alone import ResponsesAlone

        return ResponsesAlone(scorer())
    if need == "activations":
        from rsr.features.activations import Activations

        return Activations(scorer())
    from rsr.features.gradients import GradientSettings, ProjectedGradients, fitting_dimensions

    dimensions = fitting_dimensions(min(len(dataset.trajectories) for dataset in datasets))
    return ProjectedGradients(scorer(), GradientSettings(dimensions=dimensions))


def collect(
    metrics: Sequence[Metric],
    measured: Mapping[Need, Sequence[FeatureTable]],
    known: pl.DataFrame | None = None,
    skipped: Mapping[str, str] = {},
) -> Baselines:
    """The scores of metrics, from what was measured for them.

    Args:
        known: rows of metrics that nothing is measured for, as `rsr.metrics.aggregate.dataset_scores` has them.
        skipped: metrics that are left out, and why.
    """
    trajectories, tables = [pl.DataFrame(schema=SCHEMA)], [pl.DataFrame(schema=DATASET_SCHEMA)]
    for need, of_need in measured.items():
        chosen = [m for m in metrics if m.needs == need]
        trajectories.append(feature_scores(of_need, [m for m in chosen if "trajectory" in m.levels]))
        tables.append(feature_dataset_scores(of_need, [m for m in chosen if "trajectory" not in m.levels]))
    teachers = pl.DataFrame(schema=DATASET_SCHEMA) if known is None else known
    everything = [m for of_need in measured.values() for m in of_need]
    key = {
        "metrics": {m.name: {preset: dict(given) for preset, given in m.presets.items()} for m in metrics},
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


@locking
def tabulate(
    tokens: Scores | None,
    by_tokens: Iterable[str],
    baselines: Baselines,
    root: Path,
    label: str,
) -> Scores:
    """Tables of the chosen token metrics and of baselines, made once for the same measurements.

    Raises:
        InputError: they cannot be written.
    """
    by_tokens = list(by_tokens)
    key = {
        "stage": STAGE,
        "version": VERSION,
        "tokens": None if tokens is None else [digest(tokens.artefact.key), by_tokens],
        "baselines": baselines.key,
    }
    artefact = find_or_begin(root, STAGE, label, key)
    paths = [artefact.path / name for name in (TRAJECTORIES, DATASETS)]
    if artefact.manifest is None:
        table = dataset_scores(baselines.trajectories)
        frames = [baselines.trajectories, pl.concat([table, baselines.datasets])]
        if tokens is not None:
            wanted = pl.col("metric").is_in(by_tokens)
            of_tokens = (tokens.trajectories.filter(wanted), tokens.datasets.filter(wanted))
            frames = [pl.concat(pair) for pair in zip(of_tokens, frames, strict=True)]
        for path, frame in zip(paths, frames, strict=True):
            write_parquet(frame, path)
        with writing(artefact.path):
            write_csv(frames[1], paths[1].with_suffix(".csv"), digits=9)
        facts = {} if tokens is None else tokens.artefact.facts
        of_tokens_facts = {name: facts.get(name) for name in ("student", "scoring", "datasets")}
        artefact = artefact.complete(**of_tokens_facts, **baselines.facts)
    return Scores(artefact, *(read_parquet(artefact, path.name) for path in paths))
