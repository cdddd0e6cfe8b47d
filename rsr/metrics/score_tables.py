"""From datasets to score tables: the stage that `rsr score` and the experiments share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

import polars as pl

from rsr.data.trajectories import Dataset, OnError, dataset_name
from rsr.errors import InputError
from rsr.metrics.aggregate import DATASET_SCHEMA, SCHEMA, dataset_scores, token_metrics, trajectory_scores
from rsr.metrics.base import MEND, Metric, by_name
from rsr.store.artefacts import MANIFEST, Artefact, digest, find_or_begin, of_folder, reading, writing
from rsr.store.csv import write_csv
from rsr.store.locks import locking
from rsr.store.parquet import read_parquet, write_parquet
from rsr.tokens.token_store import TokenStore, of_each

if TYPE_CHECKING:
    from rsr.tokens.score_dataset import Backend

# Raised when what the score tables hold for the same key changes its meaning.
VERSION = 3
STAGE = "scores"
TRAJECTORIES, DATASETS = "trajectories.parquet", "datasets.parquet"
DATASET = pl.concat_str("teacher", "generation", separator="/").str.strip_chars_end("/")  # as `dataset_name` says it

Progress = Callable[[Dataset, int, int], None]


def silent(dataset: Dataset, characters: int, tokens: int) -> None:
    """Progress that nobody is told of."""


@dataclass(frozen=True)
class Scores:
    """Score tables on disk.

    Attributes:
        trajectories: one row per trajectory, metric and preset (columns: `rsr.metrics.aggregate.SCHEMA`).
        datasets: one row per dataset, metric and preset, with intervals over problems (see `rsr.metrics.aggregate.dataset_scores`).
    """

    artefact: Artefact
    trajectories: pl.DataFrame
    datasets: pl.DataFrame


def score(
    scorer: "Backend",
    datasets: Sequence[Dataset],
    root: Path,
    *,
    label: str,
    on_error: OnError = "error",
    process: tuple[int, int] = (0, 1),
    barrier: Callable[[], None] = lambda: None,
    progress: Progress = silent,
) -> Scores | None:
    """Score datasets and tabulate, or find it done; None in a process that is not the first.

    Args:
        root: folder of outputs.
        label: names the folder of the tables, for people.
        process, barrier: see `rsr.tokens.score_dataset.score_dataset`.
        progress: called with a dataset, and the characters and tokens of it that are done since the last call.

    Raises:
        InputError: whatever is wrong with data, settings or disk.
    """
    stores = token_stores(
        scorer, datasets, root, on_error=on_error, process=process, barrier=barrier, progress=progress
    )
    return None if process[0] else tabulate(stores, root, label)


def token_stores(
    scorer: "Backend",
    datasets: Sequence[Dataset],
    root: Path,
    *,
    on_error: OnError = "error",
    process: tuple[int, int] = (0, 1),
    barrier: Callable[[], None] = lambda: None,
    progress: Progress = silent,
) -> list[TokenStore]:
    """The token store of every dataset, scored where it is not there yet.

    Raises:
        InputError: see `score`.
    """
    from rsr.tokens.score_dataset import score_dataset

    score = partial(score_dataset, scorer, root=root, on_error=on_error, process=process, barrier=barrier)
    return [score(dataset, progress=partial(progress, dataset)) for dataset in datasets]


@locking
def tabulate(stores: Sequence[TokenStore], root: Path, label: str) -> Scores:
    """Tables of every token metric, made once for the same stores.

    Raises:
        InputError: the stores are not of one way of scoring, hold nothing scored, or the tables cannot be written.
    """
    if mixed := [s for s in stores if s.artefact.key["scoring"] != stores[0].artefact.key["scoring"]]:
        raise InputError(
            f"{stores[0].artefact.path} and {mixed[0].artefact.path} are not scored alike: "
            f"{stores[0].artefact.key['scoring']} and {mixed[0].artefact.key['scoring']}"
        )
    key = {
        "stage": STAGE,
        "version": VERSION,
        "stores": [
            [
                s.student,
                s.teacher,
                s.generation,
                s.skipped,
                s.unread,
                digest(s.artefact.key),
                s.artefact.facts.get("columns", []),
            ]
            for s in stores
        ],
        "metrics": {m.name: _declared(m) for m in token_metrics()},
    }
    _refuse_empty(stores)
    artefact = find_or_begin(root, STAGE, label, key)
    if artefact.manifest is None:
        rows = pl.concat(of_each(trajectory_scores, stores))
        table = dataset_scores(rows)
        write_parquet(rows, artefact.path / TRAJECTORIES)
        write_parquet(table, artefact.path / DATASETS)
        with writing(artefact.path):
            write_csv(table, (artefact.path / DATASETS).with_suffix(".csv"), digits=9)
        artefact = artefact.complete(
            student=stores[0].artefact.key["student"],
            scoring=stores[0].artefact.key["scoring"],
            datasets=[
                {
                    "teacher": s.teacher,
                    "generation": s.generation,
                    "data": s.artefact.key["data"],
                    "counts": s.artefact.facts["counts"] | {"malformed": s.skipped},
                    "notes": [*s.artefact.facts["notes"], *_unread(s)],
                }
                for s in stores
            ],
        )
    return _of(artefact)


def _refuse_empty(stores: Sequence[TokenStore]) -> None:
    """Tables without one value are no result, though every trajectory may have been left out with a good reason."""
    if any(store.artefact.facts["counts"]["response_tokens"] for store in stores):
        return
    reasons = [
        f"{store.name}, trajectory {row['id']}: {row['reason']}"
        for store in stores
        for row in store.artefact.facts["left_out"]
    ]
    raise InputError(f"no trajectory has a score: {reasons[0] if reasons else 'all are cut before their response'}")


def _of(artefact: Artefact) -> Scores:
    """The tables of a complete artefact."""
    trajectories = read_parquet(artefact, TRAJECTORIES, SCHEMA)
    return Scores(artefact, trajectories, read_parquet(artefact, DATASETS, DATASET_SCHEMA))


def _unread(store: TokenStore) -> list[str]:
    return [f"{store.name}: not read: {', '.join(store.unread)}"] if store.unread else []


def _declared(metric: Metric) -> dict[str, Any]:
    """What of a metric shapes its scores: its presets, and of a user's own function its code too."""
    presets: dict[str, Any] = {preset: dict(parameters) for preset, parameters in metric.presets.items()}
    if metric.compute is None or metric.compute.__module__.startswith("rsr."):
        return presets
    code = getattr(metric.compute, "__code__", None)
    if not isinstance(code, CodeType):
        raise InputError(f"{metric.name}: a metric is a plain function, so that a change of its code is noticed")
    return presets | {"code": _code(code)}


def _code(code: CodeType) -> list[Any]:
    constants = [_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return [code.co_code.hex(), [*code.co_names], constants]


def read(folder: Path) -> Scores:
    """Score tables from their folder.

    Raises:
        InputError: the folder holds none, or they are damaged.
    """
    if not (folder / MANIFEST).is_file():
        raise InputError(f"{folder}: holds no scores; it is a folder in outputs/{STAGE}/, as `rsr score` names it")
    artefact = of_folder(folder)
    with reading(folder / MANIFEST, KeyError):
        if artefact.key["stage"] != STAGE:
            raise InputError(f"{folder}: holds {artefact.key['stage']}, not scores")
        if missing := [name for name in ("student", "scoring", "datasets") if name not in artefact.facts]:
            raise KeyError(*missing)
    return _of(artefact)


def of_metric(trajectories: pl.DataFrame, metric: str, preset: str = "") -> pl.DataFrame:
    """The rows of one metric and preset, with the name of their dataset, and tokens where any metric of the table knows them.

    Raises:
        InputError: the table has none.
    """
    columns = by_name(metric).columns
    rows = trajectories.filter(metric=metric, preset=preset)
    if rows.is_empty():
        presets = trajectories.filter(metric=metric)["preset"].unique().sort().to_list()
        held = ", ".join(trajectories["metric"].unique().sort())
        known = f"; its presets are {', '.join(map(repr, presets))}" if presets else f"; they hold {held}"
        raise InputError(f"the scores hold no {metric}{f' ({preset})' if preset else ''}{known}")
    if columns and rows["value"].null_count() == len(rows):
        raise InputError(f"the scores hold no value of {metric}, which needs {columns[0]}: {MEND[columns[0]]}")
    return _with_tokens(rows, trajectories).with_columns(dataset=DATASET)


def _with_tokens(rows: pl.DataFrame, trajectories: pl.DataFrame) -> pl.DataFrame:
    """A text is as long in the rows of a metric that does not tokenise it as in those of one that does."""
    names = ["student", "teacher", "generation", "trajectory"]
    known = trajectories.filter(pl.col("tokens").is_not_null()).unique(names).select(*names, known="tokens")
    joined = rows.join(known, on=names, how="left", maintain_order="left")
    return joined.with_columns(tokens=pl.coalesce("tokens", "known")).drop("known")


def caveats(scores: Scores) -> list[str]:
    """Whatever was dropped, cut or not read, per dataset, and notes on the student."""
    facts = scores.artefact.facts
    names = {
        "truncated": f"truncated at {facts['scoring']['max_length']:,} tokens (--max-length)",
        "without_response_tokens": "without response tokens",
        "left_out": "could not be rendered verbatim and left out",
        "malformed": "malformed and left out",
    }
    lines = []
    for dataset in facts["datasets"]:
        counts = [f"{dataset['counts'][key]} {text}" for key, text in names.items() if dataset["counts"][key]]
        if counts:
            lines.append(f"{dataset_name(dataset['teacher'], dataset['generation'])}: {', '.join(counts)}")
    return lines + sorted({note for dataset in facts["datasets"] for note in dataset["notes"]})
