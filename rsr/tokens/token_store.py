"""The token store: rank, surprisal and entropy of every response token, in shards.

What the engine did not give, NaN in memory, is null on disk.

A shard holds `SHARD` trajectories in the order of the dataset, as one Parquet file that is either whole or not there: the
unit of resuming, and of work where several processes score. Its content does not depend on how many there were.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rsr.data.trajectories import dataset_name
from rsr.errors import InputError
from rsr.store.artefacts import Artefact, reading
from rsr.store.parquet import write_parquet
from rsr.tokens.tokens import Tokens

T = TypeVar("T")
STAGE = "tokens"
THREADS = 4
SHARD = 128
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "problem": pa.string(),
        "chat_tokens": pa.uint32(),  # of the whole chat, before truncation
        "truncated": pa.bool_(),
        "reason": pa.string(),  # why it has no tokens, where it was left out
        "rank": pa.list_(pa.uint32()),
        "surprisal": pa.list_(pa.float32()),
        "entropy": pa.list_(pa.float32()),
    }
)
# How columns are written, not what they hold: floats hardly repeat, but their upper bytes are alike.
REPEATING = ["id", "problem", "reason", "rank.list.element"]
FLOATS, SPLIT = ("surprisal.list.element", "entropy.list.element"), "BYTE_STREAM_SPLIT"


@dataclass(frozen=True)
class Shard:
    """Trajectories and the statistics of their response tokens."""

    ids: Sequence[str]
    problems: Sequence[str]
    chat_tokens: Sequence[int]
    truncated: Sequence[bool]
    reasons: Sequence[str | None]
    tokens: Tokens


@dataclass(frozen=True)
class TokenStore:
    """The shards of one dataset under one student, with the names that they go by."""

    artefact: Artefact
    student: str
    teacher: str
    generation: str
    skipped: int = 0  # malformed records that the dataset was read without
    unread: tuple[str, ...] = ()  # fields of its messages that were not read

    @property
    def name(self) -> str:
        """Of the dataset."""
        return dataset_name(self.teacher, self.generation)

    def __iter__(self) -> Iterator[Shard]:
        """Shard by shard, so that memory is bounded by one.

        Raises:
            InputError: a shard is missing or damaged, or they hold other trajectories than were scored.
        """
        rows = 0
        for index in range(self.artefact.facts["shards"]):
            shard = read_shard(self.artefact, index)
            rows += len(shard.ids)
            yield shard
        if rows != (scored := self.artefact.facts["counts"]["trajectories"]):
            path = self.artefact.path
            raise InputError(f"{path}: {rows} trajectories, where {scored} were scored; remove it to make it anew")


def of_each(compute: Callable[[TokenStore], T], stores: Iterable[TokenStore]) -> list[T]:
    """What is computed of each store, several at once: NumPy and Parquet leave the interpreter to other threads.

    Memory is that of one shard a thread.
    """
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as threads:
        return list(threads.map(compute, stores))


def shard_name(index: int) -> str:
    """The name of a shard's file."""
    return f"shard-{index:05d}.parquet"


def write_shard(artefact: Artefact, index: int, shard: Shard) -> None:
    """Write a shard as a file that is either whole or not there.

    Raises:
        InputError: it cannot be written.
    """
    offsets = pa.array(shard.tokens.offsets, pa.int32())
    statistics = (shard.tokens.rank, shard.tokens.surprisal, shard.tokens.entropy)
    table = pa.table(
        [
            pa.array(shard.ids, pa.string()),
            pa.array(shard.problems, pa.string()),
            pa.array(shard.chat_tokens, pa.uint32()),
            pa.array(shard.truncated, pa.bool_()),
            pa.array(shard.reasons, pa.string()),
            *(pa.ListArray.from_arrays(offsets, pa.array(values, from_pandas=True)) for values in statistics),
        ],
        schema=SCHEMA,
    )
    encoding = dict.fromkeys(FLOATS, SPLIT)
    path = artefact.path / shard_name(index)
    write_parquet(table, path, compression="zstd", use_dictionary=REPEATING, column_encoding=encoding)


def reasons(artefact: Artefact, index: int) -> dict[str, str]:
    """Trajectories that a shard leaves out, and why."""
    shard = read_shard(artefact, index)
    return {i: reason for i, reason in zip(shard.ids, shard.reasons, strict=True) if reason is not None}


def read_shard(artefact: Artefact, index: int) -> Shard:
    """Read a shard.

    Raises:
        InputError: it is damaged.
    """
    with reading(artefact.path / shard_name(index), pa.ArrowException):
        table = pq.read_table(artefact.checked(shard_name(index))).combine_chunks().cast(SCHEMA)
        lists = [table[name].combine_chunks() for name in ("rank", "surprisal", "entropy")]
        rank, surprisal, entropy = (values.flatten().to_numpy(zero_copy_only=False) for values in lists)
        lengths = lists[0].value_lengths().to_numpy()
        return Shard(
            ids=table["id"].to_pylist(),
            problems=table["problem"].to_pylist(),
            chat_tokens=table["chat_tokens"].to_pylist(),
            truncated=table["truncated"].to_pylist(),
            reasons=table["reason"].to_pylist(),
            tokens=Tokens(rank, surprisal, entropy, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)),
        )
