"""The executor of a Ray cluster, or of one machine with several GPUs: Ray places jobs where there is room, and repeats what a lost
node took with it.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from experiments.app.executor import Event, Executor, Job, Resources, call
from rsr.errors import InputError
from rsr.student import threads
from rsr.tokens.ray_scoring import connected

RETRIES = 3  # of a job whose process or node is lost
LOOK = 0.5  # seconds between looks at what jobs say of their progress


@contextmanager
def ray_executor(address: str) -> Iterator[Executor]:
    """An executor on the cluster at an address; what still runs at the end is ended.

    Args:
        address: see `rsr.tokens.ray_scoring.connected`.

    Raises:
        InputError: there is no such cluster.
    """
    try:
        with connected(address):
            yield _Cluster()
    except ConnectionError as error:
        raise InputError(
            f"no Ray cluster at study.address={address}: start one (ray start --head), or give study.address=local"
        ) from error


class _Cluster:
    def __init__(self) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._said = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        self._running: dict[Any, Job] = {}
        self._events = deque[Event]()

    def start(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            task = ray.remote(max_calls=1)(_call).options(name=job.name, max_retries=RETRIES, **placed(job.takes))
            self._running[task.remote(job.sent(), self._said, Path.cwd())] = job

    def wait(self) -> Event:
        while not self._events:
            ended, _ = ray.wait(list(self._running), timeout=LOOK)
            named = {job.name: job for job in self._running.values()}
            said = self._said.get_nowait_batch(self._said.qsize())
            self._events += [Event(named[name], kind, content) for name, kind, content in said if name in named]
            self._events += [_ended(self._running.pop(reference), reference) for reference in ended]
        return self._events.popleft()


def apart(takes: Resources, run: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function called in a process of the cluster of its own, from within a job; its errors are raised."""
    task = ray.remote(max_calls=1)(_apart).options(max_retries=RETRIES, **placed(takes))
    try:
        return ray.get(task.remote(Path.cwd(), takes, run, arguments))
    except RayTaskError as error:
        raise error.cause from None


def _apart(folder: Path, takes: Resources, run: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    _prepare(folder, takes)
    return run(*arguments)


def placed(takes: Resources) -> dict[str, float]:
    """Resources in Ray's words."""
    gpus = float("GPU" in ray.cluster_resources()) if takes.gpus is None else takes.gpus
    return {"num_cpus": takes.cpus, "num_gpus": gpus}


def _ended(job: Job, reference: Any) -> Event:
    try:
        return Event(job, *ray.get(reference))
    except RayError as error:
        line = str(error).strip().partition("\n")[0]
        return Event(job, "error", f"lost {RETRIES + 1} times: {line}")


def _call(job: Job, said: Queue, folder: Path) -> tuple[str, Any]:
    """The task of a job.

    Args:
        folder: where relative paths start.
    """
    _prepare(folder, job.takes)
    looked = 0.0

    def say(kind: str, content: Any) -> None:
        # Not waited for: Ray would give the core of a job that waits to another one.
        said.actor.put_nowait.remote((job.name, kind, content))

    def advance(done: int, total: int) -> None:
        nonlocal looked
        if time.monotonic() - looked >= LOOK:
            say("progress", (done, total))
            looked = time.monotonic()

    say("begun", None)
    return call(job, advance)


def _prepare(folder: Path, takes: Resources) -> None:
    """Make a new process of Ray's one of this program's."""
    os.chdir(folder)
    threads.set_policy()
    threads.allow(max(1, int(takes.cpus)))
