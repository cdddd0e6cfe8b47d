"""Scores on a terminal."""

import sys
from collections.abc import Sequence
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from rsr.data.trajectories import dataset_name
from rsr.errors import printable
from rsr.metrics.score_tables import DATASET, Scores
from rsr.views.heatmap import Token, shade

BESIDE = {  # shown beside RSR where the tables hold them, with intervals in the files
    "avg_surprisal": "surprisal",
    "avg_rank_clipped": "clipped rank",
    "avg_token_length": "length",
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


def say(*lines: str) -> None:
    """Print lines as they are, but for control characters."""
    out = console()
    for line in lines:
        out.print(printable(line), markup=False, soft_wrap=True)


def show_scores(scores: Scores) -> None:
    """Print one line per dataset, best RSR first, what was counted, and where the tables are."""
    out = console()
    facts = scores.artefact.facts
    out.print(
        f"{scores.datasets['student'][0]}, {facts['student']['dtype']}, max_length {facts['scoring']['max_length']}; "
        "lower RSR is better",
        style="bold",
    )
    beside = [metric for metric in BESIDE if metric in scores.datasets["metric"]]
    table = grid("teacher", "n", "RSR [95 %]", *(BESIDE[metric] for metric in beside))
    shown = scores.datasets.filter(pl.col("preset") == "").with_columns(name=DATASET)
    by_rsr = shown.filter(metric="rsr").sort("value", nulls_last=True)
    for name in by_rsr["name"]:
        cells = {row["metric"]: row for row in shown.filter(name=name).iter_rows(named=True)}
        table.add_row(
            name_cell(name),
            str(cells["rsr"]["n"]),
            interval(cells["rsr"]),
            *(_value(cells[metric]) for metric in beside),
        )
    out.print(table)
    say(*_counted(facts["datasets"]), *_different_problems(scores.trajectories), f"Written to {scores.artefact.path}")


def number(value: float) -> str:
    return f"{value:.3f}" if value < 100 else f"{value:.0f}"


def percent(share: float) -> str:
    """A share of resamples, of which all or none do not make a certainty."""
    if not 0.01 <= share <= 0.99:
        return "<1 %" if share < 0.5 else ">99 %"
    return f"{share:.0%}"


def interval(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return "no value"
    return f"{number(row['value'])} [{number(row['low'])}, {number(row['high'])}]"


def _value(row: dict[str, Any]) -> str:
    return "no value" if row["value"] is None else number(row["value"])


def _different_problems(trajectories: pl.DataFrame) -> list[str]:
    """Datasets compare on the same problems; says so where theirs are not."""
    one_row_each = trajectories.filter(metric="rsr", preset="")
    problems = [set(dataset["problem"]) for _, dataset in one_row_each.group_by("teacher", "generation")]
    shared, every = len(set.intersection(*problems)), len(set.union(*problems))
    if shared == every:
        return []
    return [f"the datasets hold different problems, {shared} of {every} are in all: their scores compare only in part"]


def _counted(facts: list[dict[str, Any]]) -> list[str]:
    """Whatever was dropped or cut, per dataset, and notes on the student."""
    lines = []
    names = {
        "truncated": "truncated",
        "without_response_tokens": "without response tokens",
        "left_out": "could not be rendered verbatim and left out",
        "malformed": "malformed and left out",
    }
    for dataset in facts:
        counts = [f"{dataset['counts'][key]} {text}" for key, text in names.items() if dataset["counts"][key]]
        if counts:
            lines.append(f"{dataset_name(dataset['teacher'], dataset['generation'])}: {', '.join(counts)}")
    return lines + sorted({note for dataset in facts for note in dataset["notes"]})


def coloured(tokens: Sequence[Token]) -> Text:
    """Tokens for a terminal."""
    text = Text()
    for token in tokens:
        text.append(printable(token.text), style=f"black on {shade(token)}")
    return text
