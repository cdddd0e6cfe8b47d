"""Peak memory and time of a training loss over the paper's vocabulary: whole logits against the tiles that training takes.

    python benchmarks/training_loss.py

Each is run in a process of its own, on a CPU in float32. Writes results/benchmarks/loss/.
"""

import json
import resource
import subprocess
import sys
import time
from typing import Any

import polars as pl
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer.utils import add_fused_lm_head

from experiments.app.result_folder import markdown_table, publish
from experiments.app.shared_configs import ROOT

VOCABULARY, HIDDEN = 151_936, 64
POSITIONS = (1_024, 2_048)
WAYS = ("whole logits", "tiles")


def measured(way: str, positions: int) -> dict[str, float]:
    """Loss, seconds and megabytes of one forward and backward pass, those of the loaded model taken off."""
    torch.manual_seed(0)
    shape: dict[str, Any] = dict(hidden_size=HIDDEN, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=positions, tie_word_embeddings=True, **shape)
    )
    if way == "tiles":
        add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))  # as TRL's trainer does
    tokens = torch.randint(VOCABULARY, (1, positions))
    before, began = _peak(), time.perf_counter()
    loss = model(input_ids=tokens, labels=tokens, **({"fused_lm_head": True} if way == "tiles" else {})).loss
    loss.backward()
    return {"loss": loss.item(), "seconds": time.perf_counter() - began, "megabytes": _peak() - before}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    rows = []
    for positions in POSITIONS:
        for way in WAYS:
            command = [sys.executable, __file__, way, str(positions)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append({"positions": positions, "way": way} | json.loads(done.stdout))
    table = pl.DataFrame(rows)
    lines = []
    for positions in POSITIONS:
        whole, tiles = table.filter(positions=positions).sort("way", descending=True).rows(named=True)
        assert abs(whole["loss"] - tiles["loss"]) < 1e-4, (whole, tiles)
        measures = (("megabytes", 0), ("seconds", 1))
        numbers = [f"{row[name]:,.{digits}f}" for name, digits in measures for row in (whole, tiles)]
        lines.append([f"{positions:,}", *numbers, f"{whole['megabytes'] / tiles['megabytes']:.1f}"])
    header = ["positions", "MB, whole logits", "MB, tiles", "s, whole logits", "s, tiles", "MB, ratio"]
    text = [
        "# The training loss, whole and in tiles",
        f"Forward and backward pass of a Llama of one layer and {HIDDEN} dimensions over {VOCABULARY:,} entries, float32, on a CPU. "
        "Peak memory is that of the process less that of the loaded model.",
        markdown_table(header, lines),
    ]
    publish(ROOT / "results" / "benchmarks" / "loss", "\n\n".join(text) + "\n", {"loss.csv": table})


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measured(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
