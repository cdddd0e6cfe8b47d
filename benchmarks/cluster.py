"""Scoring by Ray's actors on this machine: throughput, and what a window costs its driver and its actors besides forward passes.

    python benchmarks/cluster.py FOLDER [--trajectories 4000] [--workers 1 2]

Scores datasets of short made trajectories under a student of two layers, with each number of actors on a core each, each in a process of
its own. Writes results/benchmarks/cluster.md and cluster.json.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.tasks import peak_mb, tiny_student
from experiments.app.result_folder import markdown_table, provenance
from experiments.app.shared_configs import ROOT
from experiments.miniature import words
from rsr.data import trajectories
from rsr.student.settings import Loading
from rsr.tokens.late_scorer import LateScorer
from rsr.tokens.settings import Scoring

DATASETS = 4
WORDS = 60  # of a response
MANY = 2_000  # works in flight of 1,000 actors
COLUMNS = {
    "workers": "actors",
    "seconds": "seconds",
    "tokens_per_second": "tokens a second",
    "windows": "windows",
    "driver_ms": "driver, ms of a core a window",
    "actor_ms": "actor, ms a window besides forward passes",
    "peak_mb": "driver, peak MB",
}


def data(folder: Path, number: int) -> list[Path]:
    """Files of made trajectories, so many in all; made once."""
    rng = random.Random(0)
    paths = [folder / "data" / f"teacher{i}.jsonl" for i in range(DATASETS)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            for i in range(number // DATASETS):
                said = [" ".join(rng.choices(words.OBJECTS, k=k)) for k in (5, WORDS)]
                messages = [{"role": r, "content": c} for r, c in zip(("user", "assistant"), said, strict=True)]
                file.write(json.dumps({"id": str(i), "messages": messages}) + "\n")
    return paths


def measure(folder: Path, workers: int) -> dict[str, Any]:
    """Score all datasets by so many actors; in a process of its own."""
    import ray

    from rsr.tokens import ray_scoring

    outputs = folder / f"outputs{workers}"
    shutil.rmtree(outputs, ignore_errors=True)
    datasets = [trajectories.read(path, path.stem) for path in sorted((folder / "data").iterdir())]
    make = partial(LateScorer, folder / "student", Loading(dtype="float32", device="cpu"), Scoring())
    ray.init("local", num_cpus=workers, log_to_driver=False, object_store_memory=10**8)
    told: list[float] = []
    began, worked = time.perf_counter(), time.process_time()
    stores = ray_scoring.score_on_ray(
        make,
        datasets,
        outputs,
        resources={"num_cpus": 1},
        progress=lambda dataset, characters, tokens: told.append(time.perf_counter()) if tokens else None,
    )
    seconds, core_seconds = time.perf_counter() - began, time.process_time() - worked
    facts = [store.artefact.facts for store in stores]
    tokens, forward = (sum(f[name] for f in facts) for name in ("tokens_in_those_seconds", "seconds"))
    steady = told[-1] - told[0]  # without the start of actors and the end of stores
    waited = workers * steady - forward * (len(told) - 1) / len(told)
    return {
        "workers": workers,
        "seconds": round(seconds, 1),
        "tokens_per_second": round(tokens / steady),
        "windows": len(told),
        "driver_ms": round(1000 * core_seconds / len(told), 1),
        "actor_ms": round(1000 * waited / len(told), 1),
        "peak_mb": round(peak_mb()),
    }


def waiting(number: int) -> float:
    """Milliseconds of a core that a driver takes to find which of so many calls in flight has ended."""
    import ray

    ray.init("local", num_cpus=1, log_to_driver=False, object_store_memory=10**8)
    actor = ray.remote(_Sleeper).remote()
    flying = [actor.sleep.remote(600) for _ in range(number)]
    ended = [ray.put(i) for i in range(20)]
    ray.wait([*flying, ended[0]])
    worked = time.process_time()
    for reference in ended:
        ray.wait([*flying, reference])
    return 1000 * (time.process_time() - worked) / len(ended)


class _Sleeper:
    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trajectories", type=int, default=4000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    folder: Path = given.folder.absolute()
    if given.one is not None:
        print(json.dumps(measure(folder, given.one) if given.one else {"wait_ms": round(waiting(MANY), 2)}))
        return
    data(folder, given.trajectories)
    tiny_student(folder / "student")
    command = [sys.executable, __file__, str(folder), "--one"]
    rows = [
        json.loads(subprocess.run([*command, str(n)], check=True, stdout=subprocess.PIPE).stdout)
        for n in (*given.workers, 0)
    ]
    wait = rows.pop()
    table = markdown_table([*COLUMNS.values()], [[f"{row[name]:,}" for name in COLUMNS] for row in rows])
    target = ROOT / "results" / "benchmarks"
    said = f"{given.trajectories:,} trajectories in {DATASETS} datasets, {os.cpu_count()} cores. To find which of {MANY:,} calls in flight has ended takes a driver {wait['wait_ms']} ms."
    (target / "cluster.md").write_text(f"# Scoring by Ray's actors\n\n{table}\n\n{said}\n")
    results = {"rows": rows, **wait, "trajectories": given.trajectories, **provenance()}
    (target / "cluster.json").write_text(json.dumps(results, indent=2) + "\n")
    print(table, said, sep="\n\n")


if __name__ == "__main__":
    main()
