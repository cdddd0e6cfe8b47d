"""A token store of the paper's size that no model has scored: 33 datasets of 5,000 trajectories, 1.47e9 response tokens.

Lengths and surprisals vary around what the paper prints of each teacher under the 3B student. A rank is at most e to the
surprisal, since the tokens before it are at least as probable.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from experiments.app.shared_configs import ROOT
from rsr.store.artefacts import Artefact
from rsr.student.chat import Departures
from rsr.tokens.token_store import Shard, TokenStore, shard_name, write_shard
from rsr.tokens.tokens import Tokens

GENERATIONS = ("gen1", "gen2", "gen3")
TRAJECTORIES = 5_000  # of a dataset
SHARD = 128  # trajectories of a shard
SHARDS = -(-TRAJECTORIES // SHARD)
LONGEST = 31_000  # tokens of a response, as the paper generates
VOCABULARY = 151_936
PROMPT = 100  # tokens
SPREAD = 0.6  # standard deviation of log length: a heavy tail
POOL = 2**22  # tokens that are drawn; every trajectory is a stretch of them from a place of its own


def printed_means() -> dict[str, tuple[float, float]]:
    """Mean tokens and mean surprisal of each teacher's trajectories under the 3B student, as printed."""
    rows = pl.read_csv(ROOT / "results" / "published" / "metrics.csv", infer_schema=False).filter(student="qwen3b")
    by_metric = {
        name: dict(rows.filter(metric=name).select("teacher", "printed_value").iter_rows())
        for name in ("avg_token_length", "avg_surprisal")
    }
    lengths, surprisals = by_metric["avg_token_length"], by_metric["avg_surprisal"]
    return {teacher: (float(lengths[teacher]), float(surprisals[teacher])) for teacher in lengths}


def stores(folder: Path, shards: int = SHARDS) -> list[TokenStore]:
    """The first shards of every dataset as token stores, whether they are there or not."""
    token_stores = []
    for teacher in printed_means():
        for generation in GENERATIONS:
            key = {"stage": "tokens", "student": {}, "scoring": {}, "data": f"{teacher}/{generation}"}
            counts = dict.fromkeys(("trajectories", "response_tokens"), min(shards * SHARD, TRAJECTORIES))
            facts = {"shards": shards, "counts": counts, "notes": []}
            artefact = Artefact(folder / f"{teacher}-{generation}", key, facts)
            token_stores.append(TokenStore(artefact, "generated", teacher, generation))
    return token_stores


def generate(folder: Path, shards: int) -> None:
    """Write the shards that are not there yet."""
    wanted = [(store, i) for store in stores(folder) for i in range(shards)]
    missing = [(store, i) for store, i in wanted if not (store.artefact.path / shard_name(i)).exists()]
    for store in {id(store): store for store, _ in missing}.values():
        store.artefact.path.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for done, _ in enumerate(threads.map(lambda arguments: _write(*arguments), missing), start=1):
            if done % 100 == 0 or done == len(missing):
                print(f"shard {done} of {len(missing)} written", file=sys.stderr, flush=True)


@cache
def _pool() -> tuple[Any, Any, Any]:
    """Surprisals of mean 1, how far a rank goes to what its surprisal allows, and entropies of mean 1."""
    rng = np.random.default_rng(0)
    n = POOL + LONGEST
    return rng.gamma(0.5, 2, n), rng.random(n) ** 4, rng.gamma(0.5, 2, n)


def _write(store: TokenStore, index: int) -> None:
    length, surprisal = printed_means()[store.teacher]
    seed = [*f"{store.teacher}/{store.generation}".encode(), index]
    rng = np.random.default_rng(seed)
    n = min(SHARD, TRAJECTORIES - index * SHARD)
    lengths = np.exp(rng.normal(np.log(length) - SPREAD**2 / 2, SPREAD, n)).astype(int).clip(1, LONGEST)
    starts = rng.integers(0, POOL, n)
    stretches = np.concatenate([np.arange(at, at + length) for at, length in zip(starts, lengths, strict=True)])
    s, share, h = (drawn[stretches] for drawn in _pool())
    s = np.minimum(s * surprisal, 17.0)
    rank = np.minimum(1 + np.expm1(s) * share, VOCABULARY).astype(np.uint32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = Tokens(rank, s.astype(np.float32), (h * surprisal).astype(np.float32), offsets)
    names = [str(index * SHARD + i) for i in range(n)]
    shard = Shard(
        names,
        names,
        [None] * n,
        (lengths + PROMPT).tolist(),
        (lengths == LONGEST).tolist(),
        [None] * n,
        [Departures()] * n,
        tokens,
    )
    write_shard(store.artefact, index, shard)
