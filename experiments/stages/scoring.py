"""The scoring stage as configured; what it does is `rsr.metrics.score_tables`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

from experiments.app.shared_configs import Engine, ScoreConfig, ScoringConfig
from experiments.stages import students, teacher_data
from rsr.cli.progress import TokenProgress
from rsr.data.trajectories import Dataset
from rsr.errors import InputError
from rsr.metrics import score_tables
from rsr.metrics.score_tables import Scores
from rsr.student.settings import SPREAD
from rsr.tokens.settings import Scoring
from rsr.tokens.token_store import TokenStore

if TYPE_CHECKING:
    from rsr.tokens.score_dataset import Backend

# Settings of the transformers backend that vLLM has no place for.
NOT_OF_VLLM = ("head_dtype", "expectations", "beyond_positions", "attention", "device", "token_budget")


def score(config: ScoreConfig) -> Scores | None:
    """Score every dataset of the teachers and tabulate; None in a process that is not the first.

    Raises:
        InputError: whatever is wrong with student, data, settings or disk.
    """
    scorer, data, options = _prepare(config)
    with _progress(data, options["process"]) as progress:
        return score_tables.score(
            scorer,
            data,
            config.paths.outputs,
            label=f"{config.student.name}-{config.teachers.name}",
            progress=progress,
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
    with _progress(data, options["process"], report) as progress:
        stores = score_tables.token_stores(scorer, data, config.paths.outputs, progress=progress, **options)
    return None if options["process"][0] else stores


def token_stores_on_ray(
    config: ScoreConfig, resources: Mapping[str, float], report: Callable[[int, int], None]
) -> list[TokenStore]:
    """The same on the Ray cluster that this process is connected to.

    Args:
        resources: see `rsr.tokens.ray_scoring.score_on_ray`.

    Raises:
        InputError: see there.
    """
    from rsr.tokens.ray_scoring import score_on_ray

    data = teacher_data.load(config.teachers, config.scoring, config.paths)
    with _progress(data, (0, 1), report) as progress:
        return score_on_ray(
            partial(_backend, config, 1),
            data,
            config.paths.outputs,
            resources=resources,
            on_error=config.scoring.on_error.value,
            progress=progress,
        )


def _progress(
    data: Sequence[Dataset], process: tuple[int, int], report: Callable[[int, int], None] = lambda done, total: None
) -> TokenProgress:
    """Progress of what all processes do, shown by the first of them."""
    index, processes = process
    return TokenProgress(data, 0 if index else processes, report)


def _prepare(config: ScoreConfig) -> "tuple[Backend, list[Dataset], dict[str, Any]]":
    """Student and data, and the options of scoring for this process."""
    from accelerate import PartialState

    data = teacher_data.load(config.teachers, config.scoring, config.paths)
    state = PartialState(cpu=config.scoring.device == "cpu")
    with state.main_process_first():
        scorer = _backend(config, state.num_processes)
    options = {
        "on_error": config.scoring.on_error.value,
        "process": (state.process_index, state.num_processes),
        "barrier": state.wait_for_everyone,
    }
    return scorer, data, options


def _backend(config: ScoreConfig, processes: int) -> "Backend":
    from rsr.tokens.late_scorer import LateScorer

    if config.scoring.backend is Engine.transformers:
        if processes > 1 and config.scoring.device == SPREAD:
            raise InputError("scoring.device=auto takes all devices in one process: start it without accelerate launch")
        model = students.model_of(config.student, config.paths)
        loading = students.loading_of(config.student, config.scoring)
        return LateScorer(model, loading, settings_of(config.scoring), name=config.student.name)
    default = ScoringConfig()
    if given := [name for name in NOT_OF_VLLM if getattr(config.scoring, name) != getattr(default, name)]:
        raise InputError(f"scoring.backend=vllm has no scoring.{given[0]}: leave it out")
    if processes > 1:
        raise InputError("scoring.backend=vllm runs in one process, without accelerate launch")
    return students.load_in_vllm(config.student, config.scoring, config.paths)


def settings_of(config: ScoringConfig) -> Scoring:
    """The settings of rsr's own engine as configured."""
    names = {setting.name for setting in fields(Scoring)} & {*vars(config)}
    values: dict[str, Any] = {name: getattr(config, name) for name in names}
    return Scoring(**values | {"head_dtype": config.head_dtype.value})
