"""Locks: of the processes that share a folder of outputs, one at a time fills an artefact.

A lock is a file in `.locks` beside the stages, one for each key, held by `flock`. The system gives it up when its process
ends, however that ends, so nothing has to be cleaned up after a kill. Who holds it stands in the file, for people.
"""

import fcntl
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import wraps
from pathlib import Path
from socket import gethostname
from typing import ParamSpec, TypeVar

LOG = logging.getLogger(__name__)
FOLDER = ".locks"

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

_RANDOM = uuid.uuid4().hex[:8]
_held: dict[Path, int] = {}  # descriptors of the locks that this process holds
_patient = True


class Busy(Exception):
    """Another process holds a lock, and this one is not to wait.

    Attributes:
        lock: the file.
    """

    def __init__(self, lock: Path) -> None:
        super().__init__(lock)
        self.lock = lock


def worker() -> str:
    """Name of this process among all that may share a folder."""
    return f"{gethostname()}-{os.getpid()}-{_RANDOM}"


def acquire(lock: Path, artefact: str) -> None:
    """Hold a lock until `release`, waiting for another process that holds it.

    Args:
        artefact: what it guards, to be named while this process waits.

    Raises:
        Busy: another process holds it, and this one is `impatient`.
        OSError: the file cannot be made or locked.
    """
    if lock in _held:
        return
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _locked(descriptor):
            if not _patient:
                raise Busy(lock)
            LOG.warning("waiting for %s: %s", artefact, lock.read_text(encoding="utf-8").strip() or "another process")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        who = f"process {os.getpid()} on {gethostname()} is at it since {datetime.now().astimezone():%Y-%m-%d %H:%M:%S%z}\n"
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, who.encode(), 0)
    except BaseException:
        os.close(descriptor)
        raise
    _held[lock] = descriptor


def release(lock: Path) -> None:
    """Give up a lock; nothing where it is not held."""
    if (descriptor := _held.pop(lock, None)) is not None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # at once, whatever copies a forked child has
        os.close(descriptor)


def is_busy(lock: Path) -> bool:
    """Whether another process holds a lock."""
    with suppress(FileNotFoundError), lock.open("rb") as file:
        return not _locked(file.fileno())
    return False


def _locked(descriptor: int) -> bool:
    """Whether a lock could be taken at once."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def impatient() -> Iterator[None]:
    """In here `Busy` is raised where there is something to wait for."""
    global _patient
    before, _patient = _patient, False
    try:
        yield
    finally:
        _patient = before


def in_turn(work: Callable[[T], R], items: Sequence[T], process: tuple[int, int] = (0, 1)) -> list[R]:
    """The results of work on each item, in their order; what other processes are at is left for the end.

    Args:
        process: (index, number) of processes that do it together, which keep to the order if there are several.
    """
    results: dict[int, R] = {}
    for i, item in enumerate(items if process[1] == 1 else ()):
        with suppress(Busy), impatient():
            results[i] = work(item)
    return [results[i] if i in results else work(item) for i, item in enumerate(items)]


def locking(stage: Callable[P, R]) -> Callable[P, R]:
    """Let a function that fills artefacts release, when it ends, the locks of what it has begun and not completed."""

    @wraps(stage)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        before = set(_held)
        try:
            return stage(*args, **kwargs)
        finally:
            for lock in _held.keys() - before:
                release(lock)

    return call


def _close_inherited() -> None:
    """A forked child closes its copies: the locks are its parent's, and must not outlive it."""
    while _held:
        os.close(_held.popitem()[1])


os.register_at_fork(after_in_child=_close_inherited)
