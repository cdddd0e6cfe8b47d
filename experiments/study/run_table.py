"""The run table: every cell of a study (teacher, generation, stage), what became of it and in how many seconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import polars as pl
from rich.console import Console
from rich.live import Live
from rich.table import Table as Grid

from rsr.cli.progress import EveryMinute
from rsr.data.trajectories import dataset_name
from rsr.errors import InputError

STATES = {"missing": "", "running": "…", "failed": "FAILED"}  # the others are written as they are


@dataclass
class Cell:
    """One stage of one dataset; score is a stage of all datasets together.

    Attributes:
        state: missing, running, done, failed, or not needed (what would use it is there already).
        seconds: that it took, now or in an earlier run.
    """

    teacher: str
    generation: str
    stage: str
    state: str = "missing"
    seconds: float | None = None
    progress: float = 0.0
    error: str | None = None

    @property
    def name(self) -> str:
        return f"{self.stage} {dataset_name(self.teacher, self.generation)}"

    def text(self) -> str:
        if self.state == "running":
            return f"{self.progress:.0%}"
        seconds = "" if self.seconds is None or self.state == "not needed" else f" {self.seconds:.0f} s"
        return STATES.get(self.state, self.state) + seconds


class RunTable:
    """Cells by name; shown live on a terminal, elsewhere a line for each that ends and one a minute, on standard error."""

    def __init__(self, cells: list[Cell]) -> None:
        self.cells = {cell.name: cell for cell in cells}
        self.console = Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._minute_is_over = EveryMinute()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the table while cells run."""
        if not self.console.is_terminal:
            yield
            return
        with Live(self.grid(), console=self.console, refresh_per_second=4, transient=True) as self._live:
            yield
        self._live = None

    def update(self, name: str, **changes: object) -> None:
        """Change a cell, and show it."""
        cell = self.cells[name]
        for field, value in changes.items():
            setattr(cell, field, value)
        if self._live is not None:
            self._live.update(self.grid())
        elif cell.state in ("done", "failed") and "state" in changes:
            ended = sum(c.state in ("done", "failed", "not needed") for c in self.cells.values())
            error = f": {cell.error}" if cell.error else ""
            self.console.print(f"{cell.name} {cell.text()} ({ended} of {len(self.cells)}){error}", markup=False)
        elif self._minute_is_over():
            running = ", ".join(f"{c.name} {c.text()}" for c in self.cells.values() if c.state == "running")
            self.console.print(f"running: {running}", markup=False, soft_wrap=True)

    def grid(self) -> Grid:
        """One row per dataset, one column per stage."""
        stages = list(dict.fromkeys(cell.stage for cell in self.cells.values()))
        grid = Grid("", *stages, box=None, padding=(0, 2, 0, 0))
        rows: dict[tuple[str, str], dict[str, str]] = {}
        for cell in self.cells.values():
            rows.setdefault((cell.teacher, cell.generation), {})[cell.stage] = cell.text()
        for (teacher, generation), texts in rows.items():
            grid.add_row(dataset_name(teacher, generation), *(texts.get(stage, "") for stage in stages))
        return grid

    def failed(self) -> list[Cell]:
        return [cell for cell in self.cells.values() if cell.state == "failed"]

    def refuse_failed(self) -> None:
        """Say which cells failed; the last thing that a study does.

        Raises:
            InputError: some did.
        """
        if failed := self.failed():
            reasons = "; ".join(f"{cell.name}: {cell.error}" for cell in failed)
            raise InputError(
                f"{len(failed)} of {len(self.cells)} cells failed, the same command tries them again: {reasons}"
            )

    def frame(self) -> pl.DataFrame:
        """Columns: those of `Cell`."""
        return pl.DataFrame([asdict(cell) for cell in self.cells.values()], infer_schema_length=None).drop("progress")
