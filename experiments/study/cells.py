"""The cells of a study are run by one loop, each in a process of its own, and the run table says what becomes of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.app.processes import Job, JobOutcome, has_gpu, run_all
from experiments.app.shared_configs import OnFailure, Study, StudyConfig
from experiments.study.run_table import RunTable
from rsr.store.artefacts import path_safe, write_text
from rsr.student.threads import cores

# Imported once by the process that the cells are forked from.
PRELOADED = (
    "experiments.study.study",
    "torch",
    "trl",
    "peft",
    "eval.batches",
    "eval.model",
    "lm_eval.api.task",
    "eval.performance",
    "train.sft",
    "rsr.tokens.engine",
)


def processes_of(study: Study) -> int:
    """Cells at a time."""
    return study.processes or (1 if has_gpu() else cores())


def cell_job(
    config: StudyConfig,
    cell: str,
    run: Callable[..., dict[str, Any]],
    arguments: tuple[Any, ...],
    then: Callable[[Any], Sequence[Job]] = lambda result: (),
) -> Job:
    """The job that fills a cell; what it prints goes to a log beside those of the other cells.

    Args:
        run: see `experiments.app.processes.Job`; its result has the `seconds` of the work, whichever worker did it.
        then: see `experiments.app.processes.Job`.
    """
    return Job(cell, run, arguments, _file_of(config, cell, "log"), then)


def run_cells(
    config: StudyConfig,
    runs: RunTable,
    jobs: Sequence[Job],
    done: Callable[[Job, dict[str, Any]], None] = lambda job, result: None,
) -> None:
    """Run jobs, and those that follow from them, and note in the run table how their cells end.

    Args:
        done: called with every job that did not fail, and its result.
    """

    def started(job: Job) -> None:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        for kind in ("log", "error"):
            _file_of(config, job.name, kind).unlink(missing_ok=True)
        runs.update(job.name, state="running")

    def ended(job: Job, outcome: JobOutcome) -> bool:
        if outcome.error is None:
            done(job, outcome.result)
            runs.update(job.name, state="done", seconds=outcome.result["seconds"])
            return True
        runs.update(job.name, state="failed", seconds=outcome.seconds, error=outcome.error)
        write_text(_file_of(config, job.name, "error"), f"{outcome.error}\nlog: {job.log}\n")
        if config.study.on_error is OnFailure["continue"]:
            return True
        for cell in runs.cells.values():
            if cell.state == "running":  # is ended as well
                cell.state = "missing"
        return False

    with runs.shown():
        run_all(
            jobs,
            processes_of(config.study),
            preloaded=PRELOADED,
            started=started,
            advanced=lambda job, steps, total: runs.update(job.name, progress=steps / total),
            put_off=lambda job: runs.update(job.name, state="elsewhere"),
            ended=ended,
        )


def _file_of(config: StudyConfig, cell: str, kind: str) -> Path:
    """What a cell leaves beside its artefacts: its log, or the error that it ended with."""
    folder = config.paths.outputs / "runs" / config.student.name
    if config.study.worker:
        folder /= f"worker-{config.study.worker}"
    return folder / f"{path_safe(cell)}.{kind}"
