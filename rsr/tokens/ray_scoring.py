"""Scoring on a Ray cluster: actors hold the student and take windows of any dataset, the longest first.

An actor that dies is replaced, and what it was at goes to another one. What is scored lies on disk, in the token stores that a process
of its own would fill: all machines see the folder of outputs under one path.
"""

import logging
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, cast

import ray
from ray.exceptions import RayActorError, RayTaskError

from rsr.data.trajectories import Dataset, OnError
from rsr.errors import InputError
from rsr.store.locks import locking
from rsr.student import threads
from rsr.student.student import AnyStudent
from rsr.tokens.late_scorer import LateScorer
from rsr.tokens.score_dataset import (
    Backend,
    DatasetScoring,
    begin_scoring,
    complete,
    render,
    score_rendered,
    write_window,
)
from rsr.tokens.token_store import TokenStore

AT_ONCE = 2  # works of an actor: one is rendered while another is scored
RETRIES = 3  # of a work whose actor is lost
KINDS = {"num_cpus": "CPU", "num_gpus": "GPU"}  # what an actor asks for, and what a cluster has

Progress = Callable[[Dataset, int, int], None]


@dataclass(frozen=True)
class RemoteBackend:
    """A backend of another process, as far as token stores are found and cut by it."""

    student: AnyStudent
    max_length: int
    token_budget: int
    identity: dict[str, Any]


@dataclass(frozen=True)
class _Work:
    """A window of a dataset to be scored; None is the dataset to be completed.

    Attributes:
        dataset: its place among the datasets.
    """

    dataset: int
    window: range | None = None
    characters: int = 0


Call = Callable[[_Work], tuple[str, tuple[Any, ...]]]  # the method of an actor that does a work, and its arguments


@contextmanager
def connected(address: str, **room: float) -> Iterator[None]:
    """This process as the driver of a Ray cluster; what still runs at the end is ended.

    Args:
        address: host:port, "auto" for the cluster that this machine is part of, "local" for one of this machine alone that ends
            with this process.
        room: num_cpus and num_gpus of a local one; else all that are there.

    Raises:
        ConnectionError: there is no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Of a local one: processes of Ray's own niceness, 15, would wait for whatever else runs here.
    os.environ.setdefault("RAY_worker_niceness", "0")
    terminated = signal.getsignal(signal.SIGTERM)
    ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **room)
    try:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminated)  # Ray's own would end this process without a word
        yield
    finally:
        ray.shutdown()


def score_on_devices(
    scorer: LateScorer,
    datasets: Sequence[Dataset],
    root: Path,
    devices: int,
    *,
    on_error: OnError = "error",
    progress: Progress,
) -> list[TokenStore]:
    """The token store of every dataset, scored where it is not there yet by processes of this machine.

    Args:
        scorer: what scores, in each of them.
        devices: processes, with a GPU each; of a student on the CPU, with an equal share of the cores.

    Raises:
        InputError: this machine has fewer, a device is named, or what `score_on_ray` raises.
    """
    import torch

    named, on_gpus = scorer.loading.device, scorer.student.identity["device"] == "cuda"
    if named not in (None, "cpu", "cuda"):
        raise InputError(f"devices={devices} takes the first ones of this machine: leave out device={named}")
    there = torch.cuda.device_count() if on_gpus else threads.cores()
    if not 0 < devices <= there:
        raise InputError(f"devices={devices}: this machine has {there} {'GPUs' if on_gpus else 'cores'}")
    each = {"num_cpus": 1 if on_gpus else there // devices, "num_gpus": int(on_gpus)}
    with connected("local", **{kind: devices * share for kind, share in each.items()}):
        return score_on_ray(lambda: scorer, datasets, root, resources=each, on_error=on_error, progress=progress)


@locking
def score_on_ray(
    make: Callable[[], Backend],
    datasets: Sequence[Dataset],
    root: Path,
    *,
    resources: Mapping[str, float],
    on_error: OnError = "error",
    progress: Progress,
) -> list[TokenStore]:
    """The token store of every dataset, scored where it is not there yet by the cluster that this process is connected to.

    Args:
        make: makes what scores, in each actor.
        resources: of an actor: num_cpus, num_gpus.

    Raises:
        InputError: see `rsr.tokens.score_dataset.score_dataset`; or actors are lost again and again.
    """
    actors = _Actors(make, resources)
    try:
        scorer = actors.backend()
        # In one order everywhere: two processes that hold locks and want each other's would wait for ever.
        order = sorted(range(len(datasets)), key=lambda i: datasets[i].digest())
        begun = {i: begin_scoring(scorer, datasets[i], root, on_error, partial(progress, datasets[i])) for i in order}
        _finish(actors, begun, progress)
    finally:
        actors.end()
    return [begun[i].store() for i in range(len(datasets))]


def _finish(actors: "_Actors", begun: Mapping[int, DatasetScoring], progress: Progress) -> None:
    """Score what is wanted of datasets, and complete each when all of it is there."""
    sized = [
        _Work(i, w, sum(t.characters for t in scoring.within(w)))
        for i, scoring in begun.items()
        for w in scoring.wanted
    ]
    left = Counter(work.dataset for work in sized)
    whole = [_Work(i) for i, scoring in begun.items() if scoring.artefact.manifest is None and not left[i]]
    works = deque([*whole, *sorted(sized, key=lambda work: -work.characters)])
    seconds, tokens = Counter[int](), Counter[int]()

    def call(work: _Work) -> tuple[str, tuple[Any, ...]]:
        scoring = begun[work.dataset]
        if work.window is None:
            return "complete", (replace(scoring, known=None), seconds[work.dataset], tokens[work.dataset])
        return "score", (scoring.part(work.window), work.window)

    for work, result in actors.run(works, call):
        if work.window is None:
            continue
        i = work.dataset
        tokens[i] += result[0]
        seconds[i] += result[1]
        progress(begun[i].dataset, work.characters, result[0])
        left[i] -= 1
        if not left[i]:
            works.appendleft(_Work(i))


@dataclass(eq=False)
class _Actor:
    """An actor as the driver sees it.

    Attributes:
        busy: works that it has.
        lost: whether it has died.
    """

    handle: Any
    busy: int = 0
    lost: bool = False


class _Actors:
    """The actors of one run: as many as there is room for, and work to do."""

    def __init__(self, make: Callable[[], Backend], resources: Mapping[str, float]) -> None:
        self._class = ray.remote(_Scorer).options(max_concurrency=AT_ONCE, **resources)
        self._make, self._resources = make, resources
        self._actors: list[_Actor] = []
        self._idle = deque[_Actor]()  # an actor stands here once for each work that it could take
        self._flying: dict[Any, tuple[_Actor, _Work | None]] = {}
        self._losses = Counter[_Work | None]()
        self._add()

    def backend(self) -> RemoteBackend:
        """What the first actor says of itself: its machine may have another device than this one."""
        backend: RemoteBackend | None = None
        while backend is None:
            _, backend = self._next(deque())
        return backend

    def run(self, works: deque[_Work], call: Call) -> Iterator[tuple[_Work, Any]]:
        """Have works done, to which more may be added meanwhile; yields each that is done, and its result."""
        for _ in range(min(self._room(), len(works)) - len(self._actors)):
            self._add()
        while works or any(actor.busy for actor in self._actors):
            self._hand_out(works, call)
            work, result = self._next(works)
            if work is not None:
                yield work, result

    def end(self) -> None:
        """End the actors."""
        for actor in self._actors:
            ray.kill(actor.handle)

    def _room(self) -> int:
        there = ray.cluster_resources()
        return max(1, int(min(there.get(KINDS[kind], 0) / share for kind, share in self._resources.items() if share)))

    def _add(self) -> None:
        actor = _Actor(self._class.remote(self._make, Path.cwd(), max(1, int(self._resources.get("num_cpus", 1)))))
        self._actors.append(actor)
        for _ in range(AT_ONCE):
            self._flying[actor.handle.described.remote()] = (actor, None)

    def _hand_out(self, works: deque[_Work], call: Call) -> None:
        """Give works to actors that have room; the last ones only to those that have nothing to do."""
        passed_over = list[_Actor]()
        while works and self._idle:
            actor = self._idle.popleft()
            if actor.busy and len(works) <= len(self._actors):
                passed_over.append(actor)
                continue
            work = works.popleft()
            method, arguments = call(work)
            self._flying[getattr(actor.handle, method).remote(*arguments)] = (actor, work)
            actor.busy += 1
        self._idle.extendleft(passed_over)

    def _next(self, works: deque[_Work]) -> tuple[_Work | None, Any]:
        """What an actor has done next, and the result; what was lost goes back to the works, first of all."""
        (reference,), _ = ray.wait(list(self._flying))
        actor, work = self._flying.pop(reference)
        actor.busy -= work is not None
        try:
            result = ray.get(reference)
        except RayActorError as error:
            self._replace(actor, work, error)
            works.extendleft([] if work is None else [work])
            return None, None
        except RayTaskError as error:
            raise error.cause from None
        if not actor.lost:
            self._idle.append(actor)
        return work, result

    def _replace(self, actor: _Actor, work: _Work | None, error: RayActorError) -> None:
        self._losses[work] += 1
        if self._losses[work] > RETRIES * (AT_ONCE * len(self._actors) if work is None else 1):
            line = str(error).strip().partition("\n")[0]
            raise InputError(f"processes that score are lost again and again (out of memory?): {line}")
        if not actor.lost:
            actor.lost = True
            self._actors.remove(actor)
            self._idle = deque(other for other in self._idle if other is not actor)
            self._add()


class _Scorer:
    """What an actor is: a process that holds the student.

    Args:
        folder: where relative paths start.
        cores: that it may use.
    """

    def __init__(self, make: Callable[[], Backend], folder: Path, cores: int) -> None:
        threads.set_policy()
        threads.allow(cores)
        os.chdir(folder)
        self._make, self._scorer = make, cast(Backend, None)  # until it is described
        self._described: RemoteBackend | None = None
        self._rendering, self._scoring = Lock(), Lock()

    def described(self) -> RemoteBackend:
        """Make what scores, if that is still to be done; every thread is asked for it first."""
        with self._scoring:
            if self._described is None:
                made = self._make()
                self._described = RemoteBackend(made.student, made.max_length, made.token_budget, made.identity)
                self._scorer = made
        return self._described

    def score(self, part: DatasetScoring, window: range) -> tuple[int, float]:
        """Score a window and write its shards; returns its tokens and the seconds of their forward passes."""
        with self._rendering:
            rendered = render(self._scorer, part, window)
        with self._scoring:
            began = time.perf_counter()
            shard = score_rendered(self._scorer, part.dataset, rendered)
            seconds = time.perf_counter() - began
        write_window(part, window, shard)
        return rendered.tokens, seconds

    def complete(self, scoring: DatasetScoring, seconds: float, tokens: int) -> None:
        """Complete the token store of a dataset, unless an actor has that was lost in that moment."""
        with self._rendering, self._scoring:
            if scoring.store().artefact.manifest is None:
                complete(scoring, self._scorer, seconds, tokens)
