"""What a GPU does with this project: speed, memory and equality with the CPU, in at most ten minutes, without a network.

    python benchmarks/gpu.py                      # every part, on the first GPU
    python benchmarks/gpu.py scoring training
    python benchmarks/gpu.py --device cpu --shape tiny   # does the script run? nothing is written

Parts: ceilings (products and copies), sweep (the passes over logits, and the compiled ones), scoring (the bare body, the engine and the plain way, on shapes of 135M, 1.5B and 7B
parameters with random weights and chats of drawn lengths), parity (CPU against this device, in float32), files (`rsr.score` from files to tables),
training (TRL, and the memory that `train/memory.py` expects), sampling (fixed batches and continuous batching), study (the miniature).

It writes results/benchmarks/gpu/CARD.json and says what is not within a tenth of what stood there.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks.contenders import PLAIN_BATCH, body, plain
from benchmarks.workload import Lengths, chat
from eval.settings import Way
from experiments.app.result_folder import provenance
from experiments.app.shared_configs import ROOT
from rsr.student import student as students
from rsr.student.chat import RenderedChat
from rsr.student.device import weights_dtype
from rsr.student.student import Student
from rsr.tokens.engine import Scorer
from rsr.tokens.settings import Scoring
from rsr.tokens.statistics import fused_statistics, token_statistics
from train import memory

RESULTS = ROOT / "results" / "benchmarks" / "gpu"
BUDGETS = (2_048, 8_192, 32_768, 131_072)  # tokens a batch
ROUNDS = 3
WITHIN = 0.1  # of an earlier figure
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

Figures = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """A decoder's shape, and the chats that it is given."""

    shape: memory.Shape
    lengths: Lengths


WORK: Mapping[str, Work] = {
    "tiny": Work(memory.Shape(2, 64, 128, 2, 1, 32, 512, tied=True), Lengths("tiny", 100, 0.5, 20, 400, 12)),
    "135M": Work(
        memory.Shape(30, 576, 1_536, 9, 3, 64, 49_152, tied=True), Lengths("short", 314, 1.14, 105, 6_852, 480)
    ),
    "1.5B": Work(
        memory.Shape(28, 1_536, 8_960, 12, 2, 128, 151_936, tied=True), Lengths("long", 7_081, 0.51, 2_027, 17_080, 24)
    ),
    "7B": Work(memory.Shape(28, 3_584, 18_944, 28, 4, 128, 152_064), Lengths("long", 7_081, 0.51, 2_027, 17_080, 24)),
}


class Bench:
    """One device, and what is measured on it.

    Args:
        shape: of the parts that take one; the part `scoring` takes all but the tiny one where it is None.
    """

    def __init__(self, device: str, shape: str | None, folder: Path) -> None:
        self.device, self.shape, self.folder = torch.device(device), shape, folder
        self.dtype = weights_dtype("auto", device)

    def seconds(self, run: Callable[[], object], rounds: int = ROUNDS) -> float:
        """The median of some rounds, after one that is not timed."""
        taken = []
        for _ in range(rounds + 1):
            began = time.perf_counter()
            run()
            self.wait()
            taken.append(time.perf_counter() - began)
        return median(taken[1:])

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def peak(self, run: Callable[[], object]) -> float | None:
        """GB that a run adds to what is allocated; None on a CPU."""
        if self.device.type != "cuda":
            run()
            return None
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        run()
        self.wait()
        return (torch.cuda.max_memory_allocated(self.device) - before) / 1e9

    def ceilings(self) -> Figures:
        """A product and a copy, the most that the device does."""
        size = 8_192 if self.device.type == "cuda" else 1_024
        square = torch.ones(size, size, dtype=getattr(torch, self.dtype), device=self.device)
        copied = torch.ones(2**28 if self.device.type == "cuda" else 2**24, device=self.device)
        target = torch.empty_like(copied)
        return {
            f"product of {size}, TFLOP/s": 2 * size**3 / self.seconds(lambda: square @ square) / 1e12,
            "copy, TB/s read and written": 2 * 4 * copied.numel() / self.seconds(lambda: target.copy_(copied)) / 1e12,
        }

    def sweep(self) -> Figures:
        """Seconds of the statistics of some logits: pass by pass, and compiled."""
        rows, vocabularies = (1_024, (49_152, 151_936)) if self.device.type == "cuda" else (32, (4_999,))
        compiled = torch.compile(fused_statistics, dynamic=True)
        figures: Figures = {}
        for vocabulary in vocabularies:
            logits = (4 * torch.randn(rows, vocabulary, device=self.device)).to(getattr(torch, self.dtype))
            logits[:, :7] = -torch.inf
            targets = torch.randint(7, vocabulary, (rows,), device=self.device)
            began = time.perf_counter()
            one, other = compiled(logits, targets), token_statistics(logits, targets)
            to_compile = time.perf_counter() - began
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
            if not torch.equal(one[0], other[0]):
                raise SystemExit("error: the compiled sweep gives other ranks")
            eager, kernel = (self.seconds(partial(f, logits, targets)) for f in (token_statistics, compiled))
            figures[f"{vocabulary:,}"] = {
                "rows": rows,
                "eager": eager,
                "compiled": kernel,
                "times faster": eager / kernel,
                "to compile": to_compile,
            }
        return figures

    def scoring(self) -> Figures:
        """Tokens a second of the body, the engine and the plain way."""
        return {name: self._scoring(name) for name in ([self.shape] if self.shape else [*WORK][1:])}

    def _scoring(self, name: str) -> Figures:
        work = WORK[name]
        student = random_student(work.shape, self.device, self.dtype)
        chats = drawn_chats(work)
        tokens = sum(len(c.ids) for c in chats)
        scorers = {
            "engine": Scorer(student, Scoring()),
            "engine, 2,048 tokens": Scorer(student, Scoring(token_budget=2_048)),
        }
        some = chats[: 2 * PLAIN_BATCH]
        figures: Figures = {
            f"body, {budget:,} tokens": tokens / self.seconds(partial(body, scorers["engine"], chats, budget), 1)
            for budget in BUDGETS
        }
        figures |= {way: tokens / self.seconds(partial(scorer.score, chats)) for way, scorer in scorers.items()}
        figures["plain way"] = sum(len(c.ids) for c in some) / self.seconds(partial(plain, scorers["engine"], some), 1)
        best = max(value for way, value in figures.items() if way.startswith("body"))
        return {
            "chats": len(chats),
            "tokens": tokens,
            "tokens a second": figures,
            "time over the best body": {way: best / value for way, value in figures.items()},
            "added by the engine, GB": self.peak(partial(scorers["engine"].score, chats)),
        }

    def parity(self) -> Figures:
        """A model on the CPU and here, in float32: the share of equal ranks, and how far surprisals and entropies are apart."""
        here = random_student(WORK["tiny"].shape, self.device, "float32")
        there = random_student(WORK["tiny"].shape, torch.device("cpu"), "float32")
        there.model.load_state_dict({name: value.cpu() for name, value in here.model.state_dict().items()})
        chats = drawn_chats(WORK["tiny"])
        one, other = (Scorer(student, Scoring()).score(chats) for student in (here, there))
        apart = {n: float(np.abs(getattr(one, n) - getattr(other, n)).max()) for n in ("surprisal", "entropy")}
        if (equal := float((one.rank == other.rank).mean())) < 0.999 or max(apart.values()) > 1e-4:
            raise SystemExit(
                f"error: CPU and {self.device} differ beyond rounding: ranks {equal:.2%} equal, apart by {apart}"
            )
        return {"ranks equal": equal, **{f"{name}, nats apart": value for name, value in apart.items()}}

    def files(self) -> Figures:
        """From files to tables, with a tokenizer trained on the spot."""
        import rsr

        model = self._saved()
        data = self.folder / "data.jsonl"
        words = documentation().split()
        lengths = WORK[self.shape or "135M"].lengths.draw()
        with data.open("w", encoding="utf-8") as file:
            for i, length in enumerate(lengths):
                text = " ".join(words[(i * 97 + k) % len(words)] for k in range(length // 2))
                messages = [{"role": "user", "content": f"{i} ?"}, {"role": "assistant", "content": text}]
                file.write(json.dumps({"messages": messages}) + "\n")
        student = students.load(model, device=str(self.device))
        began = time.perf_counter()
        scores = rsr.score(student, data, outputs=self.folder / "outputs")
        seconds = time.perf_counter() - began
        tokens = int(scores.trajectories.filter(metric="rsr")["tokens"].sum())
        return {"seconds": seconds, "response tokens": tokens, "tokens a second": tokens / seconds}

    def training(self) -> Figures:
        """Steps of TRL, and the memory that they were expected to take."""
        from rsr.data import trajectories
        from train import sft
        from train.base import Base
        from train.settings import Overlong, Training

        model, shape = self._saved(), WORK[self.shape or "135M"].shape
        text = documentation()
        answers = [text[i * 4_000 : (i + 1) * 4_000] for i in range(16)]
        records = [(str(i), {"instruction": f"{i} ?", "output": answer}) for i, answer in enumerate(answers)]
        settings = Training(
            learning_rate=1e-5,
            batch_size=4,
            micro_batch=1,
            epochs=2,
            max_length=2_048,
            overlong=Overlong.truncate,
            bf16=self.dtype == "bfloat16",
        )
        began = time.perf_counter()
        tokens: list[int] = []
        peak = self.peak(
            lambda: tokens.append(
                sft.fine_tune(
                    Base("benchmark", str(model)),
                    trajectories.parse(records, "teacher"),
                    settings,
                    self.folder / "trained",
                ).facts["counts"]["tokens"]
            )
        )
        seconds = time.perf_counter() - began
        expected = memory.of_training(shape, settings.max_length, 1, memory.Spread.none, checkpointing=False)
        return {
            "seconds, loading and saving included": seconds,
            "tokens a second": settings.epochs * tokens[0] / seconds,
            "peak, GB": peak,
            "expected, GB": expected.device / 1e9,
        }

    def sampling(self) -> Figures:
        """64 answers by each way that needs no server; benchmarks/sampling.py has the same with one."""
        from benchmarks.sampling import seconds_and_tokens

        limit = 256 if self.device.type == "cuda" else 16
        figures: Figures = {}
        for way in (Way.batches, Way.continuous):
            seconds, tokens = seconds_and_tokens(
                way, str(self._saved()), limit=limit, answers=64, device=str(self.device)
            )
            figures |= {f"{way.value}, seconds": seconds, f"{way.value}, tokens a second": tokens / seconds}
        return figures

    def study(self) -> Figures:
        """The miniature, from scoring to the table."""
        command = [sys.executable, str(ROOT / "experiments" / "correlation.py"), "student=miniature", "metric=tokens"]
        places = [f"paths.{name}={self.folder / 'study' / name}" for name in ("outputs", "results")]
        began = time.perf_counter()
        subprocess.run([*command, *places], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
        runs = pl.read_csv(next((self.folder / "study" / "results").rglob("runs.csv")))
        stages = dict(runs.group_by("stage", maintain_order=True).agg(pl.col("seconds").sum()).iter_rows())
        return {"seconds": seconds, "seconds summed over cells": stages}

    def _saved(self) -> Path:
        """A student of random weights as a folder, with a tokenizer trained on the documentation."""
        folder = self.folder / "student"
        if not folder.exists():
            shape = WORK[self.shape or "135M"].shape
            random_student(shape, torch.device("cpu"), self.dtype).model.save_pretrained(folder)
            tokenizer(shape.vocabulary).save_pretrained(folder)
        return folder


PARTS: Mapping[str, Callable[[Bench], Figures]] = {
    part.__name__: part
    for part in (
        Bench.ceilings,
        Bench.sweep,
        Bench.scoring,
        Bench.parity,
        Bench.files,
        Bench.training,
        Bench.sampling,
        Bench.study,
    )
}


def random_student(shape: memory.Shape, device: torch.device, dtype: str) -> Student:
    """A Llama of a shape with random weights."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_size,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=32_768,
    )
    torch.manual_seed(0)
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    return Student("random", model.requires_grad_(False).eval(), None, {})  # type: ignore[arg-type]


def drawn_chats(work: Work) -> list[RenderedChat]:
    rng = np.random.default_rng(0)
    return [chat(rng.integers(work.shape.vocabulary, size=length).tolist()) for length in work.lengths.draw()]


def documentation() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))


def tokenizer(vocabulary: int) -> Any:
    """A byte-level BPE of at most this many entries, trained on the documentation."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        [documentation()], vocab_size=min(vocabulary, 8_192), special_tokens=special, show_progress=False
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer,
        eos_token=special[2],
        pad_token=special[0],
        additional_special_tokens=special[1:],
    )
    fast.chat_template = CHATML
    return fast


def differences(before: Figures, now: Figures, name: str = "") -> list[str]:
    """Figures that are not within a tenth of those before."""
    lines = []
    for key, value in now.items():
        old, where = before.get(key), f"{name}{key}"
        if isinstance(value, dict) and isinstance(old, dict):
            lines += differences(old, value, f"{where}: ")
        elif isinstance(value, float) and isinstance(old, int | float) and abs(value - old) > WITHIN * abs(old):
            lines.append(f"{where}: {value:,.4g}, before {old:,.4g}")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all")
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--shape", choices=list(WORK), help="of the student; default: 135M, in scoring also 1.5B and 7B"
    )
    given = parser.parse_args(arguments)
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("error: torch sees no GPU here; --device cpu --shape tiny tries the script alone")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(given.device, given.shape, Path(folder))
        figures: Figures = {}
        for part in given.parts or PARTS:
            began = time.perf_counter()
            figures[part] = PARTS[part](bench)
            print(json.dumps({part: figures[part]}, indent=1), flush=True)
            print(f"{part}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    if bench.device.type != "cuda":
        print("nothing is written: this is no GPU", file=sys.stderr)
        return
    write(torch.cuda.get_device_name(bench.device), bench.dtype, figures)


def write(card: str, dtype: str, figures: Figures) -> None:
    """Write what was measured on a card, parts that were not measured now kept, and say what has changed."""
    file = RESULTS / f"{card.replace(' ', '-')}.json"
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for line in differences(before.get("figures", {}), figures):
        print(f"changed: {line}", file=sys.stderr)
    shapes = {name: asdict(work) for name, work in WORK.items()}
    record = provenance() | {
        "card": card,
        "dtype": dtype,
        "work": shapes,
        "figures": before.get("figures", {}) | figures,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
