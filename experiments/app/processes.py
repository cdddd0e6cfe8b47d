"""The executor of one machine: jobs in processes of their own, so that what a job used is gone when it ends."""

import os
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from experiments.app.executor import Event, Executor, Job, call
from experiments.app.gpus import VISIBLE, gpus
from rsr.errors import InputError
from rsr.student.threads import allow, cores

# Linux has one of these where a GPU is driven: by CUDA, by CUDA under Windows, on a Jetson, by ROCm.
GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/nvmap", "/dev/kfd")


def has_gpu() -> bool:
    """Whether torch sees a GPU; where there can be none it is not imported."""
    if sys.platform == "linux" and not any(Path(device).exists() for device in GPU_DEVICES):
        return False
    import torch

    return torch.cuda.is_available()


@contextmanager
def local_executor(processes: int, preloaded: Sequence[str] = ()) -> Iterator[Executor]:
    """An executor that runs so many jobs at a time; what still runs at the end is ended.

    Jobs side by side see one GPU each, and share one only where there are more jobs than GPUs. A job that runs alone sees all.

    Args:
        preloaded: modules that are imported once, by the process that the jobs are forked from.
    """
    allow(max(1, cores() // processes))  # the server that jobs are forked from takes it with it
    executor = _Processes(processes, preloaded)
    try:
        yield executor
    finally:
        executor.end()


class _Processes:
    def __init__(self, most: int, preloaded: Sequence[str]) -> None:
        self._most, self._context = most, get_context("forkserver")
        self._context.set_forkserver_preload(list(preloaded))
        self._waiting, self._running = deque[Job](), dict[Connection, tuple[Job, Any, str | None]]()
        self._gpus = gpus() if most > 1 else []

    def start(self, jobs: Sequence[Job]) -> None:
        # What follows comes first: a teacher's evaluation before the next teacher's training.
        self._waiting.extendleft(reversed(jobs))

    def wait(self) -> Event:
        if self._waiting and len(self._running) < self._most:
            return self._begin(self._waiting.popleft())
        connection = wait(list(self._running))[0]
        assert isinstance(connection, Connection)
        job, process, _ = self._running[connection]
        try:
            kind, content = connection.recv()
        except EOFError:
            process.join()
            kind, content = "error", f"its process ended with status {process.exitcode} (out of memory?)"
        if kind != "progress":
            process.join()
            del self._running[connection]
        return Event(job, kind, content)

    def _begin(self, job: Job) -> Event:
        ours, theirs = self._context.Pipe(duplex=False)
        taken = Counter(gpu for _, _, gpu in self._running.values())
        gpu = min(self._gpus, key=taken.__getitem__, default=None)
        process = self._context.Process(target=_child, args=(theirs, job.sent(), gpu), daemon=True)
        process.start()
        theirs.close()
        self._running[ours] = (job, process, gpu)
        return Event(job, "begun")

    def end(self) -> None:
        """End what still runs."""
        for _, process, _ in self._running.values():
            process.kill()


def alone(run: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function called in a process of its own, which writes where this one does; its errors are raised."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_watch_parent) as pool:
        try:
            return pool.submit(run, *arguments).result()
        except BrokenProcessPool as error:
            raise InputError("a process of this study was ended from outside (out of memory?)") from error


def _child(connection: Connection, job: Job, gpu: str | None) -> None:
    _watch_parent()
    if gpu is not None:
        os.environ[VISIBLE] = gpu
    connection.send(call(job, lambda done, total: connection.send(("progress", (done, total)))))


def _watch_parent() -> None:
    """A study that is killed leaves no job behind."""
    parent = parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
