"""The loss of fine-tuning in tiles (train/loss.py) beside that of whole logits: peak memory and time of one step.

    python benchmarks/training_loss.py [--tokens 1024 2048 4096 8192] [--vocabulary 151936]

A student of one narrow layer, so that the head is nearly all of the work, in float32 on the CPU. Each step is in a process of its own, after
one of a few tokens. Writes results/benchmarks/training_loss/.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
from rich.progress import track

from benchmarks.tasks import peak_mb
from experiments.app.result_folder import markdown_table, publish
from experiments.app.shared_configs import ROOT

WAYS = ("whole", "tiles")
WARM_UP = 16  # tokens
WHOLE = 4096  # tokens, beyond which whole logits are not tried: three times 4.6 GB at 8,192


def measured(way: str, tokens: int, vocabulary: int) -> dict[str, float | str]:
    """What a step takes besides what the process held before; in a process of its own."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    torch.manual_seed(0)
    shape: dict[str, Any] = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=vocabulary, max_position_embeddings=tokens, tie_word_embeddings=True, **shape)
    )
    if way == "tiles":
        add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))  # as TRL's trainer does

    def step(number: int) -> float:
        ids = torch.randint(vocabulary, (1, number))
        if way == "tiles":
            loss = -model(input_ids=ids, labels=ids, fused_lm_head=True).log_probs.mean()
        else:
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        return float(loss.detach())

    step(WARM_UP)
    before, began = peak_mb(), time.perf_counter()
    loss = step(tokens)
    return {
        "way": way,
        "tokens": tokens,
        "peak_mb": peak_mb() - before,
        "logits_mb": tokens * vocabulary * 4 / 2**20,
        "seconds": time.perf_counter() - began,
        "loss": loss,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.one:
        print(json.dumps(measured(said.one, said.tokens[0], said.vocabulary)))
        return
    asked = [(way, tokens) for tokens in said.tokens for way in WAYS if way == "tiles" or tokens <= WHOLE]
    rows = []
    for way, tokens in track(asked, "measuring"):
        command = [sys.executable, str(Path(__file__)), "--one", way, "--tokens", str(tokens)]
        command += ["--vocabulary", str(said.vocabulary)]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    table = pl.DataFrame(rows)
    columns = ["way", "tokens", "logits, MB", "peak of the step, MB", "of the logits", "seconds", "loss"]
    lines = [
        [r["way"], f"{r['tokens']:,}", f"{r['logits_mb']:,.0f}", f"{r['peak_mb']:,.0f}"]
        + [f"{r['peak_mb'] / r['logits_mb']:.2f}", f"{r['seconds']:.1f}", f"{r['loss']:.5f}"]
        for r in rows
    ]
    text = [
        "# The loss in tiles and of whole logits",
        f"One step forwards and backwards, float32 on a CPU, a vocabulary of {said.vocabulary:,}, a student of one narrow layer. The peak is "
        "what the step takes besides what the process held before it.",
        markdown_table(columns, lines),
    ]
    publish(ROOT / "results" / "benchmarks" / "training_loss", "\n\n".join(text) + "\n", {"training_loss.csv": table})


if __name__ == "__main__":
    main()
