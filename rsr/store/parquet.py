"""Tables as Parquet files."""

import io
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from rsr.store.artefacts import write_bytes, writing


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
