"""Tables as CSV that a spreadsheet opens safely: a text that it would take for a formula has an apostrophe before it."""

import re
from pathlib import Path
from typing import Any

import polars as pl

from rsr.store.artefacts import write_text

FORMULA = r"^'*[=+\-@\t\r]"  # the apostrophes of a text's own among it, so that reading gives back what was written
NUMBER = r"^[+-]?[\d.]+(?:[eE][+-]?\d+)?$"  # which is no formula, whatever sign it has


def write_csv(table: pl.DataFrame, path: Path, digits: int | None = None) -> None:
    """Write a table whose texts and column names are no formulas; the file is either whole or not there.

    Args:
        digits: of floating-point numbers, after the point; None takes all.
    """
    text = pl.col(pl.String)
    formula = text.str.contains(FORMULA) & ~text.str.contains(NUMBER)
    quoted = table.with_columns(pl.when(formula).then("'" + text).otherwise(text).name.keep())
    content = quoted.rename(_quoted).write_csv(float_precision=digits)
    write_text(path, content)  # not by polars, which would speak of a full disk as of a bad table


def read_csv(path: Path, schema: dict[str, Any] | None = None) -> pl.DataFrame:
    """A table as it was before it was written.

    Args:
        schema: types of columns that do not show in their content.
    """
    text = pl.col(pl.String)
    quoted = pl.when(text.str.contains(r"^'+[=+\-@\t\r]")).then(text.str.slice(1)).otherwise(text).name.keep()
    return pl.read_csv(path, schema_overrides=schema, glob=False).with_columns(quoted)


def _quoted(name: str) -> str:
    return f"'{name}" if re.match(FORMULA, name) else name
