"""Records of files: JSON (a list, or one record), JSON Lines, Parquet or Arrow. They stay in their file, and are read one at a time."""

import json
import os
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import polars as pl

from rsr.data.files import SUFFIXES, suffix_of, together
from rsr.errors import InputError

TABLES = (".parquet", ".arrow")
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}

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
    """The records of one file, known as far as `scan` has gone: of JSON by their bytes, of a table by their rows. Of tables and of
    compressed files one at a time is in memory, the last that was asked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: Stamp | None = None
        self._spans: list[Span] = []
        self._rows = 0

    def scan(self) -> Iterator[tuple[str, Any]]:
        """See `FileRecords.scan`."""
        self._spans, self._rows, self._stamp = [], 0, self._now()
        if self.path.suffix in TABLES:
            for record in _frame(self.path, self._stamp).iter_rows(named=True):
                self._rows += 1
                yield f"{self.path}, row {self._rows - 1}", given(record)
            return
        decoded = json_lines if suffix_of(self.path).startswith(".jsonl") else _json
        for where, record, span in decoded(self._bytes(None), str(self.path)):
            self._spans.append(span)
            self._rows += 1
            yield where, record

    def __len__(self) -> int:
        return self._rows

    def record(self, row: int) -> Any:
        """See `FileRecords.__getitem__`."""
        if self.path.suffix not in TABLES:
            return json.loads(self._bytes(self._spans[row]).decode())
        self._check(now := self._now())
        return given(_frame(self.path, now).row(row, named=True))

    def _bytes(self, span: Span | None) -> bytes:
        """Part of the file, or all of it, as it is without compression."""
        if self.path.suffix in COMPRESSED:
            self._check(now := self._now())
            start, end = span or (0, None)
            return _decompressed(self.path, now)[start:end]
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
    """The records of a dataset's file, of a shard or a folder those of all its files, by their rows, from 0. A record is read each time that it is asked for,
    so that a folder of datasets takes no more memory than its largest file. Rows are known as far as `scan` has gone.

    Raises:
        InputError: a shard is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = [_File(file) for file in together(path)]

    @property
    def suffix(self) -> str:
        """What a file of some of its records ends in."""
        return SUFFIXES[suffix_of(self._files[0].path)]

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


def _json(content: bytes, source: str) -> Iterator[tuple[str, Any, Span]]:
    """The records of a file of JSON: a list, or one record; one that holds several is JSON Lines by another name."""
    text = _text(content, source)
    start = _skip_space(text, 0)
    if text[start : start + 1] != "{":
        yield from _json_list(text, source)
        return
    try:
        record, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: not valid JSON: {_reason(error)}") from error
    if _skip_space(text, end) < len(text):
        yield from json_lines(content, source)
        return
    yield source, record, (len(text[:start].encode()), len(text[:end].encode()))


def _json_list(text: str, source: str) -> Iterator[tuple[str, Any, Span]]:
    """Decode record by record, so that each is known by its line and its bytes."""
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
        except json.JSONDecodeError as error:
            raise InputError(f"{source}, line {error.lineno}: not valid JSON: {error.msg}") from error
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
    """The rows of a table as it was at a time."""
    try:
        return pl.read_parquet(path, glob=False) if path.suffix == ".parquet" else _arrow(path)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        form = path.suffix.removeprefix(".").capitalize()
        raise InputError(f"{path}: not a readable {form} file: {(str(error).splitlines() or [''])[0]}") from error


def _arrow(path: Path) -> pl.DataFrame:
    """The rows of an Arrow file, a stream as `datasets` writes it."""
    import pyarrow as pa

    with pa.OSFile(str(path)) as file:
        opened = pa.ipc.open_file if file.read(6) == b"ARROW1" else pa.ipc.open_stream
        file.seek(0)
        frame = pl.from_arrow(opened(file).read_all())
    assert isinstance(frame, pl.DataFrame), "a table of Arrow is a frame"
    return frame


@lru_cache(maxsize=1)
def _decompressed(path: Path, stamp: Stamp) -> bytes:
    """The content of a compressed file as it was at a time."""
    import pyarrow as pa

    try:
        with pa.input_stream(str(path), compression=COMPRESSED[path.suffix]) as file:
            content: bytes = file.read()
            return content
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: not a readable {path.suffix} file: {(str(error).splitlines() or [''])[0]}"
        ) from error


def given(value: Any) -> Any:
    """A row of a table without what its columns, and their fields, do not hold: a table has all fields in all its rows."""
    if isinstance(value, dict):
        return {key: given(part) for key, part in value.items() if part is not None}
    return [given(part) for part in value] if isinstance(value, list) else value


def _stamp(stat: os.stat_result) -> Stamp:
    return stat.st_size, stat.st_mtime_ns


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be read: {error.strerror}")
