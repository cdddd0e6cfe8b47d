"""Datasets from wherever they are: files, folders, a hub, standard input, or Python objects, with their records kept."""

import hashlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from rsr.data import trajectories
from rsr.data.records import FileRecords, json_lines
from rsr.data.trajectories import Dataset, OnError
from rsr.errors import InputError

# Paths (also "NAME=FILE", "hub:OWNER/NAME[@REVISION]" and "-" for JSON Lines on standard input); records, such as a list of
# {"messages": ...} or a datasets.Dataset; one chat as a list of messages; or any of these by name of teacher.
Data = str | Path | Iterable[Any] | Mapping[str, Any]
STDIN = "-"
OBJECTS = "data"  # name of a dataset that was passed in without one


@dataclass(frozen=True)
class Source:
    """A dataset and the records that it was read from.

    Attributes:
        records: as they were read; a trajectory knows its own by `row`.
        suffix: of its file; of objects and standard input ".jsonl".
        place: where it was read, for messages.
    """

    dataset: Dataset
    records: Sequence[Any]
    suffix: str
    place: str


def read(data: Data, *, sample: int | None = None, on_error: OnError = "error") -> list[Source]:
    """Read datasets; several places or names in the order of their names, so that nothing depends on how they are listed.

    Args:
        sample: keep this many problems of each dataset, those with the smallest hash of their key: the same problems in
            datasets that hold the same, whatever their order.

    Raises:
        InputError: see `rsr.data.trajectories.read`; or two datasets have one name.
    """
    if sample is not None and sample < 1:
        raise InputError(f"a sample of {sample} problems is too small: the least is 1")
    sources = [_sampled(source, sample) for source in _sources(data, on_error)]
    if isinstance(data, Mapping | tuple | list):
        sources.sort(key=lambda source: (source.dataset.teacher, source.dataset.generation))
    places: dict[str, str] = {}
    for source in sources:
        if source.dataset.name in places:
            raise InputError(
                f"{places[source.dataset.name]} and {source.place} are both called {source.dataset.name!r}: name them "
                "with NAME=FILE, or give their folder"
            )
        places[source.dataset.name] = source.place
    return sources


def _sources(data: Data, on_error: OnError) -> list[Source]:
    if isinstance(data, str | Path):
        return _from_place(data, on_error)
    if isinstance(data, Mapping):
        return [_renamed(source, name) for name, named in data.items() for source in _sources(named, on_error)]
    if type(data).__name__ == "DataFrame":
        return [_from_objects(_rows(data), on_error)]
    if not isinstance(data, Iterable):
        raise InputError(f"data are files, records or datasets by name, not a {type(data).__name__}")
    items = list(data)
    if items and all(isinstance(item, str | Path) for item in items):
        return [source for item in items for source in _from_place(item, on_error)]
    return [_from_objects(items, on_error)]


def _rows(table: Any) -> list[Any]:
    """The rows of a table of polars or pandas."""
    rows: list[Any] = table.to_dicts() if hasattr(table, "to_dicts") else table.to_dict("records")
    return rows


def _plain(value: Any) -> Any:
    """A value with the arrays and numbers of numpy, which pandas reads, as lists and numbers."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return _plain(value.tolist()) if isinstance(value, np.ndarray | np.generic) else value


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and isnan(value))


def _renamed(source: Source, name: str) -> Source:
    return replace(source, dataset=replace(source.dataset, teacher=name))


def _from_place(place: str | Path, on_error: OnError) -> list[Source]:
    if str(place) == STDIN:
        lines = json_lines(_standard_input(), "standard input")
        return [_parsed(((where, record) for where, record, _ in lines), "stdin", ".jsonl", on_error)]
    name, equals, rest = str(place).partition("=")
    if equals and name and not Path(place).exists():
        return [_renamed(source, name) for source in _from_place(rest, on_error)]
    return [_from_file(file, teacher, generation, on_error) for teacher, generation, file in trajectories.find(place)]


def _from_file(file: Path, teacher: str, generation: str, on_error: OnError) -> Source:
    records = FileRecords(file)
    dataset = trajectories.stored(records, teacher, generation, on_error=on_error)
    return Source(dataset, records, file.suffix, str(file))


def _standard_input() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("standard input is a terminal: pipe JSON Lines into the command, or name a file")
    return sys.stdin.buffer.read()


def _from_objects(items: list[Any], on_error: OnError) -> Source:
    if items and all(isinstance(item, Mapping) and "role" in item for item in items):
        items = [{"messages": items}]
    records = [{"messages": item} if isinstance(item, list | np.ndarray) else item for item in items]
    # What a column of a table does not hold is None or NaN in a row: not given.
    plain = [_plain(record) for record in records]
    given = [{k: v for k, v in r.items() if not _missing(v)} if isinstance(r, Mapping) else r for r in plain]
    return _parsed(((f"record {i}", r) for i, r in enumerate(given)), OBJECTS, ".jsonl", on_error)


def _parsed(records: Iterable[tuple[str, Any]], teacher: str, suffix: str, on_error: OnError) -> Source:
    """A source of records that are nowhere else, so that they are kept."""
    kept: list[Any] = []

    def keeping() -> Iterable[tuple[str, Any]]:
        for where, record in records:
            kept.append(record)
            yield where, record

    place = "standard input" if teacher == "stdin" else "the data"
    dataset = trajectories.parse(keeping(), teacher, on_error=on_error, source=place)
    return Source(dataset, kept, suffix, place)


def _sampled(source: Source, sample: int | None) -> Source:
    answers = source.dataset.trajectories
    if sample is None or sample >= len(answers):
        return source
    by_hash = sorted(range(len(answers)), key=lambda i: hashlib.sha256(answers[i].problem.encode()).digest())
    chosen = tuple(answers[i] for i in sorted(by_hash[:sample]))
    return replace(source, dataset=replace(source.dataset, trajectories=chosen))
