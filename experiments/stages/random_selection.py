"""A random selection: one candidate per problem, whichever teacher it is from. It needs no score."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

import polars as pl

from rsr.data import export
from rsr.data.discovery import Source
from rsr.data.records import OnDemand
from rsr.data.trajectories import Dataset, Trajectory
from rsr.errors import InputError
from rsr.selection.rules import Rule
from rsr.selection.training_set import put_together

GENERATION = "selected"  # in the place of a generation
RANDOM = "random"  # the method, and the name of the teacher that it stands for
KEYS = ["teacher", "generation", "trajectory"]


def random(data: Sequence[Dataset], seed: int = 0) -> Dataset:
    """One candidate per problem, drawn evenly (see `chance`)."""
    rule = Rule(correct="ignore")
    drawn = put_together(chance(data, seed), sources_of(data), rule, "lower", metric=RANDOM, scores={"seed": seed})
    return Dataset(RANDOM, GENERATION, drawn.trajectories)


def as_teacher(method: str, data: Sequence[Dataset]) -> Dataset:
    """The dataset that a method selects before anything is scored (`TeachersConfig.selections`).

    Raises:
        InputError: there is no such method.
    """
    if method != RANDOM:
        raise InputError(f"no selection {method!r}: there is {RANDOM}")
    return random(data)


def chance(data: Sequence[Dataset], seed: int = 0) -> pl.DataFrame:
    """Random values: teacher, generation, trajectory, value, tokens (null).

    A value is the place in a shuffle of the problem's candidates, and a random fraction: the lowest of a problem is drawn
    evenly, and the lowest of several problems too. The draw depends on seed, problem and candidates alone.
    """
    candidates: dict[str, list[tuple[str, str, str]]] = {}
    for dataset in sorted(data, key=lambda dataset: dataset.name):
        for t in dataset.trajectories:
            candidates.setdefault(t.problem, []).append((dataset.teacher, dataset.generation, t.id))
    rows = []
    for problem, keys in candidates.items():
        rng = Random(f"{seed}/{problem}")
        rows += [(*one, place + rng.random(), None) for place, one in enumerate(rng.sample(keys, len(keys)))]
    schema = {**dict.fromkeys(KEYS, pl.String), "value": pl.Float64, "tokens": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def sources_of(
    data: Sequence[Dataset], correct: Mapping[tuple[str, str, str], bool | None] = {}, *, unique_ids: bool = False
) -> list[Source]:
    """Datasets as sources whose records say which teacher they are from.

    Args:
        correct: by teacher, generation and id; None where it is not known.
        unique_ids: make ids of records different from teacher to teacher.
    """

    def record(dataset: Dataset, t: Trajectory) -> dict[str, Any]:
        origin = {"teacher": dataset.teacher, "generation": dataset.generation}
        return export.as_messages(replace(t, id=f"{dataset.name}/{t.id}") if unique_ids else t) | origin

    sources = []
    for dataset in data:
        known = tuple(
            replace(t, row=i, correct=correct.get((dataset.teacher, dataset.generation, t.id), t.correct))
            for i, t in enumerate(dataset.trajectories)
        )
        records = OnDemand(partial(record, dataset), dataset.trajectories)
        sources.append(Source(replace(dataset, trajectories=known), records, ".jsonl", dataset.name))
    return sources
