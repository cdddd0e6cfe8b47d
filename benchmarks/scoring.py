"""What scoring costs beside the bare forward pass of the model's body, and how its memory grows.

    python benchmarks/scoring.py FOLDER_OF_TRAJECTORIES [--student MODEL] [--trajectories 60] [--dtype bfloat16]

The floor is the body alone on the same chats, dtype and threads: one by one, and in batches by length under several
token budgets, whichever is fastest. Times are medians of interleaved rounds; the ratio to the floor is what to look at.
Peak memory is that of a process of its own per length, with a tiny body and a vocabulary of 152,000.

Writes results/benchmarks/scoring.md and scoring.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from experiments.config import ROOT, Paths
from experiments.config import Student as StudentConfig
from experiments.output import markdown_table, provenance
from experiments.students import model_of
from rsr import student as students
from rsr import trajectories
from rsr.chat import RenderedChat
from rsr.engine import Scorer, Scoring, batches
from rsr.student import Student

BUDGETS = (1, 1024, 2048, 4096, 8192)
LENGTHS = (1024, 2048, 4096, 8192, 16384)
VOCABULARY = 152_000


def mixed_chats(folder: Path, student: Student, n: int) -> list[RenderedChat]:
    """Chats drawn evenly over teachers, within the model's positions."""
    found = trajectories.find(folder)
    each = -(-n // len(found))
    rng = np.random.default_rng(0)
    chats = []
    for teacher, generation, file in found:
        data = trajectories.read(file, teacher, generation).trajectories
        for i in rng.choice(len(data), min(each, len(data)), replace=False):
            chats.append(student.renderer.render(data[i].messages, Scoring().max_length_for(student)))
    return chats[:n]


@torch.inference_mode()
def body_alone(scorer: Scorer, chats: list[RenderedChat], budget: int) -> None:
    for group in batches([len(c.ids) for c in chats], budget):
        ids = torch.zeros((len(group), max(len(chats[i].ids) for i in group)), dtype=torch.long)
        for row, i in enumerate(group):
            ids[row, : len(chats[i].ids)] = torch.tensor(chats[i].ids)
        scorer.body(input_ids=ids, use_cache=False)


def measure(scorer: Scorer, chats: list[RenderedChat], rounds: int) -> dict[str, float]:
    """Median seconds by what was run."""
    tasks: dict[str, Callable[[], object]] = {
        f"body, {'one by one' if b == 1 else f'{b} tokens a batch'}": (lambda b=b: body_alone(scorer, chats, b))
        for b in BUDGETS
    }
    tasks |= {
        f"scoring, {'one by one' if b == 1 else f'{b} tokens a batch'}": (
            lambda b=b: Scorer(scorer.student, Scoring(token_budget=b)).score(chats)
        )
        for b in BUDGETS
    }
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for done in range(rounds):
        for name, task in tasks.items():
            began = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - began)
        print(f"round {done + 1} of {rounds}", file=sys.stderr, flush=True)
    return {name: statistics.median(times) for name, times in seconds.items()}


def peak_memory(length: int) -> dict[str, float]:
    """Megabytes that scoring one chat of `length` tokens adds, at a vocabulary of 152,000 and a tiny body."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4)
    config = LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=2 * length, num_key_value_heads=4, **shape)
    model = LlamaForCausalLM(config).bfloat16().eval()
    scorer = Scorer(Student("tiny", model, None, {}), Scoring())  # type: ignore[arg-type]
    from rsr.chat import Turn

    scorer.score([RenderedChat(tuple(range(64)), (Turn(8, 64, None),), 64)])
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark starts anew
    before = _status("VmRSS")
    scorer.score([RenderedChat(tuple(i % VOCABULARY for i in range(length)), (Turn(8, length, None),), length)])
    return {"length": length, "added_mb": _status("VmHWM") - before, "full_logits_mb": length * VOCABULARY * 6 / 2**20}


def _status(name: str) -> float:
    """A memory figure of this process, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--student")
    parser.add_argument("--trajectories", type=int, default=60)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        print(json.dumps(peak_memory(arguments.memory)))
        return
    if arguments.data is None:
        parser.error("a folder of trajectories is needed")
    model = arguments.student or model_of(StudentConfig(name="smollm2", model=None, recipe="smollm2"), Paths())
    student = students.load(model, dtype=arguments.dtype, device="cpu")
    chats = mixed_chats(arguments.data, student, arguments.trajectories)
    tokens = sum(len(c.ids) for c in chats)
    seconds = measure(Scorer(student, Scoring()), chats, arguments.rounds)
    floor = min(time for name, time in seconds.items() if name.startswith("body"))
    memory = [
        json.loads(
            subprocess.run([sys.executable, __file__, "--memory", str(n)], check=True, capture_output=True).stdout
        )
        for n in LENGTHS
    ]
    lengths = np.array([len(c.ids) for c in chats])
    text = "\n\n".join(
        [
            "# Scoring beside the bare forward pass",
            f"{student.name}, {arguments.dtype}, {torch.get_num_threads()} threads; {len(chats)} chats of {lengths.min()} to "
            f"{lengths.max()} tokens (median {int(np.median(lengths))}), {tokens:,} tokens in all; median of "
            f"{arguments.rounds} rounds.",
            markdown_table(
                ["run", "seconds", "tokens/s", "ratio to the floor"],
                [[n, f"{s:.1f}", f"{tokens / s:,.0f}", f"{s / floor:.2f}"] for n, s in seconds.items()],
            ),
            f"Memory that scoring one chat adds, vocabulary {VOCABULARY:,}, body of 2 layers of width 64:",
            markdown_table(
                ["tokens", "added MB", "full logits, bf16 and float32, MB"],
                [[f"{m['length']:,}", f"{m['added_mb']:.0f}", f"{m['full_logits_mb']:,.0f}"] for m in memory],
            ),
            f"Made by `{provenance()['command']}`.",
        ]
    )
    folder = ROOT / "results" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scoring.md").write_text(text + "\n")
    record = provenance() | {"seconds": seconds, "tokens": tokens, "memory": memory}
    (folder / "scoring.json").write_text(json.dumps(record, indent=2) + "\n")
    print(text)


if __name__ == "__main__":
    main()
