"""Features of trajectories besides token statistics: what the other metrics are computed from.

An extractor turns a trajectory into one row of numbers, by counting in its text, by forward or backward passes of a student,
or by asking a judge. The rows of one dataset are an artefact. Finished rows are kept in parts, whole Parquet files, so
that a run that is interrupted loses at most the parts in flight; the complete artefact holds them in one file.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from rsr.data.trajectories import Advance, Dataset, OnError, Trajectory
from rsr.errors import InputError
from rsr.store.artefacts import Artefact, find_or_begin, locate
from rsr.store.locks import locking
from rsr.store.parquet import read_parquet, write_parquet
from rsr.student.chat import RenderedChat
from rsr.student.student import Student

ROWS = "rows.parquet"
# What every row holds besides the columns of its extractor.
COMMON: Mapping[str, pl.DataType] = {
    "id": pl.String(),
    "problem": pl.String(),
    "reason": pl.String(),  # why it has no features, where it could not be rendered
    "tokens": pl.Int64(),  # of the response; null where nothing was tokenised
    "truncated": pl.Boolean(),
    "processed": pl.Int64(),  # tokens that a model read for it
}

Row = dict[str, Any]
Columns = Mapping[str, pl.DataType]


class FeatureExtractor(Protocol):
    """Extracts the features of one trajectory at a time.

    Attributes:
        stage: its folder among the outputs.
        columns: what a row holds, by name.
        part: trajectories per part.
        workers: parts that are worked on at once.
    """

    stage: str
    columns: Columns
    part: int
    workers: int

    def identity(self) -> dict[str, Any]:
        """Everything besides the data that shapes a row."""
        ...

    def __call__(self, trajectory: Trajectory) -> Row:
        """The row of a trajectory.

        Raises:
            NotRendered: it cannot be rendered.
            Failed: it gave no features this time.
            InputError: none could be, and why.
        """
        ...


class NotRendered(InputError):
    """A trajectory cannot be rendered for the student; the message says why."""


class Failed(Exception):
    """A trajectory gave no features this time; the message says why. It stays without a value, and is tried again."""


@dataclass(frozen=True)
class FeatureTable:
    """The rows of one dataset, with the names that it goes by.

    Attributes:
        artefact: complete unless there are failures.
        rows: `COMMON` and the columns of the extractor, in the order of the dataset.
        failed: reason by id of the trajectories that gave no features this time; their rows are null.
    """

    artefact: Artefact
    student: str
    teacher: str
    generation: str
    rows: pl.DataFrame = field(repr=False)
    failed: Mapping[str, str] = field(default_factory=dict)


def render(student: Student, trajectory: Trajectory, max_length: int) -> tuple[list[RenderedChat], Row]:
    """A trajectory's rendered chats, and what its row says of them.

    Raises:
        NotRendered: its responses cannot be rendered, or it has images.
    """
    if trajectory.images:
        raise NotRendered("it has images, which this measurement does not show the student")
    try:
        chats = student.renderer.chats(trajectory.messages, max_length, trajectory.tool_schemas)
    except InputError as error:
        raise NotRendered(str(error)) from error
    tokens = sum(len(chat.positions()) for chat in chats)
    return chats, {"tokens": tokens, "truncated": any(chat.truncated for chat in chats)}


@locking
def extract_features(
    extractor: FeatureExtractor,
    dataset: Dataset,
    root: Path,
    student: str,
    *,
    on_error: OnError = "error",
    process: tuple[int, int] = (0, 1),
    barrier: Callable[[], None] = lambda: None,
    progress: Advance = lambda characters, tokens: None,
) -> FeatureTable:
    """Extract the features of a dataset, or find them extracted; killed and called again, it loses at most the parts in flight.

    Args:
        student: for people; its identity is the extractor's.
        on_error, process, barrier: as in `rsr.tokens.score_dataset.score_dataset`.

    Raises:
        InputError: a trajectory cannot be rendered, or the artefact cannot be written.
    """
    key = {"stage": extractor.stage, **extractor.identity(), "data": dataset.digest()}
    label = f"{student}-{dataset.name}"
    artefact = find_or_begin(root, extractor.stage, label, key, process, barrier)
    began, processed, failed = time.perf_counter(), 0, dict[str, str]()
    if _unfinished(extractor, artefact, dataset):
        starts = _starts(extractor, dataset)[process[0] :: process[1]]
        work = partial(_extract_part, extractor, dataset, artefact, on_error, progress)
        for tokens, reasons in _side_by_side(work, starts, extractor.workers):
            processed, failed = processed + tokens, failed | reasons
    else:
        progress(sum(t.characters for t in dataset.trajectories) // process[1], 0)
    barrier()
    unfinished = _unfinished(extractor, artefact, dataset)
    barrier()  # all have looked before the folder changes
    if process[0] == 0 and artefact.manifest is None and not unfinished:
        # Of the last run alone, as in a token store.
        timed = {"seconds": round(time.perf_counter() - began, 3), "tokens_in_those_seconds": processed}
        names = {"student": student, "teacher": dataset.teacher, "generation": dataset.generation}
        artefact = artefact.complete(**names, counts=_counts(_merge(extractor, artefact, dataset)), **timed)
    barrier()
    artefact = locate(root, extractor.stage, label, key)
    rows = _finished(extractor, artefact, dataset) if unfinished else read_parquet(artefact, ROWS)
    if on_error == "error":
        for identity, reason in rows.filter(pl.col("reason").is_not_null()).select("id", "reason").iter_rows():
            raise InputError(f"{dataset.name}, trajectory {identity}: {reason}")
    others = (part for part in unfinished if not {t.id for t in part} & {*failed})
    failed |= {t.id: "failed in another process" for part in others for t in part}
    return FeatureTable(artefact, student, dataset.teacher, dataset.generation, rows, failed)


def _side_by_side(
    work: Callable[[int], tuple[int, dict[str, str]]], starts: range, workers: int
) -> Iterator[tuple[int, dict[str, str]]]:
    if workers == 1:
        yield from map(work, starts)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(work, starts)
    finally:
        pool.shutdown(cancel_futures=True)


def _extract_part(
    extractor: FeatureExtractor, dataset: Dataset, artefact: Artefact, on_error: OnError, progress: Advance, start: int
) -> tuple[int, dict[str, str]]:
    """Tokens read for a part, and what failed in it; a part with failures is not kept."""
    trajectories = dataset.trajectories[start : start + extractor.part]
    if artefact.holds(_part(start)):
        progress(sum(t.characters for t in trajectories), 0)
        return 0, {}
    rows, failed = [], {}
    for t in trajectories:
        row: Row = {"id": t.id, "problem": t.problem}
        try:
            row |= extractor(t)
        except Failed as failure:
            failed[t.id] = str(failure)
        except InputError as error:
            if on_error == "error" or not isinstance(error, NotRendered):
                raise InputError(f"{dataset.name}, trajectory {t.id}: {error}") from error
            row["reason"] = str(error)
        rows.append(row)
        progress(t.characters, row.get("processed") or 0)
    if not failed:
        write_parquet(_frame(extractor, rows), artefact.path / _part(start))
    return sum(row.get("processed") or 0 for row in rows), failed


def _frame(extractor: FeatureExtractor, rows: list[Row]) -> pl.DataFrame:
    schema = {**COMMON, **extractor.columns}
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)


def _counts(rows: pl.DataFrame) -> dict[str, int]:
    return {
        "trajectories": len(rows),
        "left_out": len(rows) - rows["reason"].null_count(),
        "truncated": int(rows["truncated"].sum()),
        "processed_tokens": int(rows["processed"].sum()),
    }


def _merge(extractor: FeatureExtractor, artefact: Artefact, dataset: Dataset) -> pl.DataFrame:
    if not artefact.holds(ROWS):
        write_parquet(_finished(extractor, artefact, dataset), artefact.path / ROWS)
    for part in artefact.path.glob("part-*.parquet*"):  # and their digests
        part.unlink()
    return read_parquet(artefact, ROWS)


def _unfinished(extractor: FeatureExtractor, artefact: Artefact, dataset: Dataset) -> list[tuple[Trajectory, ...]]:
    """The trajectories of the parts that are not there."""
    if artefact.manifest is not None or artefact.holds(ROWS):
        return []
    parts = {start: dataset.trajectories[start : start + extractor.part] for start in _starts(extractor, dataset)}
    return [part for start, part in parts.items() if not artefact.holds(_part(start))]


def _starts(extractor: FeatureExtractor, dataset: Dataset) -> range:
    return range(0, len(dataset.trajectories), extractor.part)


def _part(start: int) -> str:
    return f"part-{start:06d}.parquet"


def _finished(extractor: FeatureExtractor, artefact: Artefact, dataset: Dataset) -> pl.DataFrame:
    """Rows of the parts that are there, and null rows for the others."""
    frames = [_frame(extractor, [])]
    for start in _starts(extractor, dataset):
        missing = dataset.trajectories[start : start + extractor.part]
        frames.append(
            read_parquet(artefact, _part(start))
            if artefact.holds(_part(start))
            else _frame(extractor, [{"id": t.id, "problem": t.problem} for t in missing])
        )
    return pl.concat(frames)
