"""What rendering by turn costs over rendering whole, and what it changes: the part `turns` of benchmarks/scoring.py."""

import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.contenders import DTYPE
from experiments.app.result_folder import markdown_table
from experiments.app.shared_configs import ROOT
from rsr.data import discovery
from rsr.data.messages import Message
from rsr.metrics.token import rsr
from rsr.student.chat import ChatRenderer, RenderedChat
from rsr.student.student import Student
from rsr.tokens.engine import Scorer
from rsr.tokens.settings import Scoring
from rsr.tokens.tokens import Tokens

TURNS = (5, 20, 50)
ALONE = 5  # turns up to which each is scored alone as well, which takes tokens by their square
WORDS = (10, 20, 10)  # of a question, a thought and an answer out of the documentation
WHOLE, TURN, EACH = "whole", "turn", "turn, each alone"
# As Qwen3's and its like: thinking is dropped from all turns but the last.
REWRITING = """\
{%- for m in messages -%}
{%- set said = m.content if loop.last else m.content.split('</think>')[-1].lstrip('\\n') -%}
{{- '<|im_start|>' + m.role + '\\n' + said + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"""

Exchanges = Sequence[tuple[str, str]]


def measure(student: Student, chats: Mapping[str, Exchanges], rounds: int) -> pl.DataFrame:
    """One row per chat and rendering."""
    scorer = Scorer(student, Scoring(max_length=student.max_positions))
    rows = [row for name, exchanges in chats.items() for row in _rows(scorer, name, exchanges, rounds)]
    return pl.DataFrame(rows)


def from_documentation() -> dict[str, Exchanges]:
    """Chats of every number of turns, each with a thought."""
    words = " ".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md"))).split()
    ends = np.cumsum([0, *WORDS])

    def exchange(i: int) -> tuple[str, str]:
        at = i * ends[-1] % (len(words) - ends[-1])
        question, thought, answer = (" ".join(words[at + a : at + b]) for a, b in itertools.pairwise(ends))
        return question, f"<think>\n{thought}\n</think>\n\n{answer}"

    return {f"{n} turns": [exchange(i) for i in range(n)] for n in TURNS}


def from_trajectories(folder: Path, turns: int = 5) -> dict[str, Exchanges]:
    """A chat of the first trajectories of each teacher, one after the other."""
    chats: dict[str, Exchanges] = {}
    for dataset in (source.dataset for source in discovery.read(folder)):
        first = [
            [m.text for m in t.messages if m.role in ("user", "assistant")][:2] for t in dataset.trajectories[:turns]
        ]
        chats[dataset.name] = [(question, answer) for question, answer in first]
    return chats


def _rows(scorer: Scorer, name: str, exchanges: Exchanges, rounds: int) -> list[dict[str, object]]:
    messages = [m for q, a in exchanges for m in (Message("user", q), Message("assistant", a))]
    renderers = {r: ChatRenderer(scorer.student.renderer.tokenizer, REWRITING, rendering=r) for r in ("whole", "turn")}
    alone = renderers["turn"].turns(messages, scorer.max_length)
    rendered = {
        WHOLE: renderers["whole"].chats(messages, scorer.max_length),
        TURN: renderers["turn"].chats(messages, scorer.max_length),
        **({EACH: alone} if len(exchanges) <= ALONE else {}),
    }
    seconds: dict[str, list[float]] = {rendering: [] for rendering in rendered}
    ran, scored = dict[str, int](), dict[str, Tokens]()
    for _ in range(rounds):
        for rendering, chats in rendered.items():
            read: list[int] = []
            counting = scorer.body.register_forward_pre_hook(
                lambda module, args, given, read=read: read.append(given["input_ids"].numel()), with_kwargs=True
            )
            began = time.perf_counter()
            scored[rendering] = scorer.score(chats)
            seconds[rendering].append(time.perf_counter() - began)
            counting.remove()
            ran[rendering] = sum(read)
    if EACH in scored:
        np.testing.assert_allclose(
            scored[TURN].surprisal, scored[EACH].surprisal, atol=0.05 if DTYPE == "float32" else 1
        )
    both = _in_whole(rendered[WHOLE], rendered[TURN])
    return [
        {
            "chat": name,
            "rendering": rendering,
            "tokens": ran.get(rendering, sum(len(chat.ids) for chat in alone)),
            "seconds": min(seconds[rendering]) if rendering in seconds else None,
            "response_tokens": len(scored[TURN if rendering == EACH else rendering].rank),
            "rsr": _ratio(scored[TURN if rendering == EACH else rendering]),
            "rsr_of_both": _ratio(scored[WHOLE] if rendering == WHOLE else scored[TURN].parted([len(both)]).kept(both)),
        }
        for rendering in (WHOLE, TURN, EACH)
    ]


def _in_whole(
    whole: Sequence[RenderedChat], turn: Sequence[RenderedChat]
) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Which tokens of the turns the whole has as well: the last ones of each."""
    kept = {t.message: t.end - t.start for chat in whole for t in chat.turns}
    masks = []
    for chat in turn:
        for t in chat.turns:
            mask = np.zeros(t.end - t.start, bool)
            mask[len(mask) - kept[t.message] :] = True
            masks.append(mask)
    return np.concatenate(masks)


def _ratio(tokens: Tokens) -> float:
    return float(rsr(tokens.parted([len(tokens.rank)])).values[0])


def shown(table: pl.DataFrame) -> str:
    whole = dict(table.filter(pl.col("rendering") == WHOLE).select("chat", "seconds").iter_rows())
    rows = [
        [
            row["chat"],
            row["rendering"],
            f"{row['tokens']:,}",
            "not run" if row["seconds"] is None else f"{row['seconds']:.1f}",
            "" if row["seconds"] is None else f"{row['seconds'] / whole[row['chat']]:.2f}",
            f"{row['response_tokens']:,}",
            f"{row['rsr']:.3f}",
            f"{row['rsr_of_both']:.3f}",
        ]
        for row in table.iter_rows(named=True)
    ]
    heads = [
        "chat",
        "rendering",
        "tokens read",
        "seconds",
        "over whole",
        "scored tokens",
        "RSR",
        "RSR of what both score",
    ]
    return markdown_table(heads, rows)
