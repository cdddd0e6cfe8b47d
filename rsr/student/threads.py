"""Threads on a CPU: as many as there are cores to be had, and asleep while they wait for one another."""

import os
from contextlib import suppress
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def set_policy() -> None:
    """Settle how OpenMP's threads behave in this process and its children; what the user has set stays.

    OpenMP reads it when torch is imported, so a command calls this first. Threads that spin while they wait take the core
    from the one that they wait for, wherever another process is busy.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if cores() < _assigned():  # OpenMP knows of the cores that are assigned, not of a quota
        os.environ.setdefault("OMP_NUM_THREADS", str(cores()))


def allow(number: int) -> None:
    """Let what imports torch from now on, in this process or a child, have so many threads; fewer where the user has set that."""
    os.environ["OMP_NUM_THREADS"] = str(min(number, int(os.environ.get("OMP_NUM_THREADS", number))))


def cores() -> int:
    """Cores that this process may use: those assigned to it, or what the quota of its cgroup comes to, rounded up."""
    quota = _quota()
    return _assigned() if quota is None else max(1, min(_assigned(), -int(-quota // 1)))


def _assigned() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota(root: Path = CGROUP) -> float | None:
    """Cores' worth of time that the cgroup of this process grants; None where it sets no limit."""
    with suppress(OSError, ValueError):  # version 2: "max 100000" where there is no limit
        quota, period = (root / "cpu.max").read_text().split()
        return int(quota) / int(period)
    with suppress(OSError, ValueError):  # version 1: -1 where there is no limit
        quota, period = ((root / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    return None
