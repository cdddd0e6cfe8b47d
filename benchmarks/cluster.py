"""Scoring by Ray's actors on this machine: throughput, and what a shard costs its driver and its actors besides forward passes.

    python benchmarks/cluster.py FOLDER [--trajectories 165000] [--workers 0 1 2 4]

Made trajectories of a few tokens, as many as the paper has and in as many datasets, are scored under a student of two layers. Each number
of actors has a thread each, and a driver in a process of its own; 0 is one process without Ray. Writes results/benchmarks/cluster/.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.tasks import peak_mb, tiny_student
from experiments.app.result_folder import markdown_table, publish
from experiments.app.shared_configs import ROOT
from experiments.miniature import words
from rsr.data import trajectories
from rsr.metrics.score_tables import token_stores
from rsr.student.settings import Loading
from rsr.tokens.late_scorer import LateScorer
from rsr.tokens.settings import Scoring

DATASETS, TRAJECTORIES = 33, 165_000  # the paper's
WORDS = (5, 12)  # of a problem, and of a response
# On paper: this many GPUs, and what the paper's scoring under the 3B student takes of one (docs/scale.md).
GPUS, GPU_SECONDS, SHARDS = 1_000, 1.21 * 8 * 3600, 33 * 32
COLUMNS = {
    "workers": "actors",
    "seconds": "seconds",
    "tokens_per_second": "tokens a second",
    "ratio": "to no Ray",
    "shards": "shards",
    "driver_ms": "driver, ms of a core a shard",
    "actor_ms": "actor, ms a shard besides forward passes",
    "peak_mb": "driver, peak MB",
}


def make_data(folder: Path, number: int) -> None:
    """Files of made trajectories, so many in all."""
    rng = random.Random(0)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for teacher in range(DATASETS):
        with (folder / f"teacher{teacher}.jsonl").open("w") as file:
            for i in range(number // DATASETS):
                said = [" ".join(rng.choices(words.OBJECTS, k=k)) for k in WORDS]
                messages = [{"role": r, "content": c} for r, c in zip(("user", "assistant"), said, strict=True)]
                file.write(json.dumps({"id": str(i), "messages": messages}) + "\n")


def measured(folder: Path, workers: int) -> dict[str, float]:
    """What scoring by so many actors takes; in a process of its own."""
    outputs = folder / "outputs"
    shutil.rmtree(outputs, ignore_errors=True)
    datasets = [trajectories.read(path, path.stem) for path in sorted((folder / "data").iterdir())]
    scorer = LateScorer(folder / "student", Loading(dtype="float32", device="cpu"), Scoring())
    told: list[float] = []

    def progress(dataset: Any, characters: int, tokens: int) -> None:
        told.append(time.perf_counter())

    if not workers:
        began, worked = time.perf_counter(), time.process_time()
        stores = token_stores(scorer, datasets, outputs, progress=progress)
    else:
        from rsr.tokens.ray_scoring import connected, score_on_ray

        with connected("local", num_cpus=workers, object_store_memory=10**8):
            began, worked = time.perf_counter(), time.process_time()
            stores = score_on_ray(lambda: scorer, datasets, outputs, resources={"num_cpus": 1}, progress=progress)
    seconds, core_seconds = time.perf_counter() - began, time.process_time() - worked
    facts = [store.artefact.facts for store in stores]
    tokens, forward = (sum(store[name] for store in facts) for name in ("tokens_in_those_seconds", "seconds"))
    shards = sum(store["shards"] for store in facts)
    steady = told[-1] - told[0]  # without the start of actors and the end of the last store
    return {
        "workers": workers,
        "seconds": seconds,
        "tokens": tokens,
        "tokens_per_second": tokens / steady,
        "shards": shards,
        "driver_ms": 1000 * core_seconds / shards if workers else 0,
        "actor_ms": 1000 * max(0.0, workers * steady - forward) / shards,
        "peak_mb": peak_mb(),
    }


def milliseconds_of_waiting(calls: int) -> float:
    """Of a core, that a driver takes to find which of so many calls in flight has ended."""
    import ray

    from rsr.tokens.ray_scoring import connected

    with connected("local", num_cpus=1, object_store_memory=10**8):
        actor = ray.remote(_Sleeper).remote()
        flying = [actor.sleep.remote(600) for _ in range(calls)]
        ended = [ray.put(i) for i in range(20)]
        ray.wait([*flying, ended[0]])
        worked = time.process_time()
        for reference in ended:
            ray.wait([*flying, reference])
        return 1000 * (time.process_time() - worked) / len(ended)


class _Sleeper:
    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def on_paper(driver_ms: float, wait_ms: float) -> str:
    """What a driver of many GPUs would be busy with."""
    between = 1000 * GPU_SECONDS / SHARDS / GPUS
    return (
        f"On paper: {SHARDS:,} shards of the paper's data take {GPU_SECONDS / SHARDS:.0f} s of an H100 each under the 3B student. With {GPUS:,} "
        f"GPUs one ends every {between:.0f} ms. A driver takes {driver_ms:.1f} ms of a core for it at most, and {wait_ms:.1f} ms to find it among "
        f"{2 * GPUS:,} calls in flight: {(driver_ms + wait_ms) / between:.0%} of a core. With so few shards a GPU the last ones are waited for "
        f"longer than the driver: {SHARDS} shards on {GPUS:,} GPUs are two rounds."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trajectories", type=int, default=TRAJECTORIES)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--waiting", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    folder: Path = given.folder.absolute()
    if given.one is not None:
        print(json.dumps(measured(folder, given.one)))
        return
    if given.waiting:
        print(milliseconds_of_waiting(given.waiting))
        return
    make_data(folder / "data", given.trajectories)
    tiny_student(folder / "student")

    def apart(*arguments: str) -> Any:
        command = [sys.executable, __file__, str(folder), *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        print(done.stdout.strip(), file=sys.stderr, flush=True)
        return json.loads(done.stdout)

    rows = [apart("--one", str(workers)) for workers in given.workers]
    wait_ms = apart("--waiting", str(2 * GPUS))
    table = pl.DataFrame(rows).with_columns(ratio=pl.col("tokens_per_second") / rows[0]["tokens_per_second"])
    digits = dict.fromkeys(COLUMNS, 0) | {"ratio": 2, "driver_ms": 1, "actor_ms": 1}
    lines = [[f"{row[name]:,.{digits[name]}f}" for name in COLUMNS] for row in table.iter_rows(named=True)]
    text = [
        "# Scoring by Ray's actors",
        f"{given.trajectories:,} trajectories in {DATASETS} datasets, {rows[0]['tokens']:,} tokens; {os.cpu_count()} cores. Actors 0 is one process "
        "without Ray. The speed leaves out the start of actors, seconds count it.",
        markdown_table([*COLUMNS.values()], lines),
        on_paper(rows[-1]["driver_ms"], wait_ms),
    ]
    publish(
        ROOT / "results" / "benchmarks" / "cluster", "\n\n".join(text) + "\n", {"cluster.csv": table}, wait_ms=wait_ms
    )


if __name__ == "__main__":
    main()
