"""What all token metrics cost beside RSR alone, in one forward pass: the part `metrics` of benchmarks/scoring.py."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import polars as pl
import torch
from torch import Tensor

from experiments.app.result_folder import markdown_table
from rsr.metrics.aggregate import token_metrics
from rsr.metrics.token import rsr
from rsr.student.chat import RenderedChat
from rsr.student.student import Student
from rsr.tokens.engine import Scorer
from rsr.tokens.settings import Scoring
from rsr.tokens.statistics import CACHED_LOGITS, Statistics
from rsr.tokens.tokens import Tokens

Pass = Callable[[], Tokens]


def measure(student: Student, drawn: Sequence[RenderedChat], rounds: int) -> pl.DataFrame:
    """One row per pass: seconds of the pass, and of the metrics that are computed of it; the fastest of the rounds."""
    plain, expecting = (Scorer(student, Scoring(expectations=kept)) for kept in (False, True))
    passes: Mapping[str, tuple[Pass, bool]] = {
        "RSR alone: rank and surprisal": (partial(_with_less, plain, drawn), False),
        "all columns but E[R], all token metrics that need no more": (partial(plain.score, drawn), True),
        "all columns with E[R], all token metrics": (partial(expecting.score, drawn), True),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in passes}
    for _ in range(rounds + 1):
        for name, (run, all_metrics) in passes.items():
            began = time.perf_counter()
            tokens = run()
            scored = time.perf_counter()
            _computed(tokens, all_metrics)
            seconds[name].append((scored - began, time.perf_counter() - scored))
    rows = [
        {
            "pass": name,
            **{part: min(took[1:]) for part, took in zip(("forward", "metrics"), zip(*of, strict=True), strict=True)},
        }
        for name, of in seconds.items()
    ]
    table = pl.DataFrame(rows)
    return table.with_columns(
        ratio=(pl.col("forward") + pl.col("metrics")) / (table["forward"][0] + table["metrics"][0])
    )


def shown(table: pl.DataFrame) -> str:
    rows = [[name, f"{a:.2f}", f"{b:.4f}", f"{ratio:.3f}"] for name, a, b, ratio in table.iter_rows()]
    return markdown_table(["one pass", "its seconds", "seconds of the metrics", "of RSR alone"], rows)


def _computed(tokens: Tokens, all_metrics: bool) -> None:
    for metric in token_metrics() if all_metrics else [rsr]:
        if not metric.lacking(tokens):
            for preset in metric.presets if all_metrics else [""]:
                metric(tokens, preset)


def _with_less(scorer: Scorer, drawn: Sequence[RenderedChat]) -> Tokens:
    """A pass whose sweep over the logits gives rank and surprisal alone."""
    sweep, scorer.sweep = scorer.sweep, _rank_and_surprisal
    try:
        return replace(scorer.score(drawn), squares=None)
    finally:
        scorer.sweep = sweep


def _rank_and_surprisal(logits: Tensor, targets: Tensor, *, expectations: bool = False) -> Statistics:
    """As `rsr.tokens.statistics.token_statistics`, without the passes over the logits that the other columns take."""
    rows = max(1, CACHED_LOGITS * torch.get_num_threads() // logits.shape[1])
    target = logits.gather(-1, targets[:, None]).float()
    larger, surprisal = logits.new_empty((2, len(logits)), dtype=torch.float32)
    for at in range(0, len(logits), rows):
        part = slice(at, at + rows)
        wide = logits[part].float()
        torch.sum(torch.gt(wide, target[part], out=torch.empty_like(wide)), -1, out=larger[part])
        largest = wide.amax(-1, keepdim=True)
        total = wide.sub_(largest).exp_().sum(-1)
        surprisal[part] = total.log() + (largest - target[part])[:, 0]
    nothing = torch.zeros_like(surprisal)
    return Statistics(larger.int() + 1, surprisal, nothing, nothing, surprisal.new_empty(0))
