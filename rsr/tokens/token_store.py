"""The token store: statistics of every response token, in shards.

What the engine did not give, NaN or None in memory, is null on disk; a column that an old store lacks is read as None.

A shard holds some trajectories in the order of the dataset, as one Parquet file that is either whole or not there: the unit of
resuming, and of work where several processes score. `rsr.tokens.score_dataset` cuts a dataset into them. How many processes there were
changes its numbers within rounding at most.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rsr.data.trajectories import dataset_name
from rsr.errors import InputError
from rsr.store.artefacts import Artefact, reading
from rsr.store.parquet import write_parquet
from rsr.student.chat import Departures
from rsr.tokens.tokens import LATER, Tokens
from rsr.tokens.tokens import joined as joined_tokens

T = TypeVar("T")
STAGE = "tokens"
THREADS = 4
DEPARTURES = [part.name for part in fields(Departures)]
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "problem": pa.string(),
        "sha256": pa.string(),  # of its messages and tools (rsr.data.trajectories.Trajectory)
        "chat_tokens": pa.uint32(),  # of the whole chat, before truncation
        "truncated": pa.bool_(),
        # Where what is scored departs from the trajectory (rsr.student.chat.Departures).
        **{name: pa.uint32() for name in DEPARTURES},
        "reason": pa.string(),  # why it has no tokens, where it was left out
        "rank": pa.list_(pa.uint32()),
        "surprisal": pa.list_(pa.float32()),
        "entropy": pa.list_(pa.float32()),
        "squares": pa.list_(pa.float32()),
        "expected_rank": pa.list_(pa.float32()),
        "repeated": pa.list_(pa.bool_()),
    }
)
# How columns are written, not what they hold: floats hardly repeat, but their upper bytes are alike.
REPEATING = ["id", "problem", "sha256", "reason", "rank.list.element"]
FLOATS = [f"{name}.list.element" for name in ("surprisal", "entropy", "squares", "expected_rank")]
SPLIT = "BYTE_STREAM_SPLIT"


@dataclass(frozen=True)
class Shard:
    """Trajectories and the statistics of their response tokens."""

    ids: Sequence[str]
    problems: Sequence[str]
    sha256: Sequence[str | None]
    chat_tokens: Sequence[int]
    truncated: Sequence[bool]
    reasons: Sequence[str | None]
    departures: Sequence[Departures]
    tokens: Tokens

    def part(self, start: int, stop: int) -> "Shard":
        """Its trajectories from start to before stop."""
        columns = {
            column.name: getattr(self, column.name)[start:stop] for column in fields(self) if column.name != "tokens"
        }
        return Shard(**columns, tokens=self.tokens.part(start, stop))


def joined(shards: Sequence[Shard]) -> Shard:
    """The trajectories of several, in order."""
    columns = {
        column.name: [value for shard in shards for value in getattr(shard, column.name)]
        for column in fields(Shard)
        if column.name != "tokens"
    }
    return Shard(**columns, tokens=joined_tokens([shard.tokens for shard in shards]))


@dataclass(frozen=True)
class TokenStore:
    """The shards of one dataset under one student, with the names that they go by."""

    artefact: Artefact
    student: str
    teacher: str
    generation: str
    skipped: int = 0  # malformed records that the dataset was read without
    unread: tuple[str, ...] = ()  # what was not read of it, in words

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
    table = pa.table(
        [
            pa.array(shard.ids, pa.string()),
            pa.array(shard.problems, pa.string()),
            pa.array(shard.sha256, pa.string()),
            pa.array(shard.chat_tokens, pa.uint32()),
            pa.array(shard.truncated, pa.bool_()),
            *(pa.array([getattr(one, name) for one in shard.departures], pa.uint32()) for name in DEPARTURES),
            pa.array(shard.reasons, pa.string()),
            *(_lists(offsets, name, getattr(shard.tokens, name)) for name in ("rank", "surprisal", "entropy", *LATER)),
        ],
        schema=SCHEMA,
    )
    encoding = dict.fromkeys(FLOATS, SPLIT)
    path = artefact.path / shard_name(index)
    write_parquet(table, path, compression="zstd", use_dictionary=REPEATING, column_encoding=encoding)


def _lists(offsets: pa.Array, name: str, values: NDArray[Any] | None) -> pa.Array:
    if values is None:
        return pa.nulls(len(offsets) - 1, SCHEMA.field(name).type)
    return pa.ListArray.from_arrays(offsets, pa.array(values, from_pandas=True))


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
        on_disk = pq.read_table(artefact.checked(shard_name(index))).combine_chunks()
        for name in ("sha256", *LATER):
            if name not in on_disk.column_names:
                on_disk = on_disk.add_column(
                    SCHEMA.names.index(name), name, pa.nulls(len(on_disk), SCHEMA.field(name).type)
                )
        table = on_disk.cast(SCHEMA)
        lists = [table[name].combine_chunks() for name in ("rank", "surprisal", "entropy")]
        rank, surprisal, entropy = (values.flatten().to_numpy(zero_copy_only=False) for values in lists)
        lengths = lists[0].value_lengths().to_numpy()
        return Shard(
            ids=table["id"].to_pylist(),
            problems=table["problem"].to_pylist(),
            sha256=table["sha256"].to_pylist(),
            chat_tokens=table["chat_tokens"].to_pylist(),
            truncated=table["truncated"].to_pylist(),
            departures=[Departures(**row) for row in table.select(DEPARTURES).to_pylist()],
            reasons=table["reason"].to_pylist(),
            tokens=Tokens(
                rank,
                surprisal,
                entropy,
                np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
                **{name: _column(table[name].combine_chunks()) for name in LATER},
            ),
        )


def _column(lists: pa.Array) -> NDArray[Any] | None:
    if lists.null_count:
        return None
    values: NDArray[Any] = lists.flatten().to_numpy(zero_copy_only=False)
    return values
