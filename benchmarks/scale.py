"""Metrics, tables, ranking and selection at the paper's size: 33 datasets of 5,000 trajectories, 1.47e9 response tokens.

    python benchmarks/scale.py FOLDER [--shards 4 10 20 40]

Makes a token store in FOLDER (10 GB in full; what is there is used again) and runs each task over parts of it, of so many
shards a dataset, in a process of its own. Lengths and surprisals vary around what the paper prints of each teacher under
the 3B student; a rank is at most e to the surprisal, since the tokens before it are at least as probable.

Writes results/benchmarks/scale.md and scale.json.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from experiments.config import ROOT, Ablation
from experiments.output import markdown_table, provenance
from rsr.artefacts import Artefact
from rsr.store import SHARD, Shard, TokenStore, shard_path, write_shard
from rsr.tokens import Tokens

GENERATIONS = ("gen1", "gen2", "gen3")
TRAJECTORIES = 5_000  # of a dataset
SHARDS = -(-TRAJECTORIES // SHARD)
LONGEST = 31_000  # tokens of a response, as the paper generates
VOCABULARY = 151_936
SPREAD = 0.6  # standard deviation of log length: a heavy tail
POOL = 2**22  # tokens that are drawn; every trajectory is a stretch of them from a place of its own
TARGET_SECONDS, TARGET_MB = 300, 2048


# --- a store ---------------------------------------------------------------------------------------------------------


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
    found = []
    for teacher, _ in printed_means().items():
        for generation in GENERATIONS:
            key = {"stage": "tokens", "student": {}, "scoring": {}, "data": f"{teacher}/{generation}"}
            artefact = Artefact(
                folder / f"{teacher}-{generation}", key, {"shards": shards, "counts": {}, "template_adds": []}
            )
            found.append(TokenStore(artefact, "generated", teacher, generation))
    return found


def generate(folder: Path, shards: int) -> None:
    """Write the shards that are not there yet."""
    wanted = [(store, i) for store in stores(folder) for i in range(shards)]
    missing = [(store, i) for store, i in wanted if not shard_path(store.artefact, i).exists()]
    for store in {id(store): store for store, _ in missing}.values():
        store.artefact.path.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for done, _ in enumerate(threads.map(lambda of: _write(*of), missing), start=1):
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
    stretches = np.concatenate([np.arange(at, at + of) for at, of in zip(starts, lengths, strict=True)])
    s, share, h = (drawn[stretches] for drawn in _pool())
    s = np.minimum(s * surprisal, 17.0)
    rank = np.minimum(1 + np.expm1(s) * share, VOCABULARY).astype(np.uint32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = Tokens(rank, s.astype(np.float32), (h * surprisal).astype(np.float32), offsets)
    names = [str(index * SHARD + i) for i in range(n)]
    shard = Shard(names, names, (lengths + 100).tolist(), (lengths == LONGEST).tolist(), [None] * n, tokens)
    write_shard(shard_path(store.artefact, index), shard)


# --- tasks, each in a process of its own -----------------------------------------------------------------------------


def ablation(folder: Path, shards: int) -> None:
    """Every variant of Tables 5 and 14 over the store."""
    from experiments.ablation import measured

    measured(stores(folder, shards), Ablation(), seed=0)


def tabulate(folder: Path, shards: int) -> None:
    """The tables of every token metric, with intervals over problems."""
    from rsr.tables import tabulate as tables

    root = _tables(folder, shards)
    shutil.rmtree(root, ignore_errors=True)
    tables(stores(folder, shards), root, "scale", resamples=10_000, seed=0)


def ranking(folder: Path, shards: int) -> None:
    """The order of the datasets, with its bootstrap, from their tables."""
    from rsr.ranking import rank

    rank(_trajectories(folder, shards), resamples=10_000)


def selection(folder: Path, shards: int) -> None:
    """The best correct candidate of each problem, from 33."""
    from rsr.selection import CANDIDATES, Rule, choose

    rows = _trajectories(folder, shards).filter(metric="rsr", preset="")
    content = pl.concat_str("teacher", "generation", "trajectory").hash(seed=0)
    candidates = rows.with_columns(
        group="teacher", content=content.cast(pl.String).str.pad_start(64, "0"), correct=content % 5 > 0
    )
    choose(candidates.select(*CANDIDATES), "lower", Rule())


def _tables(folder: Path, shards: int) -> Path:
    return folder / f"tables-{shards}"


def _trajectories(folder: Path, shards: int) -> pl.DataFrame:
    (path,) = _tables(folder, shards).glob("scores/*/trajectories.parquet")
    return pl.read_parquet(path)


TASKS: dict[str, Callable[[Path, int], None]] = {
    "ablation": ablation,
    "tabulate": tabulate,
    "ranking": ranking,
    "selection": selection,
}


def measured(task: str, folder: Path, shards: int) -> dict[str, Any]:
    """Seconds, peak memory and disk of a task over so many shards of each dataset."""
    command = [sys.executable, __file__, str(folder), "--task", task, "--shards", str(shards)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(f"{task}, {shards} shards a dataset: {done.stdout.strip()}", file=sys.stderr, flush=True)
    read = folder.glob("*/shard-*.parquet") if task in ("ablation", "tabulate") else _tables(folder, shards).rglob("*")
    paths = [path for path in read if path.is_file() and (path.parent.parent != folder or _number(path) < shards)]
    return {
        "task": task,
        "shards": shards,
        "tokens": tokens(folder, shards),
        "trajectories": min(shards * SHARD, TRAJECTORIES) * len(stores(folder)),
        "disk_mb": sum(path.stat().st_size for path in paths) / 2**20,
        **json.loads(done.stdout),
    }


def _number(shard: Path) -> int:
    return int(shard.stem.rpartition("-")[2])


@cache
def tokens(folder: Path, shards: int) -> int:
    """Response tokens in so many shards of each dataset."""
    import pyarrow.parquet as pq

    paths = [shard_path(store.artefact, i) for store in stores(folder) for i in range(shards)]
    chats = (pq.read_table(path, columns=["chat_tokens"])["chat_tokens"].to_numpy() - 100 for path in paths)
    return int(sum(of.sum() for of in chats))


def in_this_process(run: Callable[[], object]) -> dict[str, float]:
    """Seconds of a call, and the peak memory of this process, imports and all."""
    began = time.perf_counter()
    run()
    return {"seconds": time.perf_counter() - began, "peak_mb": _peak_mb()}


def _peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()  # Linux
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


# --- results ---------------------------------------------------------------------------------------------------------


def slope(rows: Sequence[dict[str, Any]], x: str, y: str) -> float:
    """Of log y on log x: 1 where y grows as x does, 0 where it does not grow."""
    return float(np.polyfit(np.log([row[x] for row in rows]), np.log([row[y] for row in rows]), 1)[0])


def report(rows: list[dict[str, Any]]) -> str:
    largest = [row for row in rows if row["task"] == "ablation"][-1]
    full = largest["tokens"]
    met = largest["seconds"] <= TARGET_SECONDS and largest["peak_mb"] <= TARGET_MB
    parts = [
        "# Store, metrics, ranking and selection at the paper's size",
        f"{len(GENERATIONS) * len(printed_means())} datasets of up to {largest['trajectories'] // 33:,} trajectories, "
        f"{full:,} generated response tokens in {largest['disk_mb'] / 1024:.1f} GB; {os.cpu_count()} cores. Each line is one run "
        "of a process of its own; its peak memory counts the libraries too (about 150 MB). All measured, nothing extrapolated.",
        markdown_table(
            ["task", "trajectories", "tokens", "seconds", "peak MB", "reads MB"],
            [
                [
                    row["task"],
                    f"{row['trajectories']:,}",
                    f"{row['tokens']:.3g}",
                    f"{row['seconds']:.1f}",
                    f"{row['peak_mb']:,.0f}",
                    f"{row['disk_mb']:,.0f}",
                ]
                for row in rows
            ],
        ),
        f"All ablation metrics over {full:.3g} tokens in {largest['seconds']:.0f} s and {largest['peak_mb']:,.0f} MB; the target is "
        f"{TARGET_SECONDS} s and {TARGET_MB:,} MB on 2 cores: {'met' if met else 'not met'}.",
        f"Made by `{provenance()['command']}`.",
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shards", type=int, nargs="+", default=[4, 10, 20, SHARDS])
    parser.add_argument(
        "--tasks", nargs="+", choices=TASKS, default=[*TASKS], help="a ranking and a selection need tables"
    )
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        print(json.dumps(in_this_process(lambda: TASKS[arguments.task](arguments.folder, *arguments.shards))))
        return
    generate(arguments.folder, max(arguments.shards))
    rows = [measured(task, arguments.folder, n) for task in arguments.tasks for n in sorted(arguments.shards)]
    folder = ROOT / "results" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    record = provenance() | {"cores": os.cpu_count(), "rows": rows}
    (folder / "scale.json").write_text(json.dumps(record, indent=2) + "\n")
    (folder / "scale.md").write_text(report(rows))
    print(report(rows))


if __name__ == "__main__":
    main()
