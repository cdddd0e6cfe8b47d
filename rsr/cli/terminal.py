"""Scores on a terminal."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from rsr.data.trajectories import dataset_name
from rsr.errors import printable
from rsr.metrics import Metric, select
from rsr.metrics.score_tables import DATASET, Scores, caveats
from rsr.selection.verdicts import Verdicts, share_right
from rsr.stats.rounding import length, number, share, with_interval
from rsr.views.heatmap import Token, shade

# Shown beside RSR where the tables hold them, with intervals in the files: titles, and how values are written.
BESIDE: dict[str, tuple[str, Callable[[float], str]]] = {
    "avg_surprisal": ("surprisal", number),
    "avg_rank_clipped": ("clipped rank", number),
    "avg_token_length": ("length", length),
    "repetition": ("repetition", share),
}


def console(*, stderr: bool = False) -> Console:
    """A console; where there is no terminal, as wide as tables need."""
    terminal = Console(file=sys.stderr if stderr else sys.stdout, highlight=False)
    if not terminal.is_terminal:
        terminal.width = 120
    return terminal


def grid(*columns: str) -> Table:
    """An empty table; a name that is too wide goes on in the next line, whole."""
    return Table(*(Column(name, overflow="fold") for name in columns), box=None, padding=(0, 2, 0, 0))


def name_cell(name: str) -> Text:
    """A name from the data as a cell of a table: no markup, no control characters."""
    return Text(printable(name))


def say(*lines: str, stderr: bool = False) -> None:
    """Print lines as they are, but for control characters."""
    out = console(stderr=stderr)
    for line in lines:
        out.print(printable(line), markup=False, soft_wrap=True)


def show_scores(scores: Scores, names: Sequence[str] = (), verdicts: Mapping[str, Verdicts] = {}) -> None:
    """Print RSR and what goes with it where the tables hold it, then the other metrics, a line a dataset; what was counted, and where
    the tables are.

    Args:
        names: of metrics or groups that were asked for; a token metric of no group is shown where it is among them.
        verdicts: on the answers of each dataset, where they were looked at.
    """
    facts = scores.artefact.facts
    with_rsr = "rsr" in scores.datasets["metric"]
    if with_rsr:
        _show_rsr(scores, verdicts)
    shown = {"rsr", *BESIDE} if with_rsr else set()
    held = [m for m in select(["all"]) if m.name in scores.datasets["metric"] and m.name not in shown]
    if others := [m for m in held if m.needs != "tokens" or m.name in names]:
        console().print(_others(scores.datasets, others))
    say(*(f"{name} is left out: {reason}" for name, reason in facts.get("skipped", {}).items()))
    say(*facts.get("warnings", []), *_failures(facts.get("measurements", [])))
    say(f"Written to {scores.artefact.path}")


def _show_rsr(scores: Scores, verdicts: Mapping[str, Verdicts]) -> None:
    out = console()
    facts = scores.artefact.facts
    out.print(
        f"{scores.datasets['student'][0]}, {facts['student']['dtype']}, max_length {facts['scoring']['max_length']}; "
        "lower RSR is better",
        style="bold",
    )
    beside = [metric for metric in BESIDE if metric in scores.datasets["metric"]]
    of_answers = ("right", "unknown") if verdicts else ()
    table = grid("teacher", "n", "RSR [95 %]", *(BESIDE[metric][0] for metric in beside), *of_answers)
    shown = scores.datasets.filter(pl.col("preset") == "").with_columns(name=DATASET)
    by_rsr = shown.filter(metric="rsr").sort("value", nulls_last=True)
    for name in by_rsr["name"]:
        cells = {row["metric"]: row for row in shown.filter(name=name).iter_rows(named=True)}
        table.add_row(
            name_cell(name),
            str(cells["rsr"]["n"]),
            with_interval(*(cells["rsr"][end] for end in ("value", "low", "high"))),
            *(_value(cells[metric]["value"], BESIDE[metric][1]) for metric in beside),
            *((share_right(verdicts[name]), f"{verdicts[name].unknown:,}") if verdicts else ()),
        )
    out.print(table)
    say(*caveats(scores), *_different_problems(scores.trajectories), *_unknown(verdicts))


def _unknown(verdicts: Mapping[str, Verdicts]) -> list[str]:
    """Why verdicts are unknown, and what may be done."""
    if not any(own.unknown for own in verdicts.values()):
        return []
    return [
        "unknown: no right answer is given, or none is found where responses usually say theirs (--answer, --judge)"
    ]


def _others(datasets: pl.DataFrame, metrics: Sequence[Metric]) -> Table:
    arrows = {"lower": "↓", "higher": "↑"}
    table = grid("teacher", *(f"{m.title} {arrows[m.direction]}" for m in metrics))
    shown = datasets.filter(pl.col("preset") == "").with_columns(name=DATASET)
    for (name,), of_dataset in shown.group_by("name", maintain_order=True):
        values = dict(of_dataset.select("metric", "value").iter_rows())
        table.add_row(name_cell(str(name)), *(_value(values.get(m.name)) for m in metrics))
    return table


def _failures(measurements: Sequence[dict[str, Any]]) -> list[str]:
    lines = []
    for m in measurements:
        if m["failed"]:
            identity, reason = next(iter(m["failed"].items()))
            lines.append(
                f"{m['stage']} of {dataset_name(m['teacher'], m['generation'])}: {len(m['failed'])} trajectories have no value, the first "
                f"{identity}: {reason}; the same command tries them again"
            )
    return lines


def _value(value: float | None, written: Callable[[float], str] = number) -> str:
    return "no value" if value is None else written(value)


def _different_problems(trajectories: pl.DataFrame) -> list[str]:
    """Datasets compare on the same problems; says so where theirs are not."""
    one_row_each = trajectories.filter(metric="rsr", preset="")
    problems = [set(dataset["problem"]) for _, dataset in one_row_each.group_by("teacher", "generation")]
    shared, every = len(set.intersection(*problems)), len(set.union(*problems))
    if shared == every:
        return []
    return [f"the datasets hold different problems, {shared} of {every} are in all: their scores compare only in part"]


def coloured(tokens: Sequence[Token]) -> Text:
    """Tokens for a terminal."""
    text = Text()
    for token in tokens:
        text.append(printable(token.text), style=f"black on {shade(token)}")
    return text
