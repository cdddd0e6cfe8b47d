"""The scoring stage as configured; what it does is `rsr.tables`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from experiments import datasets, students
from experiments.config import ScoreConfig, ScoringConfig
from rsr import tables
from rsr.store import TokenStore
from rsr.tables import Scores
from rsr.trajectories import Dataset

if TYPE_CHECKING:
    from rsr.engine import Scorer, Scoring


def score(config: ScoreConfig) -> Scores | None:
    """Score every dataset of the teachers and tabulate; None in a process that is not the first.

    Raises:
        InputError: whatever is wrong with student, data, settings or disk.
    """
    scorer, data, options = _prepare(config)
    return tables.score(
        scorer,
        data,
        config.paths.outputs,
        label=f"{config.student.name}-{config.teachers.name}",
        resamples=config.bootstrap.resamples,
        seed=config.bootstrap.seed,
        **options,
    )


def token_stores(
    config: ScoreConfig, report: Callable[[int, int], None] = lambda done, of: None
) -> list[TokenStore] | None:
    """The token store of every dataset, scored where it is not there yet; None in a process that is not the first.

    Args:
        report: called with the characters that are done and the number of all.

    Raises:
        InputError: see `score`.
    """
    scorer, data, options = _prepare(config)
    stores = tables.token_stores(scorer, data, config.paths.outputs, report=report, **options)
    return None if options["process"][0] else stores


def _prepare(config: ScoreConfig) -> "tuple[Scorer, list[Dataset], dict[str, Any]]":
    """Student and data, and the options of scoring for this process."""
    from accelerate import PartialState

    from rsr.engine import Scorer

    data = datasets.load(config.teachers, config.scoring, config.paths)
    state = PartialState(cpu=config.scoring.device == "cpu")
    with state.main_process_first():
        student = students.load(config.student, config.scoring, config.paths)
    options = {
        "on_error": config.scoring.on_error.value,
        "process": (state.process_index, state.num_processes),
        "barrier": state.wait_for_everyone,
    }
    return Scorer(student, settings_of(config.scoring)), data, options


def settings_of(config: ScoringConfig) -> "Scoring":
    """The engine's settings as configured."""
    from rsr.engine import Scoring

    return Scoring(
        max_length=config.max_length,
        beyond_positions=config.beyond_positions,
        head_dtype=config.head_dtype.value,
        token_budget=config.token_budget,
    )
