"""Tables as Parquet files."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from rsr.store.artefacts import reading, write_bytes, writing


def write_parquet(table: pl.DataFrame | pa.Table, path: Path, **options: Any) -> None:
    """Write a table as a file that is either whole or not there.

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


def read_parquet(path: Path, columns: Iterable[str] | None = None) -> pl.DataFrame:
    """A table of an artefact; its path is a name, whatever brackets and stars it holds.

    Args:
        columns: that are wanted, in this order; None takes all.

    Raises:
        InputError: it cannot be read or lacks a column, and what to remove.
    """
    with reading(path, pl.exceptions.PolarsError):
        table = pl.read_parquet(path, glob=False)
        return table if columns is None else table.select(*columns)
