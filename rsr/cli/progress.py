"""Progress of scoring: share done, tokens per second, time left."""

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from rsr.data.trajectories import Dataset


class TokenProgress:
    """A bar over the characters of all datasets; on a terminal live, elsewhere a line per dataset that is scored, on
    standard error.

    Args:
        processes: that share the work evenly; 0 shows nothing.
        report: called with the characters that are done and the number of all.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        processes: int,
        report: Callable[[int, int], None] = lambda done, of: None,
    ) -> None:
        self.sizes = {d.name: sum(len(m.content) for t in d.trajectories for m in t.messages) for d in datasets}
        self.processes = processes
        self.report, self.characters = report, 0
        self.tokens, self.began = 0, time.perf_counter()
        self.console = Console(file=sys.stderr)
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %  {task.fields[speed]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not processes or not self.console.is_terminal,
            transient=True,
        )
        share = sum(self.sizes.values()) / max(1, processes)
        self.task = self.bar.add_task("scoring", total=share, speed="")

    def __enter__(self) -> "TokenProgress":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def of(self, dataset: Dataset) -> Callable[[int, int], None]:
        """The callback for one dataset."""
        number = list(self.sizes).index(dataset.name) + 1
        said = not self.processes or self.console.is_terminal

        def advance(characters: int, tokens: int) -> None:
            nonlocal said
            if tokens and not said:
                print(f"scoring {dataset.name} ({number} of {len(self.sizes)})", file=sys.stderr, flush=True)
                said = True
            self.tokens += tokens
            self.characters += characters
            self.report(self.characters, sum(self.sizes.values()))
            speed = self.tokens / (time.perf_counter() - self.began)
            self.bar.update(
                self.task,
                advance=characters,
                description=f"{dataset.name} ({number} of {len(self.sizes)})",
                speed=f"{speed:,.0f} tokens/s" if tokens else "found",
            )

        return advance
