"""Jobs in processes of their own, so that what a job used is gone when it ends."""

import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from rsr.errors import InputError
from rsr.store.locks import Busy, impatient, is_busy
from rsr.student.threads import cores

LOOK_AGAIN = 1.0  # seconds, at what other workers are at

# Linux has one of these where a GPU is driven: by CUDA, by CUDA under Windows, on a Jetson, by ROCm.
GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/nvmap", "/dev/kfd")


def has_gpu() -> bool:
    """Whether torch sees a GPU; where there can be none it is not imported."""
    if sys.platform == "linux" and not any(Path(device).exists() for device in GPU_DEVICES):
        return False
    import torch

    return torch.cuda.is_available()


@dataclass(frozen=True)
class Job:
    """A function to be called in a process of its own.

    Attributes:
        run: importable by name; called with the arguments and, last, a function that takes (done, of all).
        log: file that gets what it prints, and the traceback of a failure.
        then: makes the jobs that can start when this one is done, from its result.
    """

    name: str
    run: Callable[..., Any]
    arguments: tuple[Any, ...]
    log: Path
    then: Callable[[Any], "Sequence[Job]"] = lambda result: ()


@dataclass(frozen=True)
class JobOutcome:
    """How a job ended: its result, or the error in one line."""

    seconds: float
    result: Any = None
    error: str | None = None


def run_all(
    jobs: Sequence[Job],
    processes: int,
    *,
    preloaded: Sequence[str] = (),
    started: Callable[[Job], None],
    advanced: Callable[[Job, int, int], None],
    put_off: Callable[[Job], None],
    ended: Callable[[Job, JobOutcome], bool],
) -> None:
    """Run jobs and those that follow from them, some at a time; those that another worker is at come when it is not.

    Args:
        preloaded: modules that are imported once, by the process that the jobs are forked from.
        put_off: called with a job that another worker is at.
        ended: called with every outcome; False stops: running jobs are ended, waiting ones not begun.
    """
    # The server that jobs are forked from takes the number of threads with it; what the user allows is not exceeded.
    share = max(1, cores() // processes)
    os.environ["OMP_NUM_THREADS"] = str(min(share, int(os.environ.get("OMP_NUM_THREADS", share))))
    context = get_context("forkserver")
    context.set_forkserver_preload(list(preloaded) if len(jobs) > 1 else [])
    waiting, running = deque(jobs), dict[Connection, tuple[Job, Any, float]]()
    elsewhere: dict[str, Path] = {}  # names of jobs, and the locks that others held
    try:
        while waiting or running:
            while len(running) < processes and (job := _next(waiting, elsewhere)):
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_child, args=(theirs, job.run, job.arguments, job.log), daemon=True)
                started(job)
                process.start()
                theirs.close()
                running[ours] = (job, process, time.perf_counter())
            if not running:
                time.sleep(LOOK_AGAIN)
            for connection in wait(list(running), LOOK_AGAIN if len(running) < processes else None):
                assert isinstance(connection, Connection)
                job, process, began = running[connection]
                try:
                    kind, content = connection.recv()
                except EOFError:
                    process.join()
                    kind, content = "error", f"its process ended with status {process.exitcode} (out of memory?)"
                if kind == "progress":
                    advanced(job, *content)
                    continue
                process.join()
                del running[connection]
                if kind == "busy":
                    elsewhere[job.name] = content
                    waiting.append(job)
                    put_off(job)
                    continue
                seconds = time.perf_counter() - began
                outcome = JobOutcome(seconds, **{kind: content})
                # What follows comes first: a teacher's evaluation before the next teacher's training.
                waiting.extendleft(job.then(content) if kind == "result" else ())
                if not ended(job, outcome):
                    return
    finally:
        for _, process, _ in running.values():
            process.kill()


def _next(waiting: deque[Job], elsewhere: Mapping[str, Path]) -> Job | None:
    """The first waiting job that no other worker is known to be at, taken out."""
    for job in waiting:
        lock = elsewhere.get(job.name)
        if lock is None or not is_busy(lock):
            waiting.remove(job)
            return job
    return None


def alone(run: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function called in a process of its own, which writes where this one does; its errors are raised."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_watch_parent) as pool:
        try:
            return pool.submit(run, *arguments).result()
        except BrokenProcessPool as error:
            raise InputError("a process of this study was ended from outside (out of memory?)") from error


def _child(connection: Connection, run: Callable[..., Any], arguments: tuple[Any, ...], log: Path) -> None:
    _watch_parent()
    with log.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    try:
        with impatient():
            result = run(*arguments, lambda done, total: connection.send(("progress", (done, total))))
    except Busy as busy:
        connection.send(("busy", busy.lock))
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        text = str(error).strip() or type(error).__name__
        connection.send(("error", text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"))
    else:
        connection.send(("result", result))


def _watch_parent() -> None:
    """A study that is killed leaves no job behind."""
    parent = parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
