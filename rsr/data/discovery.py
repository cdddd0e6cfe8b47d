"""Datasets from wherever they are: files, folders, a hub, standard input, or Python objects, with their records kept."""

import hashlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from rsr.data import places, trajectories
from rsr.data.files import refuse_splits
from rsr.data.records import FileRecords, OnDemand, given, json_lines
from rsr.data.trajectories import Dataset, Fields, OnError, Trajectory
from rsr.errors import InputError, check_text

# Paths (also "NAME=FILE", "hub:OWNER/NAME[/PART][@REVISION]" and "-" for JSON Lines on standard input); records, such as a list of
# {"messages": ...} or a datasets.Dataset; one chat as a list of messages; or any of these by name of teacher.
Data = str | Path | Iterable[Any] | Mapping[str, Any]
STDIN = "-"
LOOKED_AT, NAME = 1000, 100  # records at most, and characters of a name, to tell which field may name teachers
OBJECTS = "data"  # name of a dataset that was passed in without one


@dataclass(frozen=True)
class Source:
    """A dataset and the records that it was read from.

    Attributes:
        records: as they were read, with named fields under our names; a trajectory knows its own by `row`.
        suffix: of its file; of objects and standard input ".jsonl".
        place: where it was read, for messages.
    """

    dataset: Dataset
    records: Sequence[Any]
    suffix: str
    place: str


def read(
    data: Data, *, sample: int | None = None, on_error: OnError = "error", fields: Fields | None = None
) -> list[Source]:
    """Read datasets; several places or names in the order of their names, so that nothing depends on how they are listed.

    Args:
        sample: keep this many problems of each dataset, those with the smallest hash of their key: the same problems in
            datasets that hold the same, whatever their order.
        fields: names that fields have in the records, by ours (`rsr.data.trajectories.FIELDS`): {"correct": "is_right"}.

    Raises:
        InputError: see `rsr.data.trajectories.by_teacher`; or two datasets have one name, or one a place that is no UTF-8 text.
    """
    if sample is not None and sample < 1:
        raise InputError(f"a sample of {sample} problems is too small: the least is 1")
    reading = Reading(on_error, trajectories.check_fields(fields or {}))
    sources = [_sampled(source, sample) for source in _sources(data, reading)]
    if isinstance(data, Mapping | tuple | list):
        sources.sort(key=lambda source: (source.dataset.teacher, source.dataset.generation))
    taken: dict[str, str] = {}
    for source in sources:
        check_text(source.place)
        if source.dataset.name in taken:
            raise InputError(_of_one_name(source.dataset.name, taken[source.dataset.name], source.place))
        taken[source.dataset.name] = source.place
    return sources


def _of_one_name(name: str, first: str, second: str) -> str:
    """What is said of two places whose datasets have one name; of files in two folders, the names of these tell them apart."""
    folders = [Path(place).parent for place in (first, second)]
    mend = "name them with NAME=FILE, or give their folder"
    if folders[0].name != folders[1].name:
        named = " ".join(f"{folder.name}={place}" for folder, place in zip(folders, (first, second), strict=True))
        mend = f"name them, as in {named}, or give the folder that theirs are in"
    return f"{first} and {second} are both called {name!r}: {mend}"


@dataclass(frozen=True)
class Reading:
    """How records are read; see `read`."""

    on_error: OnError
    fields: Fields
    one_teacher: bool = False

    def of_one_teacher(self) -> "Reading":
        """The same of data that have a name.

        Raises:
            InputError: a field is to name their teachers, too.
        """
        if "teacher" in self.fields:
            raise InputError("data with a name (NAME=FILE) are of one teacher: leave out the field that names teachers")
        return replace(self, one_teacher=True)


def _sources(data: Data, reading: Reading) -> list[Source]:
    if isinstance(data, str | Path):
        return _from_place(data, reading)
    if isinstance(data, Mapping):
        refuse_splits("the data", data)
        reading = reading.of_one_teacher()
        return [_renamed(source, name) for name, named in data.items() for source in _sources(named, reading)]
    if type(data).__name__ == "DataFrame":
        return _from_objects([given(_plain(row)) for row in _rows(data)], reading)
    if not isinstance(data, Iterable):
        raise InputError(f"data are files, records or datasets by name, not a {type(data).__name__}")
    items = list(data)
    if items and all(isinstance(item, str | Path) for item in items):
        return [source for item in items for source in _from_place(item, reading)]
    return _from_objects([given(item) for item in items] if _is_table(data) else items, reading)


def _is_table(data: Any) -> bool:
    """Whether its records are rows of a table (datasets.Dataset), which have all fields in all rows."""
    return type(data).__module__.partition(".")[0] == "datasets"


def _rows(table: Any) -> list[Any]:
    """The rows of a table of polars or pandas."""
    rows: list[Any] = table.to_dicts() if hasattr(table, "to_dicts") else table.to_dict("records")
    return rows


def _plain(value: Any) -> Any:
    """A value with the arrays and numbers of numpy, which pandas reads, as lists and numbers."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return _plain(value.tolist()) if isinstance(value, np.ndarray | np.generic) else value


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and isnan(value))


def _renamed(source: Source, name: str) -> Source:
    return replace(source, dataset=replace(source.dataset, teacher=name))


def _from_place(place: str | Path, reading: Reading) -> list[Source]:
    if str(place) == STDIN:
        lines = json_lines(_standard_input(), "standard input")
        return _parsed(((where, record) for where, record, _ in lines), "stdin", reading)
    name, equals, rest = str(place).partition("=")
    if equals and name and not Path(place).exists():
        return [_renamed(source, name) for source in _from_place(rest, reading.of_one_teacher())]
    found = places.find(place)
    sources = [s for teacher, generation, file in found for s in _from_file(file, teacher, generation, reading)]
    if passed_over := places.beside(place):
        first = sources[0].dataset
        sources[0] = replace(sources[0], dataset=replace(first, unread=(*first.unread, passed_over)))
    return sources


def _from_file(file: Path, teacher: str, generation: str, reading: Reading) -> list[Source]:
    records = FileRecords(file)
    datasets = trajectories.read_all(records, teacher, generation, **vars(reading))
    named = _named(records, reading.fields)
    return [Source(dataset, named, records.suffix, str(file)) for dataset in datasets]


def _standard_input() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("standard input is a terminal: pipe JSON Lines into the command, or name a file")
    return sys.stdin.buffer.read()


def _from_objects(items: list[Any], reading: Reading) -> list[Source]:
    if items and all(isinstance(item, Mapping) and "role" in item for item in items):
        items = [{"messages": items}]
    records = [{"messages": item} if isinstance(item, list | np.ndarray) else item for item in items]
    # What a column of a table does not hold is None or NaN in a row: not given.
    plain = [_plain(record) for record in records]
    held = [{k: v for k, v in r.items() if not _missing(v)} if isinstance(r, Mapping) else r for r in plain]
    return _parsed(((f"record {i}", r) for i, r in enumerate(held)), OBJECTS, reading)


def _parsed(records: Iterable[tuple[str, Any]], teacher: str, reading: Reading) -> list[Source]:
    """Sources of records that are nowhere else, so that they are kept."""
    kept: list[Any] = []

    def keeping() -> Iterable[tuple[str, Any]]:
        for where, record in records:
            kept.append(record)
            yield where, record

    place = "standard input" if teacher == "stdin" else "the data"
    datasets = trajectories.by_teacher(keeping(), teacher, source=place, **vars(reading))
    return [Source(dataset, _named(kept, reading.fields), ".jsonl", place) for dataset in datasets]


def _named(records: Sequence[Any], fields: Fields) -> Sequence[Any]:
    """Records with their fields under our names."""
    return OnDemand(partial(trajectories.renamed, fields=fields), records) if fields else records


def field_of(source: Source, trajectory: Trajectory, name: str) -> str:
    """What the record of a trajectory holds in a field, as text.

    Raises:
        InputError: it holds nothing there.
    """
    record = source.records[trajectory.row]
    if record.get(name) is None:
        there = ", ".join(field for field, value in record.items() if value is not None)
        raise InputError(
            f"{source.place}, trajectory {trajectory.id}: its record has no {name!r} to group by; it has {there}"
        )
    return str(record[name])


def perhaps_of_teachers(source: Source) -> dict[str, int]:
    """Fields that might name the teachers of a dataset's records, with the number of their values: all records hold a short text there,
    and each text stands in several.
    """
    answers = source.dataset.trajectories
    rows = [source.records[t.row] for t in answers[:: 1 + len(answers) // LOOKED_AT]]  # files may be sorted by teacher
    found = {}
    for field in rows[0].keys() - {*trajectories.FIELDS} if rows else ():
        values = {value if isinstance(value := row.get(field), str) else "" for row in rows}
        if 2 <= len(values) <= len(rows) / 2 and all(0 < len(value) <= NAME for value in values):
            found[field] = len(values)
    return dict(sorted(found.items()))


def _sampled(source: Source, sample: int | None) -> Source:
    answers = source.dataset.trajectories
    if sample is None or sample >= len(answers):
        return source
    by_hash = sorted(range(len(answers)), key=lambda i: hashlib.sha256(answers[i].problem.encode()).digest())
    chosen = tuple(answers[i] for i in sorted(by_hash[:sample]))
    return replace(source, dataset=replace(source.dataset, trajectories=chosen))
