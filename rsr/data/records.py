"""Records of files: JSON (a list), JSON Lines or Parquet. They stay in their file, and are read one at a time."""

import json
import os
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import polars as pl

from rsr.data.shards import together
from rsr.errors import InputError

SUFFIXES = (".json", ".jsonl", ".parquet")

Stamp = tuple[int, int]  # size and time of change of a file
Span = tuple[int, int]  # first byte of a record, and the one behind it

T = TypeVar("T")
R = TypeVar("R")


class OnDemand(Sequence[R], Generic[T, R]):
    """What a function makes of each of some items, made when it is asked for and kept by nobody."""

    def __init__(self, function: Callable[[T], R], items: Sequence[T]) -> None:
        self._function, self._items = function, items

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> R: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[R]: ...
    def __getitem__(self, index: int | slice) -> R | Sequence[R]:
        if isinstance(index, slice):
            return OnDemand(self._function, self._items[index])
        return self._function(self._items[index])


class _File:
    """The records of one file, known as far as `scan` has gone: of JSON by their bytes, of Parquet by their rows. One Parquet file at a
    time is in memory, the last that was asked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: Stamp | None = None
        self._spans: list[Span] = []
        self._rows = 0

    def scan(self) -> Iterator[tuple[str, Any]]:
        """See `FileRecords.scan`."""
        self._spans, self._rows, self._stamp = [], 0, self._now()
        if self.path.suffix == ".parquet":
            for record in _frame(self.path, self._stamp).iter_rows(named=True):
                self._rows += 1
                yield f"{self.path}, row {self._rows - 1}", _given(record)
            return
        decoded = json_lines if self.path.suffix == ".jsonl" else _json_list
        for where, record, span in decoded(self._bytes(None), str(self.path)):
            self._spans.append(span)
            self._rows += 1
            yield where, record

    def __len__(self) -> int:
        return self._rows

    def record(self, row: int) -> Any:
        """See `FileRecords.__getitem__`."""
        if self.path.suffix != ".parquet":
            return json.loads(self._bytes(self._spans[row]).decode())
        self._check(now := self._now())
        return _given(_frame(self.path, now).row(row, named=True))

    def _bytes(self, span: Span | None) -> bytes:
        """Part of the file, or all of it."""
        try:
            with self.path.open("rb") as file:
                self._check(_stamp(os.fstat(file.fileno())))
                start, end = span or (0, None)
                file.seek(start)
                return file.read(-1 if end is None else end - start)
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def _now(self) -> Stamp:
        try:
            return _stamp(self.path.stat())
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def _check(self, now: Stamp) -> None:
        if now != self._stamp:
            raise InputError(f"{self.path}: has changed while it was in use: give the command again")


class FileRecords(Sequence[Any]):
    """The records of a file, of a shard those of all shards, by their rows, from 0. A record is read each time that it is asked for,
    so that a folder of datasets takes no more memory than its largest file. Rows are known as far as `scan` has gone.

    Raises:
        InputError: a shard is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = [_File(file) for file in together(path)]

    def scan(self) -> Iterator[tuple[str, Any]]:
        """Every record with the text that says where it stands.

        Raises:
            InputError: a file cannot be read.
        """
        for file in self._files:
            yield from file.scan()

    def __len__(self) -> int:
        return sum(map(len, self._files))

    @overload
    def __getitem__(self, row: int) -> Any: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[Any]: ...
    def __getitem__(self, row: int | slice) -> Any:
        """A record.

        Raises:
            InputError: its file has changed since it was scanned, or cannot be read.
        """
        if isinstance(row, slice):
            return OnDemand(self.__getitem__, range(len(self))[row])
        row = range(len(self))[row]
        for file in self._files:
            if row < len(file):
                return file.record(row)
            row -= len(file)
        raise AssertionError("a row of the range is in some file")


def records(path: Path) -> Iterator[tuple[str, Any]]:
    """The records of a file, each with the text that says where it stands.

    Raises:
        InputError: the file cannot be read, or a shard is missing.
    """
    return FileRecords(path).scan()


def json_lines(content: bytes, source: str) -> Iterator[tuple[str, Any, Span]]:
    """The records of JSON Lines: where each stands, itself, and its bytes.

    Raises:
        InputError: it is no UTF-8 text, or a line is not JSON.
    """
    _text(content, source)  # all of it, before anything is made of the first lines
    start = len(BOM_UTF8) if content.startswith(BOM_UTF8) else 0
    for number, line in enumerate(content[start:].split(b"\n"), start=1):
        if line.strip():
            try:
                yield f"{source}, line {number}", json.loads(line.decode()), (start, start + len(line))
            except (ValueError, RecursionError) as error:
                raise InputError(f"{source}, line {number}: not valid JSON: {_reason(error)}") from error
        start += len(line) + 1


def _json_list(content: bytes, source: str) -> Iterator[tuple[str, Any, Span]]:
    """Decode record by record, so that each is known by its line and its bytes."""
    text = _text(content, source)
    decoder, position, line, counted, start = json.JSONDecoder(), _skip_space(text, 0), 1, 0, 0
    if text[position : position + 1] != "[":
        begins = repr(text[position : position + 20]) if text.strip() else "nothing"
        raise InputError(f"{source}: a JSON file holds a list of records, this one starts with {begins}")
    position = _skip_space(text, position + 1)
    while text[position : position + 1] != "]":
        line += text.count("\n", counted, position)
        start += len(text[counted:position].encode())
        counted = position
        try:
            record, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{source}, line {line}: not valid JSON: {_reason(error)}") from error
        yield f"{source}, line {line}", record, (start, start + len(text[counted:position].encode()))
        position = _skip_space(text, position)
        if text[position : position + 1] == ",":
            position = _skip_space(text, position + 1)
        elif text[position : position + 1] != "]":
            raise InputError(f"{source}, line {line}: the list is not closed (is the file cut off?)")
    rest = _skip_space(text, position + 1)
    if rest < len(text):
        line += text.count("\n", counted, rest)
        raise InputError(f"{source}, line {line}: there is more text after the end of the list")


def _text(content: bytes, source: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: not UTF-8 text (byte {error.start})") from error


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n\ufeff":
        position += 1
    return position


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} (line {error.lineno})"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


@lru_cache(maxsize=1)
def _frame(path: Path, stamp: Stamp) -> pl.DataFrame:
    """The rows of a Parquet file as it was at a time."""
    try:
        return pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from error


def _given(record: dict[str, Any]) -> dict[str, Any]:
    """A row without what its columns do not hold."""
    return {key: value for key, value in record.items() if value is not None}


def _stamp(stat: os.stat_result) -> Stamp:
    return stat.st_size, stat.st_mtime_ns


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be read: {error.strerror}")
