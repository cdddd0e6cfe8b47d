"""Claims: of the workers that share a folder of outputs, one at a time fills an artefact.

A claim is the name of a partial folder. Nobody is at work in `<id>.partial`; `<id>.<worker>.partial` belongs to the worker
whose machine, process and random number it names. Claims are taken, given back and taken over by renaming the folder,
which a file system, NFS among them, lets only one of several do. A worker that was taken over finds its folder no more,
so what it still writes is lost, and what the other writes is not touched: truth depends on names alone. Heartbeats only
decide how long others wait: a worker touches a file in its folder, and where its process is gone, or silent for long, it is
taken over. Silence is measured by the clock of the one who waits, so clocks may differ.
"""

import atexit
import json
import logging
import os
import random
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import wraps
from pathlib import Path
from socket import gethostname
from typing import ParamSpec, TypeVar

LOG = logging.getLogger(__name__)
PARTIAL = ".partial"
CLAIM = "claim.json"  # in a claimed folder; its time is the last heartbeat
INTERVAL = 10.0  # seconds between heartbeats
SILENCE = 6  # heartbeats that fail to come before a worker is taken over

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

_RANDOM = uuid.uuid4().hex[:8]
_held: set[Path] = set()  # folders that this process has claimed
_seen: dict[Path, tuple[int | None, float]] = {}  # the last heartbeat of another's folder, and when it was new to us
_told: set[Path] = set()
_heart: threading.Thread | None = None
_patient = True


class Busy(Exception):
    """Another worker is at it, and this one is not to wait.

    Attributes:
        claim: the folder of that worker.
    """

    def __init__(self, claim: Path) -> None:
        super().__init__(claim)
        self.claim = claim


def worker() -> str:
    """Name of this process among all that may share a folder."""
    return f"{gethostname()}-{os.getpid()}-{_RANDOM}"


def begun(partial: Path, short: str) -> list[Path]:
    """Partial folders of a key, whatever their label; the one that is claimed first.

    Args:
        partial: the folder's name while nobody is at work in it.
        short: the key's digits in its name.
    """
    free = sorted(partial.parent.glob(f"*-{short}{PARTIAL}"))
    claimed = sorted(partial.parent.glob(f"*-{short}.*{PARTIAL}"), key=_lost)
    held = sum(not _lost(path) for path in claimed)
    return [*claimed[:held], *free, *claimed[held:]]


def take(partial: Path, short: str) -> Path | None:
    """Claim what is begun, or begin it; None where another worker was quicker.

    Args:
        partial, short: as in `begun`.

    Raises:
        Busy: another worker is at it.
        OSError: the folder cannot be written.
    """
    mine = partial.with_name(f"{partial.name.removesuffix(PARTIAL)}.{worker()}{PARTIAL}")
    if mine in _held and not _lost(mine):
        return mine
    found = begun(partial, short)
    _refuse_busy(found, short)
    if not found:
        partial.mkdir(parents=True, exist_ok=True)
    if not _renamed(found[0] if found else partial, mine):
        return None
    try:
        _sign(mine)
    except OSError:
        mine.rename(partial)
        raise
    _hold(mine)
    try:
        # Two may have begun at once, each in a folder of its own, which costs nothing but time.
        _refuse_busy([path for path in begun(partial, short) if path != mine], short)
    except Busy:
        (give_back if found else drop)(mine)
        time.sleep(random.uniform(0, 1))
        raise
    return mine


def settle(mine: Path, final: Path) -> None:
    """Give a folder that is filled its final name.

    Raises:
        OSError: it was taken over.
    """
    (mine / CLAIM).unlink()
    try:
        mine.rename(final)
    except OSError:
        if not final.exists():
            _sign(mine)
        raise
    _held.discard(mine)


def give_back(mine: Path) -> None:
    """End a claim: what is finished is left to the next worker."""
    _held.discard(mine)
    if _lost(mine):  # to another worker; here may be what was written after that
        drop(mine)
        return
    free = mine.with_name(mine.name.removesuffix(f".{worker()}{PARTIAL}") + PARTIAL)
    with suppress(OSError):
        mine.rename(free)
        (free / CLAIM).unlink()


def drop(mine: Path) -> None:
    """End a claim with what was done, which nobody needs."""
    _held.discard(mine)
    shutil.rmtree(mine, ignore_errors=True)


def wait(busy: Busy) -> None:
    """Wait a little for another worker, or not at all where this one has other work.

    Raises:
        Busy: it has.
    """
    if not _patient:
        raise busy
    if busy.claim not in _told:
        _told.add(busy.claim)
        name = f"{busy.claim.parent.name}/{busy.claim.name.partition('.')[0]}"
        LOG.warning("waiting for %s: %s", name, _who(busy.claim))
    time.sleep(min(1.0, INTERVAL / 2))


def is_busy(claim: Path) -> bool:
    """Whether the worker of a claim is still at it, as far as it can be told."""
    return claim.exists() and _alive(claim)


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
    """The results of work on each item, in their order; what other workers are at is left for the end.

    Args:
        process: (index, number) of processes that do it together, which keep to the order if there are several.
    """
    results: dict[int, R] = {}
    for i, item in enumerate(items if process[1] == 1 else ()):
        with suppress(Busy), impatient():
            results[i] = work(item)
    return [results[i] if i in results else work(item) for i, item in enumerate(items)]


def claiming(stage: Callable[P, R]) -> Callable[P, R]:
    """Make a function that fills artefacts a holder of claims.

    What it has begun and not completed is given back when it ends. Where it fails because it was taken over (its machine
    had slept), it is called again, and finds what the other worker makes; not so in one of several processes of a run,
    which the others would wait for in vain.
    """

    @wraps(stage)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        while True:
            before = set(_held)
            try:
                return stage(*args, **kwargs)
            except Exception:
                lost = [mine for mine in _held - before if _lost(mine)]
                if not lost or int(os.environ.get("WORLD_SIZE", "1")) > 1:
                    raise
                LOG.warning("%s: taken over by another worker; looking for what it makes", lost[0])
            finally:
                for mine in _held - before:
                    give_back(mine)

    return call


# --- heartbeats ----------------------------------------------------------------------------------------------------


def _hold(mine: Path) -> None:
    global _heart
    _held.add(mine)
    if _heart is None or not _heart.is_alive():
        _heart = threading.Thread(target=_beat, daemon=True)
        _heart.start()


def _sign(mine: Path) -> None:
    who = {
        "host": gethostname(),
        "process": os.getpid(),
        "since": datetime.now().astimezone().isoformat(" ", "seconds"),
    }
    (mine / CLAIM).write_text(json.dumps(who) + "\n", encoding="utf-8")


def _beat() -> None:
    while True:
        time.sleep(INTERVAL)
        for mine in list(_held):
            with suppress(OSError):  # taken over, which shows when it is completed, or out of reach for now
                os.utime(mine / CLAIM)


def _lost(mine: Path) -> bool:
    return not (mine / CLAIM).exists()


def _refuse_busy(found: Sequence[Path], short: str) -> None:
    for path in found:
        if not path.name.endswith(f"-{short}{PARTIAL}") and _alive(path):
            raise Busy(path)


def _alive(claim: Path) -> bool:
    """Whether the worker of a claim may be at work: not if its process on this machine is gone, or it was silent for long."""
    beat = None
    with suppress(OSError, ValueError):  # without a readable file it is being claimed, completed or given back
        with (claim / CLAIM).open(encoding="utf-8") as file:  # opened, so that NFS asks for its time anew
            beat = os.fstat(file.fileno()).st_mtime_ns
            who = json.load(file)
        # Of the worker in the name: one that has just taken over has not signed yet.
        named = f".{who['host']}-{who['process']}-" in claim.name
        if named and who["host"] == gethostname() and _gone(who["process"]):
            return False
    now = time.monotonic()
    if claim not in _seen or _seen[claim][0] != beat:
        _seen[claim] = (beat, now)
    return now - _seen[claim][1] < SILENCE * INTERVAL


def _gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return isinstance(error, ProcessLookupError)  # and not another user's
    with suppress(OSError):  # where there is no /proc, silence tells
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"  # killed, nobody asked
    return False


def _who(claim: Path) -> str:
    try:
        who = json.loads((claim / CLAIM).read_text(encoding="utf-8"))
        return f"process {who['process']} on {who['host']} is at it since {who['since']}"
    except (OSError, ValueError):
        return "another worker is at it"


def _renamed(old: Path, new: Path) -> bool:
    try:
        old.rename(new)
    except FileNotFoundError:
        return new.exists()  # NFS may say so of a renaming that it has done
    return True


def _give_all_back() -> None:
    for mine in list(_held):
        give_back(mine)


atexit.register(_give_all_back)
os.register_at_fork(after_in_child=_held.clear)  # the parent's
