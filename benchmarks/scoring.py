"""What scoring costs: beside the bare forward pass of the model's body, and beside the plain way.

    python benchmarks/scoring.py                    # every part
    python benchmarks/scoring.py lengths vocabulary
    python benchmarks/scoring.py lengths turns --data FOLDER_OF_TRAJECTORIES

Parts: lengths (two distributions of lengths, and every token budget), profile (where the time goes), vocabulary (a tiny body under heads of 49k, 152k and 262k),
memory (one chat of growing length), processes (one with two threads, two with one),
busy (alone, and beside a process that keeps one core busy), turns (chats of 5, 20 and 50 turns, whole and by turn),
metrics (all token metrics beside RSR alone, with and without expected ranks).

The floor is the faster of one by one and the best batching of the body alone, with the same model, dtype and threads. The
plain way is what the reference implementation does: padded batches of four in order, all logits, the largest of each. Every
contender has a process of its own; rounds are interleaved, and the ratios are those of the fastest rounds. A first round, not
timed, gives the peak memory. What scoring computes is compared with the plain way, and a difference beyond rounding ends the run.

Each part writes a folder in results/benchmarks/, by the dtype that suits the CPU.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks import metrics as of_one_pass
from benchmarks import turns as by_turn
from benchmarks.contenders import DTYPE, Contender, Numbers, run_together, workers
from benchmarks.workload import LENGTHS, chat, chats
from experiments.app.result_folder import markdown_table, publish
from experiments.app.shared_configs import ROOT, PathsConfig, StudentConfig
from experiments.stages.students import model_of
from rsr.data import places, trajectories
from rsr.student import student as students
from rsr.student import threads
from rsr.student.chat import RenderedChat
from rsr.student.student import Student
from rsr.tokens.engine import Scorer
from rsr.tokens.settings import Scoring

BUDGETS = (1, 1024, 2048, 4096)
VOCABULARIES = (49_152, 151_936, 262_144)
MEMORY_LENGTHS = (1024, 4096, 16384)
BYTES = {"bfloat16": 2, "float32": 4}  # of a logit
RESULTS = ROOT / "results" / "benchmarks"

# A run is the work of one process, or of several at once: each a contender and its chats.
Run = Sequence[tuple[Contender, Sequence[RenderedChat]]]


def measure(runs: Mapping[str, Run], rounds: int) -> tuple[pl.DataFrame, dict[str, list[Numbers]]]:
    """One row per run, with the seconds of its fastest round; and what each computed."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    memory: dict[str, float] = {}
    numbers: dict[str, list[Numbers]] = {}
    with workers([one for run in runs.values() for one in run]) as started:
        ready = iter(started)
        by_contender = {name: [next(ready) for _ in run] for name, run in runs.items()}
        for done in range(rounds + 1):
            for name, running in by_contender.items():
                took, memory[name], numbers[name] = run_together(running)
                if done:
                    seconds[name].append(took)
            print(f"round {done} of {rounds}", file=sys.stderr, flush=True)
    rows = [
        {"run": name, "seconds": min(s), "slowest": max(s), "added_mb": memory[name]} for name, s in seconds.items()
    ]
    return pl.DataFrame(rows), numbers


def check(own: Numbers, plain: Numbers, dtype: str) -> str:
    """Compare with the plain way, and say how near.

    Raises:
        SystemExit: the numbers differ by more than rounding.
    """
    assert own is not None and plain is not None
    (rank, surprisal), (plain_rank, plain_surprisal) = own, plain
    surprisals = float(np.abs(surprisal - plain_surprisal).mean())
    ranks = float(np.abs(rank.astype(int) - plain_rank.astype(int)).mean())
    ratio = float(rank.sum() / surprisal.sum() / (plain_rank.sum() / plain_surprisal.sum()) - 1)
    # Batches of another shape round otherwise.
    bounds = {"float32": (1e-4, 0.01, 1e-4), "bfloat16": (0.05, 0.5, 0.005)}[dtype]
    said = f"surprisal {surprisals:.2g} nats and clipped rank {ranks:.2g} a token, RSR {ratio:+.2%}"
    if surprisals > bounds[0] or ranks > bounds[1] or abs(ratio) > bounds[2]:
        raise SystemExit(f"error: scoring and the plain way differ beyond rounding in {dtype}: {said}")
    return f"{dtype}: {said}"


def lengths(model: str, rounds: int, data: Path | None) -> None:
    """Real student, several distributions of lengths, every token budget."""
    student = students.load(model, device="cpu")
    workloads = {name: (workload.what, chats(student, workload.draw())) for name, workload in LENGTHS.items()}
    if data is not None:
        workloads = {"given": (f"drawn evenly from the teachers of {data.name}", mixed(data, student))}
    tables, text = [], ["# Scoring beside the bare forward pass", f"{student.name}, {DTYPE}, 2 threads."]
    for name, (what, drawn) in workloads.items():
        runs: dict[str, Run] = {f"body, {_batch(b)}": [(Contender("body", model, b), drawn)] for b in BUDGETS}
        runs["body and head's product, 2,048 a batch"] = [(Contender("body and head", model, 2048), drawn)]
        runs |= {f"scoring, {_batch(b)}": [(Contender("scoring", model, b), drawn)] for b in BUDGETS}
        runs["plain way"] = [(Contender("plain", model), drawn)]
        table, numbers = measure(runs, rounds)
        few = sorted(drawn, key=lambda c: len(c.ids))[:3]
        exact: dict[str, Run] = {w: [(Contender(w, model, dtype="float32"), few)] for w in ("scoring", "plain")}
        _, in_float32 = measure(exact, 1)
        agreement = [
            check(numbers["scoring, 2,048 a batch"][0], numbers["plain way"][0], DTYPE),
            check(in_float32["scoring"][0], in_float32["plain"][0], "float32"),
        ]
        sizes = [len(c.ids) for c in drawn]
        tokens = sum(sizes)
        table = beside_floor(table, "body, ").with_columns(
            lengths=pl.lit(name), tokens_per_second=tokens / pl.col("seconds")
        )
        tables.append(table)
        text += [
            f"## {name.capitalize()}",
            f"{what}: {len(drawn)} chats of {min(sizes)} to {max(sizes)} tokens (median {int(np.median(sizes))}), "
            f"{tokens:,} tokens. Scoring and the plain way differ by, on average, {'; '.join(agreement)}.",
            shown(table),
        ]
    publish(
        RESULTS / f"{'lengths' if data is None else 'given'}-{DTYPE}",
        "\n\n".join(text) + "\n",
        {"lengths.csv": pl.concat(tables)},
    )


def vocabulary(rounds: int) -> None:
    """A random model with hardly a body, so that the head is all there is to see."""
    rng = np.random.default_rng(0)
    tables = []
    for size in VOCABULARIES:
        drawn = [chat(rng.integers(size, size=256).tolist()) for _ in range(4)]
        runs: dict[str, Run] = {
            "body and head's product": [(Contender("body and head", size, 2048), drawn)],
            "scoring": [(Contender("scoring", size, 2048), drawn)],
            "plain way": [(Contender("plain", size), drawn)],
        }
        table, numbers = measure(runs, rounds)
        check(numbers["scoring"][0], numbers["plain way"][0], DTYPE)
        tables.append(beside_floor(table, "body and head").with_columns(vocabulary=pl.lit(size)))
    text = [
        "# Vocabularies",
        f"A random model of two layers of width 256 in {DTYPE}, 2 threads, 4 chats of 256 tokens: the floor here is the body "
        "with the head's product on response positions.",
        *(f"## {size:,}\n\n{shown(table)}" for size, table in zip(VOCABULARIES, tables, strict=True)),
    ]
    publish(RESULTS / f"vocabulary-{DTYPE}", "\n\n".join(text) + "\n", {"vocabulary.csv": pl.concat(tables)})


def profile(model: str, rounds: int) -> None:
    """Where the time of scoring goes."""
    student = students.load(model, device="cpu")
    scorer, drawn = Scorer(student, Scoring()), chats(student, LENGTHS["short"].draw())
    seconds: dict[str, float] = {}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            result = function(*arguments, **named)
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - began
            return result

        return call

    scorer.score(drawn)  # warm
    scorer.body = timed("body", scorer.body)
    scorer.head.product = timed("head's product", scorer.head.product)
    scorer.sweep = timed("rank, surprisal, entropy", scorer.sweep)
    best: dict[str, float] = {}
    for _ in range(rounds):
        seconds.clear()
        timed("all", scorer.score)(drawn)
        best = min(best or dict(seconds), dict(seconds), key=lambda times: times["all"])
    whole = best.pop("all")
    best["all else"] = whole - sum(best.values())
    table = pl.DataFrame({"part": best.keys(), "seconds": best.values()}).with_columns(share=pl.col("seconds") / whole)
    rows = [[name, f"{s:.2f}", f"{share:.1%}"] for name, s, share in table.rows()]
    text = [
        "# Where the time of scoring goes",
        f"{student.name}, {DTYPE}, {torch.get_num_threads()} threads, {sum(len(c.ids) for c in drawn):,} tokens of short chats, "
        f"the fastest of {rounds} rounds.",
        markdown_table(["part", "seconds", "share"], rows),
    ]
    publish(RESULTS / f"profile-{DTYPE}", "\n\n".join(text) + "\n", {"profile.csv": table})


def memory(size: int = VOCABULARIES[1]) -> None:
    """Peak memory over the length of one chat."""
    runs: dict[str, Run] = {
        f"{n}": [(Contender("scoring", size), [chat([i % size for i in range(k)]) for k in (64, n)])]
        for n in MEMORY_LENGTHS
    }
    table, _ = measure(runs, 1)
    table = table.select(
        pl.col("run").cast(pl.Int64).alias("tokens"),
        "added_mb",
        full_logits_mb=pl.col("run").cast(pl.Int64) * size * (BYTES[DTYPE] + 4) / 2**20,
    )
    text = [
        "# Memory over length",
        f"What scoring one chat adds, vocabulary {size:,}, body of 2 layers of width 256 in {DTYPE}; beside it all its logits in "
        "that and float32.",
        markdown_table(
            ["tokens", "added MB", "all logits, MB"], [[f"{n:,}", f"{a:.0f}", f"{f:,.0f}"] for n, a, f in table.rows()]
        ),
    ]
    publish(RESULTS / f"memory-{DTYPE}", "\n\n".join(text) + "\n", {"memory.csv": table})


def processes(model: str, rounds: int) -> None:
    """The same cores as threads of one process, or as processes of their own."""
    drawn = chats(students.load(model, device="cpu"), LENGTHS["short"].draw())
    runs: dict[str, Run] = {
        "one process, 2 threads": [(Contender("scoring", model, 2048), drawn)],
        "one process, 1 thread": [(Contender("scoring", model, 2048, threads=1), drawn)],
        "two processes, 1 thread each": [(Contender("scoring", model, 2048, threads=1), drawn[k::2]) for k in (0, 1)],
    }
    table, numbers = measure(runs, rounds)
    check(numbers["one process, 1 thread"][0], numbers["one process, 2 threads"][0], DTYPE)
    table = beside_floor(table, "one process, 2 threads")
    publish(RESULTS / f"processes-{DTYPE}", f"# Processes and threads\n\n{shown(table)}\n", {"processes.csv": table})


def busy(model: str, rounds: int) -> None:
    """Scoring alone, and beside a process that keeps one core busy; threads sleep while they wait, as the commands have it."""
    drawn = chats(students.load(model, device="cpu"), LENGTHS["short"].draw())
    runs: dict[str, Run] = {"scoring": [(Contender("scoring", model, 2048), drawn)]}
    alone, _ = measure(runs, rounds)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as loop:
        try:
            beside, _ = measure(runs, rounds)
        finally:
            loop.kill()
    table = pl.concat(
        [alone.with_columns(run=pl.lit("alone")), beside.with_columns(run=pl.lit("beside a busy process"))]
    )
    table = beside_floor(table, "alone")
    text = f"# Scoring beside a busy process\n\nSmolLM2-135M, {DTYPE}, 2 threads.\n\n{shown(table)}\n"
    publish(RESULTS / f"busy-{DTYPE}", text, {"busy.csv": table})


def turns(model: str, rounds: int, data: Path | None) -> None:
    """Chats of many turns, whole and by turn."""
    student = students.load(model, device="cpu")
    drawn = by_turn.from_documentation() if data is None else by_turn.from_trajectories(data)
    table = by_turn.measure(student, drawn, rounds)
    text = [
        "# Chats by turn",
        f"{student.name}, {DTYPE}, {torch.get_num_threads()} threads, the fastest of {rounds} rounds, under a template that drops "
        "the thinking of earlier turns; "
        + (
            "thoughts and answers out of the documentation."
            if data is None
            else f"trajectories of {data.name}, one after the other."
        ),
        by_turn.shown(table),
    ]
    name = f"turns-{DTYPE}" if data is None else f"turns-given-{DTYPE}"
    publish(RESULTS / name, "\n\n".join(text) + "\n", {"turns.csv": table})


def metrics(model: str, rounds: int) -> None:
    """All token metrics of one pass beside RSR alone."""
    student = students.load(model, device="cpu")
    drawn = chats(student, LENGTHS["short"].draw()[:3])
    table = of_one_pass.measure(student, drawn, rounds)
    text = [
        "# All token metrics of one forward pass",
        f"{student.name}, {DTYPE}, {torch.get_num_threads()} threads, {sum(len(c.ids) for c in drawn):,} tokens of short chats, "
        f"vocabulary {student.model.config.vocab_size:,}, the fastest of {rounds} rounds.",
        of_one_pass.shown(table),
    ]
    publish(RESULTS / f"metrics-{DTYPE}", "\n\n".join(text) + "\n", {"metrics.csv": table})


def beside_floor(table: pl.DataFrame, floor: str) -> pl.DataFrame:
    """With ratios to the fastest run whose name begins with `floor`, and of the plain way to each, where that ran."""
    fastest = table.filter(pl.col("run").str.starts_with(floor))["seconds"].min()
    plain = table.filter(pl.col("run") == "plain way")["seconds"].max()
    return table.with_columns(
        to_floor=pl.col("seconds") / fastest, plain_to_it=pl.lit(plain, pl.Float64) / pl.col("seconds")
    )


def shown(table: pl.DataFrame) -> str:
    faster = table["plain_to_it"].null_count() == 0
    return markdown_table(
        [
            "run",
            "seconds, fastest and slowest",
            "ratio to the floor",
            *["faster than the plain way"] * faster,
            "added MB",
        ],
        [
            [
                row["run"],
                f"{row['seconds']:.2f} to {row['slowest']:.2f}",
                f"{row['to_floor']:.2f}",
                *([f"{row['plain_to_it']:.1f} x"] if faster else []),
                f"{row['added_mb']:,.0f}",
            ]
            for row in table.iter_rows(named=True)
        ],
    )


def mixed(folder: Path, student: Student) -> list[RenderedChat]:
    """One chat of each teacher."""
    drawn = []
    for at, (teacher, generation, file) in enumerate(places.find(folder)):
        candidates = trajectories.read(file, teacher, generation).trajectories
        drawn.append(student.renderer.render(candidates[at * 7919 % len(candidates)].messages, student.max_positions))
    return drawn


def _batch(budget: int) -> str:
    return "one by one" if budget == 1 else f"{budget:,} a batch"


def main() -> None:
    threads.set_policy()  # of the processes of the contenders
    parts = ("lengths", "profile", "vocabulary", "memory", "processes", "busy", "turns", "metrics")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="default: all")
    parser.add_argument("--data", type=Path, help="measure lengths and turns on these trajectories instead")
    parser.add_argument("--student", help="a model folder instead of SmolLM2-135M")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    model = given.student or model_of(StudentConfig(name="smollm2", model=None, recipe="smollm2"), PathsConfig())
    run: dict[str, Callable[[], None]] = {
        "lengths": partial(lengths, str(model), given.rounds, given.data),
        "profile": partial(profile, str(model), given.rounds),
        "vocabulary": partial(vocabulary, given.rounds),
        "memory": memory,
        "processes": partial(processes, str(model), given.rounds),
        "busy": partial(busy, str(model), given.rounds),
        "turns": partial(turns, str(model), given.rounds, given.data),
        "metrics": partial(metrics, str(model), given.rounds),
    }
    for part in given.parts or parts:
        run[part]()


if __name__ == "__main__":
    main()
