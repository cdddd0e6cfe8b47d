"""Locks: of the processes that share a folder of outputs, one at a time fills an artefact.

A lock is a file in `.locks` beside the stages, one for each key, held by `flock` (`filelock`). The system gives it up when its
process ends, however that ends, so nothing has to be cleaned up after a kill. Who holds it stands in the file, for people.
"""

import logging
import os
import uuid
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from pathlib import Path
from socket import gethostname
from typing import ParamSpec, TypeVar

from filelock import FileLock, Timeout

LOG = logging.getLogger(__name__)
FOLDER = ".locks"

P = ParamSpec("P")
T = TypeVar("T")

_RANDOM = uuid.uuid4().hex[:8]
_held: dict[Path, FileLock] = {}  # what this process holds; a forked child holds nothing


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
    if lock in _held and _held[lock].is_locked:
        return
    lock.parent.mkdir(parents=True, exist_ok=True)
    # One shared by several users; never by the existence of a file, which outlives a kill.
    own = FileLock(
        lock,
        mode=0o666,
        thread_local=False,
        fallback_to_soft=False,
        preserve_lock_file=True,
        on_acquired=_sign,
    )
    try:
        own.acquire(timeout=0)
    except Timeout:
        LOG.warning("waiting for %s: %s", artefact, lock.read_text(encoding="utf-8").strip() or "another process")
        own.acquire(poll_interval=0.5)
    _held[lock] = own


def _sign(descriptor: int) -> None:
    """Write into a lock who holds it."""
    who = f"process {os.getpid()} on {gethostname()} is at it since {datetime.now().astimezone():%Y-%m-%d %H:%M:%S%z}\n"
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, who.encode(), 0)


def release(lock: Path) -> None:
    """Give up a lock; nothing where it is not held."""
    if (own := _held.pop(lock, None)) is not None:
        own.release()


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
