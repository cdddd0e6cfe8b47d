"""Tables as Parquet files."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from rsr.store import digests
from rsr.store.artefacts import Artefact, reading, write_bytes, writing


def write_parquet(table: pl.DataFrame | pa.Table, path: Path, **options: Any) -> None:
    """Write a table as a file of an incomplete artefact, which is either whole or not there, and its digest beside it.

    Args:
        options: of `pyarrow.parquet.write_table`, for a table of pyarrow.

    Raises:
        InputError: it cannot be written.
    """
    # By way of memory: of a full disk polars would speak as of a bad file.
    content = io.BytesIO()
    if isinstance(table, pl.DataFrame):
        table.write_parquet(content)
    else:
        pq.write_table(table, content, **options)
    with writing(path):
        write_bytes(path, content.getbuffer())
        write_bytes(digests.beside(path), digests.line(path.name, content.getbuffer()).encode())


def read_parquet(artefact: Artefact, name: str, columns: Iterable[str] | None = None) -> pl.DataFrame:
    """A table of an artefact, by the name of its file, whatever brackets and stars its path holds.

    Args:
        columns: that are wanted, in this order; None takes all.

    Raises:
        InputError: it is damaged or lacks a column, and what to remove.
    """
    with reading(artefact.path / name, pl.exceptions.PolarsError):
        table = pl.read_parquet(artefact.checked(name), glob=False)
        return table if columns is None else table.select(*columns)
