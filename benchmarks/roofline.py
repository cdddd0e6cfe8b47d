"""Hours that one H200 would need to score 5,000 trajectories of the paper's lengths under a 7B student: an estimate.

    python benchmarks/roofline.py

Nothing is run on a GPU: FLOPs and bytes are counted from the student's shape and divided by what the device is sold to do, times
the shares of it that are assumed below. Writes results/benchmarks/roofline/.
"""

import math
from dataclasses import dataclass

import polars as pl
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from experiments.app.result_folder import markdown_list, markdown_table, publish
from experiments.app.shared_configs import ROOT

TRAJECTORIES = 5_000
STUDENT = "Qwen2.5-7B"
SHAPE = Qwen2Config(
    vocab_size=152_064,
    hidden_size=3_584,
    intermediate_size=18_944,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
    tie_word_embeddings=False,
)


@dataclass(frozen=True)
class Assumptions:
    """What the estimate stands on.

    Attributes:
        flops, bandwidth: of an H200 SXM, dense bfloat16 (FLOP/s) and HBM3e (bytes/s), as its data sheet says.
        matrix_share, attention_share, bandwidth_share: of these that products, attention and plain passes reach.
        spread: standard deviation of the logarithm of lengths, taken as log-normal; attention is quadratic in length.
        prompt: tokens before the response.
        batch: tokens a forward pass; the weights are read once in each.
        body_bytes, statistics_bytes: read and written by passes between products, per token of the body (in each layer, per
            unit of hidden and of intermediate size) and per logit.
    """

    flops: float = 989e12
    bandwidth: float = 4.8e12
    matrix_share: float = 0.55
    attention_share: float = 0.4
    bandwidth_share: float = 0.7
    spread: float = 0.6
    prompt: int = 150
    batch: int = 2_048
    body_bytes: tuple[float, float] = (100.0, 12.0)
    statistics_bytes: float = 62.0


MEANING = {
    "matrix_share": "products reach 55 % of the sold FLOP/s",
    "attention_share": "attention reaches 40 % of the sold FLOP/s (flash-attention, causal half counted)",
    "bandwidth_share": "passes over memory reach 70 % of the sold bandwidth",
    "spread": "lengths are log-normal, the standard deviation of their logarithm is 0.6; the means are the paper's",
    "prompt": "150 tokens stand before a response",
    "batch": "a forward pass holds 2,048 tokens, or one longer chat",
    "body_bytes": "norms, rotary embedding, activation and residuals, not fused, move 100 bytes per unit of hidden size and 12 "
    "per unit of intermediate size in every layer, per token",
    "statistics_bytes": "writing a logit and the nine passes of the statistics over it move 62 bytes",
}


def parameters(config: Qwen2Config) -> tuple[int, int]:
    """Weights in products: of the body, and of the head."""
    with torch.device("meta"):
        model = Qwen2ForCausalLM(config)
    head = model.get_output_embeddings().weight.numel()
    products = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    return products - head, head


def estimate(mean_length: float, assumptions: Assumptions) -> dict[str, float]:
    """Seconds by what takes them, for all trajectories of one dataset."""
    body, head = parameters(SHAPE)
    tokens = TRAJECTORIES * (mean_length + assumptions.prompt)
    response = TRAJECTORIES * mean_length
    # The mean position of a token is E[T^2] / 2 E[T]; keys and values are each multiplied with it once.
    position = mean_length * math.exp(assumptions.spread**2) / 2
    heads = SHAPE.num_attention_heads * SHAPE.hidden_size // SHAPE.num_attention_heads
    passes = SHAPE.num_hidden_layers * (
        assumptions.body_bytes[0] * SHAPE.hidden_size + assumptions.body_bytes[1] * SHAPE.intermediate_size
    )
    reading = 2 * (body + head) / max(assumptions.batch, mean_length)
    rate, bandwidth = assumptions.flops * assumptions.matrix_share, assumptions.bandwidth * assumptions.bandwidth_share
    return {
        "products of the body": 2 * body * tokens / rate,
        "attention": 4
        * position
        * heads
        * SHAPE.num_hidden_layers
        * tokens
        / (assumptions.flops * assumptions.attention_share),
        "product of the head": 2 * head * response / rate,
        "passes between the body's products": passes * tokens / bandwidth,
        "statistics of the logits": assumptions.statistics_bytes * SHAPE.vocab_size * response / bandwidth,
        "reading the weights": reading * tokens / bandwidth,
    }


def main() -> None:
    assumptions = Assumptions()
    printed = pl.read_csv(ROOT / "results" / "published" / "metrics.csv", infer_schema=False)
    means = printed.filter(pl.col("student") == "qwen7b", pl.col("metric") == "avg_token_length").select(
        "teacher", length=pl.col("printed_value").cast(pl.Float64)
    )
    rows = [
        {"teacher": teacher, "mean_length": length} | estimate(length, assumptions)
        for teacher, length in means.iter_rows()
    ]
    table = pl.DataFrame(rows)
    kinds = table.columns[2:]
    table = table.with_columns(hours=pl.sum_horizontal(kinds) / 3600).sort("hours", descending=True)
    hours = table["hours"].to_numpy()
    mean, total = table.select(kinds).mean().row(0), hours.mean()
    body, head = parameters(SHAPE)
    low, high = (
        estimate(float(table["mean_length"].to_numpy().mean()), Assumptions(matrix_share=share))
        for share in (0.7, 0.35)
    )
    text = [
        "# One H200, a 7B student: an estimate",
        f"{TRAJECTORIES:,} trajectories of a teacher under {STUDENT} ({body / 1e9:.2f}e9 weights in the body's products, "
        f"{head / 1e9:.2f}e9 in the head). **Estimated, not run**: {total:.2f} hours on average over the eleven teachers' printed "
        f"lengths, {hours.min():.2f} to {hours.max():.2f}; {sum(low.values()) / 3600:.2f} where products reach 70 % "
        f"of the sold FLOP/s, {sum(high.values()) / 3600:.2f} where they reach 35 %. The body's products are the limit: "
        f"{mean[0] / sum(mean):.0%} of the time; head and statistics together take {(mean[2] + mean[4]) / sum(mean):.0%}.",
        "What takes the time, nothing overlapping, mean over teachers:",
        markdown_table(
            ["what", "seconds", "share"],
            [[kind, f"{s:,.0f}", f"{s / sum(mean):.0%}"] for kind, s in zip(kinds, mean, strict=True)],
        ),
        "By teacher:",
        markdown_table(
            ["teacher", "mean length, tokens", "hours"],
            [[t, f"{n:,.0f}", f"{h:.2f}"] for t, n, h in table.select("teacher", "mean_length", "hours").rows()],
        ),
        "Assumed:",
        markdown_list(
            [
                f"an H200 does {assumptions.flops / 1e12:.0f} TFLOP/s in dense bfloat16 and moves {assumptions.bandwidth / 1e12} TB/s (sold)"
            ]
            + list(MEANING.values())
            + ["tokenising, reading and writing run beside the forward pass; loading the model is left out"]
        ),
    ]
    publish(ROOT / "results" / "benchmarks" / "roofline", "\n\n".join(text) + "\n", {"roofline.csv": table})


if __name__ == "__main__":
    main()
