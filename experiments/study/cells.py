"""The cells of a study are run by one driver, which hands those that are ready to an executor and says what becomes of them."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from experiments.app.executor import Event, Executor, Job, Resources
from experiments.app.processes import has_gpu, local_executor
from experiments.app.shared_configs import OnFailure, Study, StudyConfig, StudyExecutor
from experiments.study.run_table import RunTable
from rsr.errors import InputError
from rsr.store import locks
from rsr.store.artefacts import path_safe, write_text, writing
from rsr.student.threads import cores

# Imported once by the process that the cells of this machine are forked from.
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
    """Cells at a time on this machine."""
    return study.processes or (1 if has_gpu() else cores())


def cell_job(
    config: StudyConfig,
    stage: str,
    dataset: str,
    run: Callable[..., dict[str, Any]],
    arguments: tuple[Any, ...],
    then: Callable[[Any], Sequence[Job]] = lambda result: (),
    takes: Resources | None = None,
) -> Job:
    """The job that fills a cell; what it prints goes to a log beside those of the other cells.

    Args:
        run: see `experiments.app.executor.Job`; its result has the `seconds` of the work, whenever it was done.
        then: see `experiments.app.executor.Job`.
        takes: of a cluster; None is what is configured for its stage.
    """
    cell = f"{stage} {dataset}"
    return Job(cell, run, arguments, _file_of(config, cell, "log"), then, takes or resources_of(config, stage))


def resources_of(config: StudyConfig, stage: str) -> Resources:
    """What a cell of a stage takes of a cluster."""
    return Resources(getattr(config.study.num_cpus, stage) or 1, getattr(config.study.num_gpus, stage))


def run_cells(
    config: StudyConfig,
    runs: RunTable,
    jobs: Sequence[Job],
    done: Callable[[Job, dict[str, Any]], None] = lambda job, result: None,
) -> None:
    """Run jobs, and those that follow from them, and note in the run table how their cells end.

    Args:
        done: called with every job that did not fail, and its result.

    Raises:
        InputError: the executor cannot be had, or the outputs cannot be written.
    """
    if not jobs:
        return
    with _only_driver(config), _executor(config.study, len(jobs)) as executor, runs.shown():
        _walk(config, runs, executor, jobs, done)


@contextmanager
def _only_driver(config: StudyConfig) -> Iterator[None]:
    """One driver at a time runs the cells of a student: another on the same outputs says which, waits, and finds what it has made."""
    outputs, student = config.paths.outputs, config.student.name
    lock = outputs / locks.FOLDER / path_safe(f"study-{student}")
    with writing(outputs):
        locks.acquire(lock, f"the study of {student}")
    try:
        yield
    finally:
        locks.release(lock)


def _executor(study: Study, jobs: int) -> AbstractContextManager[Executor]:
    if study.executor is StudyExecutor.local:
        return local_executor(processes_of(study), PRELOADED if jobs > 1 else ())
    try:
        from experiments.app.ray_executor import ray_executor
    except ImportError as error:
        raise InputError('study.executor=ray needs Ray: pip install "rsr[ray]"') from error
    return ray_executor(study.address)


def _walk(
    config: StudyConfig,
    runs: RunTable,
    executor: Executor,
    ready: Sequence[Job],
    done: Callable[[Job, dict[str, Any]], None],
) -> None:
    """Hand the jobs that are ready to an executor until none is left, or one fails and the study is to stop."""
    begun = dict[str, float]()

    def start(jobs: Sequence[Job]) -> int:
        for job in jobs:
            job.log.parent.mkdir(parents=True, exist_ok=True)
            for kind in ("log", "error"):
                _file_of(config, job.name, kind).unlink(missing_ok=True)
        executor.start(jobs)
        return len(jobs)

    open_jobs = start(ready)
    while open_jobs:
        event = executor.wait()
        job, cell = event.job, event.job.name
        if event.kind == "begun":
            begun[cell] = time.perf_counter()
            runs.update(cell, state="running")
        elif event.kind == "progress":
            steps, total = event.content
            runs.update(cell, progress=steps / total)
        elif event.kind == "result":
            open_jobs += start(job.then(event.content)) - 1
            done(job, event.content)
            runs.update(cell, state="done", seconds=event.content["seconds"])
        else:
            open_jobs -= 1
            _note_failure(config, runs, event, time.perf_counter() - begun.get(cell, time.perf_counter()))
            if config.study.on_error is OnFailure["stop"]:
                _note_stop(runs)
                return


def _note_failure(config: StudyConfig, runs: RunTable, event: Event, seconds: float) -> None:
    runs.update(event.job.name, state="failed", seconds=seconds, error=event.content)
    write_text(_file_of(config, event.job.name, "error"), f"{event.content}\nlog: {event.job.log}\n")


def _note_stop(runs: RunTable) -> None:
    """Cells that are still running are ended as well."""
    for cell in runs.cells.values():
        if cell.state == "running":
            cell.state = "missing"


def _file_of(config: StudyConfig, cell: str, kind: str) -> Path:
    """What a cell leaves beside its artefacts: its log, or the error that it ended with."""
    return config.paths.outputs / "runs" / config.student.name / f"{path_safe(cell)}.{kind}"
