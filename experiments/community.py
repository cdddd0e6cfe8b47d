"""Are the tables that others contributed what they say?

    python experiments/community.py

Checks every folder in results/community/ by its manifest; see docs/community.md.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from experiments.app.shared_configs import PathsConfig
from rsr.errors import InputError
from rsr.metrics.score_tables import STAGE
from rsr.store.artefacts import MANIFEST, digest, of_folder
from rsr.store.csv import read_csv

COLUMNS = ("student", "teacher", "generation", "metric", "preset", "value", "low", "high", "error", "n", "missing")
GROUP = ["student", "teacher", "generation", "metric", "preset"]
DOCUMENTS = {"README.md", MANIFEST, "datasets.csv"}


def check(folder: Path) -> int:
    """Check one contributed folder; the number of its rows.

    Raises:
        InputError: what is wrong with it.
    """
    names = {path.name for path in folder.iterdir()}
    if names != DOCUMENTS:
        raise InputError(f"{folder}: holds {', '.join(sorted(names))}, not {', '.join(sorted(DOCUMENTS))}")
    try:
        artefact = of_folder(folder)
        key, datasets = artefact.key, artefact.facts["datasets"]
        table = read_csv(artefact.checked("datasets.csv"), {"generation": pl.String, "preset": pl.String})
        _check_key(folder, key)
        _check_rows(folder, table.with_columns(pl.col("generation", "preset").fill_null("")), key, datasets)
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{folder}: cannot be read: {error!r}") from error
    return len(table)


def _check_key(folder: Path, key: Mapping[str, Any]) -> None:
    if key["stage"] != STAGE:
        raise InputError(f"{folder}: holds {key['stage']}, not scores")
    if not folder.name.endswith(f"-{digest(key)[:8]}"):
        raise InputError(
            f"{folder}: the name ends in another digest than that of the manifest's key, {digest(key)[:8]}"
        )


def _check_rows(folder: Path, table: pl.DataFrame, key: Mapping[str, Any], datasets: list[dict[str, Any]]) -> None:
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise InputError(f"{folder}: datasets.csv has no {', '.join(missing)}")
    presets = [(metric, preset) for metric, metric_presets in key["metrics"].items() for preset in metric_presets]
    expected = {(*store[:3], *preset) for store in key["stores"] for preset in presets}
    if set(table.select(GROUP).rows()) != expected or len(table) != len(expected):
        raise InputError(
            f"{folder}: datasets.csv has {len(table)} rows, not one of each of the {len(expected)} in the key"
        )
    valued = table.filter(pl.col("value").is_not_null())
    outside = valued.filter((pl.col("low") > pl.col("value")) | (pl.col("value") > pl.col("high")))
    if len(outside):
        raise InputError(f"{folder}: a value lies outside of its interval: {outside.select(GROUP).row(0)}")
    counts = {(d["teacher"], d["generation"]): d["counts"]["trajectories"] for d in datasets}
    for row in table.iter_rows(named=True):
        if row["n"] + row["missing"] != counts[row["teacher"], row["generation"]]:
            raise InputError(f"{folder}: {row['teacher']}/{row['generation']} has another count than its manifest")


def main() -> None:
    folders = sorted(p for p in (PathsConfig().results / "community").iterdir() if p.is_dir())
    try:
        for folder in folders:
            print(f"{folder.name}: {check(folder)} rows")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    print(f"{len(folders)} contributions, all as they say")


if __name__ == "__main__":
    main()
