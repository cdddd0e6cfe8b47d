"""Score sets: a folder of score tables, or what the reference implementation writes.

The reference writes a file of samples (JSON Lines with sample_id, resp_token_length, avg_rank_clip, avg_surprisal,
rank_surprisal_ratio) for each dataset; a folder of them is a score set, and so is one file.
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from rsr.data.records import records
from rsr.errors import InputError
from rsr.metrics import score_tables
from rsr.metrics.score_tables import of_metric
from rsr.store.artefacts import MANIFEST

METRICS = ("rsr", "avg_rank_clipped", "avg_surprisal")
REFERENCE = {  # name in the reference's samples -> ours
    "sample_id": "trajectory",
    "resp_token_length": "tokens",
    "avg_rank_clip": "avg_rank_clipped",
    "avg_surprisal": "avg_surprisal",
    "rank_surprisal_ratio": "rsr",
}
KEYS = ["dataset", "trajectory"]


@dataclass(frozen=True)
class ScoreSet:
    """A score set.

    Attributes:
        rows: dataset, trajectory, tokens and one column a metric of `METRICS`.
        tokenizer: digest of its tokenizer; None where it is not known.
        folder: of the score tables; None for the reference's files.
    """

    name: str
    rows: pl.DataFrame
    tokenizer: str | None
    folder: Path | None


def read(path: Path) -> ScoreSet:
    """Read a score set.

    Raises:
        InputError: there is none.
    """
    if (path / MANIFEST).is_file():
        scores = score_tables.read(path)
        student = scores.artefact.facts["student"]
        return ScoreSet(str(path), _wide(scores.trajectories), student["tokenizer_sha256"], path)
    if path.is_dir():
        files = {str(p.relative_to(path).with_suffix("")): p for p in sorted(path.rglob("*.jsonl"))}
    else:
        files = {path.stem: path}
    if not files:
        raise InputError(
            f"{path}: holds no scores: neither {MANIFEST} of a score table nor the reference's .jsonl files"
        )
    if not all(p.is_file() for p in files.values()):
        raise InputError(f"{path}: no such file or folder")
    return ScoreSet(str(path), pl.concat([_reference(name, p) for name, p in files.items()]), None, None)


def _wide(trajectories: pl.DataFrame) -> pl.DataFrame:
    columns = None
    for metric in METRICS:
        values = of_metric(trajectories, metric).select(*KEYS, "tokens", pl.col("value").alias(metric))
        columns = values if columns is None else columns.join(values.drop("tokens"), on=KEYS, how="left")
    assert columns is not None
    return columns


def _reference(dataset: str, path: Path) -> pl.DataFrame:
    rows = []
    for where, record in records(path):
        missing = [name for name in REFERENCE if not isinstance(record, dict) or name not in record]
        if missing:
            raise InputError(f"{where}: no sample of the reference implementation: {', '.join(missing)} missing")
        row = {ours: record[theirs] for theirs, ours in REFERENCE.items()}
        numbers = [value for name, value in row.items() if name != "trajectory"]
        if not all(isinstance(v, int | float) and 0 < v < 1e15 for v in numbers):
            raise InputError(f"{where}: a score is not a positive number")
        rows.append({"dataset": dataset} | row | {"trajectory": str(row["trajectory"])})
    if not rows:
        raise InputError(f"{path}: is empty")
    schema = {"dataset": pl.String, "trajectory": pl.String, "tokens": pl.Int64} | dict.fromkeys(METRICS, pl.Float64)
    frame = pl.DataFrame(rows, schema=schema, strict=False)
    if frame.select(KEYS).is_duplicated().any():
        raise InputError(
            f"{path}: an id occurs twice: {frame.filter(frame.select(KEYS).is_duplicated())['trajectory'][0]}"
        )
    return frame
