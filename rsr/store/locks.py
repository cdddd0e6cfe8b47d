"""Locks: of the processes that share a folder of outputs, one at a time fills an artefact.

A lock is a file in `.locks` beside the stages, one for each key, held by `flock`. The system gives it up when its process
ends, however that ends, so nothing has to be cleaned up after a kill. Who holds it stands in the file, for people.
"""

import fcntl
import logging
import os
import uuid
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from pathlib import Path
from socket import gethostname
from typing import ParamSpec, TypeVar

LOG = logging.getLogger(__name__)
FOLDER = ".locks"

P = ParamSpec("P")
T = TypeVar("T")

_RANDOM = uuid.uuid4().hex[:8]
_held: dict[Path, int] = {}  # descriptors of the locks that this process holds


def process_name() -> str:
    """Of this process among all that may share a folder."""
    return f"{gethostname()}-{os.getpid()}-{_RANDOM}"


def acquire(lock: Path, artefact: str) -> None:
    """Hold a lock until `release`, waiting for another process that holds it.

    Args:
        artefact: what it guards, to be named while this process waits.

    Raises:
        OSError: the file cannot be made or locked.
    """
    if lock in _held:
        return
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
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


def locking(stage: Callable[P, T]) -> Callable[P, T]:
    """Let a function that fills artefacts release, when it ends, the locks of what it has begun and not completed."""

    @wraps(stage)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
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
