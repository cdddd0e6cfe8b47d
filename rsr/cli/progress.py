"""Progress of scoring: share done, tokens per second, time left."""

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from rsr.data.trajectories import Dataset
from rsr.errors import printable

MINUTE = 60.0  # seconds


class EveryMinute:
    """True when a minute has gone by since it last was: what takes long says so where no terminal shows a bar."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self.last < MINUTE:
            return False
        self.last = now
        return True


class TokenProgress:
    """A bar over the characters of all datasets; on a terminal live, elsewhere a line per dataset that is scored and one a
    minute, on standard error. It is a `rsr.metrics.score_tables.Progress`.

    Args:
        processes: that share the work evenly; 0 shows nothing.
        report: called with the characters that are done and the number of all.
        passes: over all characters.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        processes: int = 1,
        report: Callable[[int, int], None] = lambda done, total: None,
        *,
        passes: int = 1,
    ) -> None:
        self.sizes = {d.name: sum(t.characters for t in d.trajectories) for d in datasets}
        self.processes = processes
        self.total = passes * sum(self.sizes.values())
        self.report, self.characters = report, 0
        self.found = 0  # characters that were scored before
        self.tokens, self.began = 0, time.perf_counter()
        self.console = Console(file=sys.stderr)
        self.named: set[str] = set()  # datasets whose line is printed
        self.minute_is_over = EveryMinute()
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %  {task.fields[speed]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not processes or not self.console.is_terminal,
            transient=True,
        )
        self.task = self.bar.add_task("scoring", total=self.total / max(1, processes), speed="")

    def __enter__(self) -> "TokenProgress":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def __call__(self, dataset: Dataset, characters: int, tokens: int) -> None:
        """Go on by the characters and tokens of a dataset that are done since the last call."""
        title = f"{printable(dataset.name)} ({list(self.sizes).index(dataset.name) + 1} of {len(self.sizes)})"
        if tokens and self.processes and not self.console.is_terminal and dataset.name not in self.named:
            print(f"scoring {title}", file=sys.stderr, flush=True)
            self.named.add(dataset.name)
        self.tokens += tokens
        self.characters += characters
        self.found += 0 if tokens else characters
        self.report(self.characters, self.total)
        speed = self.tokens / (time.perf_counter() - self.began)
        if self.processes and not self.console.is_terminal and self.minute_is_over():
            share = self.processes * self.characters / max(1, self.total)
            print(
                f"scoring {title}: {share:.1%} of all, {speed:,.0f} tokens/s{self._left()}", file=sys.stderr, flush=True
            )
        self.bar.update(
            self.task,
            advance=characters,
            description=title,
            speed=f"{speed:,.0f} tokens/s" if tokens else "found",
        )

    def _left(self) -> str:
        """How long the rest takes at the pace so far; nothing where all so far was scored before."""
        scored = self.processes * (self.characters - self.found)
        if not scored:
            return ""
        rest = self.total - self.processes * self.characters
        return f", about {(time.perf_counter() - self.began) * rest / scored / 60:,.0f} min left"
