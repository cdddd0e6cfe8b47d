"""Answers and tokens a second of the ways to sample, on the same work of mixed lengths.

    python benchmarks/sampling.py                                # a small student of random weights, on this machine's CPU
    python benchmarks/sampling.py --model MODEL --device cuda --limit 2048 --answers 512 \\
        --server "vllm serve {model} --port {port}" --engine vllm-0.33.0

Each answer has a limit of its own, drawn from a log-normal distribution: a student of random weights hardly ever ends an answer by
itself. Without --server the third way is the server of the tests, which answers one request at a time: it shows what HTTP costs, and
nothing of vLLM. It prints a table, and keeps it in results/benchmarks/sampling.md where --keep is said.
"""

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tasks import tiny_student
from eval import ways
from eval.sampling import Request
from eval.settings import Evaluation, Way
from experiments.app.shared_configs import ROOT
from rsr.student.settings import Loading

SPREAD = 0.9  # standard deviation of the logarithm of a limit
PROMPTS = (20, 200)  # tokens
SERVER = shlex.join([sys.executable, str(ROOT / "tests" / "completions_server.py"), "{model}", "--port", "{port}"])


def work(answers: int, limit: int, vocabulary: int) -> list[Request]:
    """Requests of drawn prompts; a quarter of the limit is the median of theirs."""
    rng = np.random.default_rng(0)
    rooms = rng.lognormal(np.log(limit / 4), SPREAD, answers).round().clip(1, limit).astype(int)
    prompts = [rng.integers(0, vocabulary, n).tolist() for n in rng.integers(*PROMPTS, answers)]
    return [
        Request(tuple(prompt), int(room), (0, "drawn", str(i), 0))
        for i, (prompt, room) in enumerate(zip(prompts, rooms, strict=True))
    ]


def seconds_and_tokens(
    way: Way, model: str, *, limit: int, answers: int, device: str, **settings: Any
) -> tuple[float, int]:
    """How long a way takes for the work, and what it has written; loading and the start of a server are left out."""
    evaluation = Evaluation(max_new_tokens=limit, **settings)
    loading = Loading(dtype="float32" if device == "cpu" else "bfloat16", device=device)
    with (
        tempfile.TemporaryDirectory() as folder,
        ways.opened(way, model, loading, evaluation, name="drawn", log=Path(folder) / "log") as (chat, sampler),
    ):
        wanted = work(answers, limit, len(chat.renderer.tokenizer))
        first = [replace(request, room=2) for request in wanted[:2]]
        list(sampler.answers(first))  # what is made once
        began = time.perf_counter()
        written = sum(len(completion.tokens) for _, completion in sampler.answers(wanted))
        return time.perf_counter() - began, written


def table(rows: Sequence[tuple[str, int, float, int]]) -> str:
    lines = [
        "| way | answers | seconds | answers a second | tokens a second |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, answers, seconds, tokens in rows:
        lines.append(f"| {name} | {answers} | {seconds:.1f} | {answers / seconds:.2f} | {tokens / seconds:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", help="folder or hub name; else a small one of random weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--answers", type=int, default=64)
    parser.add_argument("--limit", type=int, default=256, help="new tokens of an answer")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--server", default=SERVER)
    parser.add_argument("--engine", default="completions-server-1.0")
    parser.add_argument("--keep", action="store_true")
    said = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        model = said.model or str(tiny_student(Path(folder) / "student"))
        for way in Way:
            of_server = {"server": said.server, "engine": said.engine} if way is Way.server else {}
            seconds, tokens = seconds_and_tokens(
                way, model, limit=said.limit, answers=said.answers, device=said.device,
                batch_size=said.batch_size, concurrency=said.concurrency, **of_server,
            )  # fmt: skip
            rows.append((way.value, said.answers, seconds, tokens))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
    if said.keep:
        (ROOT / "results" / "benchmarks" / "sampling.md").write_text(table(rows))


if __name__ == "__main__":
    main()
