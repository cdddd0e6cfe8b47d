"""The scoring stage: token stores of every dataset, and the tables made from them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
from rich.console import Console
from rich.table import Table as Grid

from experiments import datasets, students
from experiments.config import ScoreConfig, ScoringConfig
from experiments.progress import TokenProgress
from rsr.artefacts import Artefact, digest, find_or_begin, writing
from rsr.scores import dataset_scores, token_metrics, trajectory_scores
from rsr.store import TokenStore

if TYPE_CHECKING:
    from rsr.engine import Scoring

# Raised when what the score tables hold for the same key changes its meaning.
VERSION = 1
STAGE = "scores"
TRAJECTORIES, DATASETS = "trajectories.parquet", "datasets.parquet"
BESIDE = ("avg_surprisal", "avg_rank_clipped", "avg_token_length")  # shown beside RSR, with intervals in the files


@dataclass(frozen=True)
class Scores:
    """Score tables on disk.

    Attributes:
        trajectories: one row per trajectory, metric and preset.
        datasets: one row per dataset, metric and preset, with intervals over problems.
    """

    artefact: Artefact
    trajectories: pl.DataFrame
    datasets: pl.DataFrame


def score(config: ScoreConfig) -> Scores | None:
    """Score every dataset of the teachers and tabulate; None in a process that is not the first.

    Raises:
        InputError: whatever is wrong with student, data, settings or disk.
    """
    stores = token_stores(config)
    return None if stores is None else tabulate(stores, config)


def token_stores(config: ScoreConfig) -> list[TokenStore] | None:
    """The token store of every dataset, scored where it is not there yet; None in a process that is not the first.

    Raises:
        InputError: see `score`.
    """
    from accelerate import PartialState

    from rsr.engine import Scorer
    from rsr.scoring import score_dataset

    data = datasets.load(config.teachers, config.scoring)
    state = PartialState(cpu=config.scoring.device == "cpu")
    with state.main_process_first():
        student = students.load(config.student, config.scoring, config.paths)
    scorer = Scorer(student, settings_of(config.scoring))
    with TokenProgress(data, state.num_processes if state.is_main_process else 0) as progress:
        stores = [
            score_dataset(
                scorer,
                dataset,
                config.paths.outputs,
                on_error=config.scoring.on_error.value,
                process=(state.process_index, state.num_processes),
                barrier=state.wait_for_everyone,
                progress=progress.of(dataset),
            )
            for dataset in data
        ]
    return stores if state.is_main_process else None


def settings_of(config: ScoringConfig) -> "Scoring":
    """The engine's settings as configured."""
    from rsr.engine import Scoring

    return Scoring(
        max_length=config.max_length,
        beyond_positions=config.beyond_positions,
        head_dtype=config.head_dtype.value,
        token_budget=config.token_budget,
    )


def tabulate(stores: list[TokenStore], config: ScoreConfig) -> Scores:
    """Tables of every token metric, made once for the same stores."""
    bootstrap = config.bootstrap
    key = {
        "stage": STAGE,
        "version": VERSION,
        "stores": [[s.student, s.teacher, s.generation, s.skipped, digest(s.artefact.key)] for s in stores],
        "metrics": {m.name: {preset: dict(of) for preset, of in m.presets.items()} for m in token_metrics()},
        "bootstrap": [bootstrap.resamples, bootstrap.seed],
    }
    artefact = find_or_begin(config.paths.outputs, STAGE, f"{config.student.name}-{config.teachers.name}", key)
    if artefact.manifest is None:
        rows = pl.concat([trajectory_scores(store) for store in stores])
        table = dataset_scores(rows, resamples=bootstrap.resamples, seed=bootstrap.seed)
        with writing(artefact.path):
            rows.write_parquet(artefact.path / TRAJECTORIES)
            table.write_parquet(artefact.path / DATASETS)
            table.write_csv((artefact.path / DATASETS).with_suffix(".csv"), float_precision=9)
        artefact = artefact.complete(
            student=stores[0].artefact.key["student"],
            scoring=stores[0].artefact.key["scoring"],
            datasets=[
                {
                    "teacher": s.teacher,
                    "generation": s.generation,
                    "counts": s.artefact.facts["counts"] | {"malformed": s.skipped},
                    "template_adds": s.artefact.facts["template_adds"],
                }
                for s in stores
            ],
        )
    return Scores(artefact, pl.read_parquet(artefact.path / TRAJECTORIES), pl.read_parquet(artefact.path / DATASETS))


def show(scores: Scores) -> None:
    """Print one line per dataset, best RSR first, what was counted, and where the tables are."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    facts = scores.artefact.facts
    console.print(
        f"{scores.datasets['student'][0]}, {facts['student']['dtype']}, max_length {facts['scoring']['max_length']}; "
        "lower RSR is better",
        style="bold",
    )
    grid = Grid("teacher", "n", "RSR [95 %]", "surprisal", "clipped rank", "length", box=None, padding=(0, 2, 0, 0))
    shown = scores.datasets.filter(pl.col("preset") == "").with_columns(
        name=pl.concat_str("teacher", "generation", separator="/").str.strip_chars_end("/")
    )
    by_rsr = shown.filter(metric="rsr").sort("value", nulls_last=True)
    for name in by_rsr["name"]:
        cells = {row["metric"]: row for row in shown.filter(name=name).iter_rows(named=True)}
        grid.add_row(
            name, str(cells["rsr"]["n"]), _interval(cells["rsr"]), *(_value(cells[metric]) for metric in BESIDE)
        )
    console.print(grid)
    for line in [*_counted(facts["datasets"]), *_different_problems(scores.trajectories)]:
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"Written to {scores.artefact.path}", markup=False, soft_wrap=True)


def _interval(row: dict[str, Any]) -> str:
    return "no value" if row["value"] is None else f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _value(row: dict[str, Any]) -> str:
    return (
        "no value" if row["value"] is None else f"{row['value']:.3f}" if row["value"] < 100 else f"{row['value']:.0f}"
    )


def _different_problems(trajectories: pl.DataFrame) -> list[str]:
    """Datasets compare on the same problems; say so where theirs are not."""
    one_row_each = trajectories.filter(metric="rsr", preset="")
    problems = [set(of["problem"]) for _, of in one_row_each.group_by("teacher", "generation")]
    shared, every = len(set.intersection(*problems)), len(set.union(*problems))
    if shared == every:
        return []
    return [f"the datasets hold different problems, {shared} of {every} are in all: their scores compare only in part"]


def _counted(facts: list[dict[str, Any]]) -> list[str]:
    """Whatever was dropped or cut, per dataset, and text that the template adds."""
    lines = []
    names = {
        "truncated": "truncated",
        "without_response_tokens": "without response tokens",
        "left_out": "could not be rendered verbatim and left out",
        "malformed": "malformed and left out",
    }
    for dataset in facts:
        counted = [f"{dataset['counts'][key]} {text}" for key, text in names.items() if dataset["counts"][key]]
        if counted:
            lines.append(f"{dataset['teacher']}/{dataset['generation']}: {', '.join(counted)}")
    added = sorted({text for dataset in facts for text in dataset["template_adds"]})
    return lines + [
        f"the chat template adds text of its own to chats without a system message: {text!r}" for text in added
    ]
