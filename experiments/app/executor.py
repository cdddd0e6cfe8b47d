"""What runs the jobs of a study: one driver hands them to an executor and hears what becomes of them."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from rsr.errors import InputError


@dataclass(frozen=True)
class Resources:
    """What a job takes of a cluster.

    Attributes:
        gpus: None is one where there are any.
    """

    cpus: float = 1
    gpus: float | None = None


def _nothing(result: Any) -> "Sequence[Job]":
    return ()


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
    then: Callable[[Any], "Sequence[Job]"] = _nothing
    takes: Resources = Resources()

    def sent(self) -> "Job":
        """The job as it goes to its process: what follows from it stays with the driver."""
        return replace(self, then=_nothing)


@dataclass(frozen=True)
class Event:
    """What has become of a job.

    Attributes:
        content: of progress (done, of all), of a result what the job returned, of an error one line.
    """

    job: Job
    kind: Literal["begun", "progress", "result", "error"]
    content: Any = None


class Executor(Protocol):
    """Runs jobs where there is room for them."""

    def start(self, jobs: Sequence[Job]) -> None:
        """Take jobs that are ready; each begins when there is room."""
        ...

    def wait(self) -> Event:
        """The next thing that becomes of a job that was started."""
        ...


def call(job: Job, advance: Callable[[int, int], None]) -> tuple[Literal["result", "error"], Any]:
    """Call a job's function in this process, which is its own: what it prints goes to the log.

    Returns:
        How it ended, as in an `Event`.
    """
    with job.log.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    try:
        return "result", job.run(*job.arguments, advance)
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        text = str(error).strip() or type(error).__name__
        return "error", text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"
