"""Datasets put together from the candidates of several teachers, one for each problem."""

from collections.abc import Callable, Sequence
from random import Random

from rsr.errors import InputError
from rsr.trajectories import Dataset, Trajectory

GENERATION = "selected"  # in the place of a generation


def random(data: Sequence[Dataset], seed: int = 0) -> Dataset:
    """One candidate per problem, drawn evenly; the draw depends on seed and problem alone."""
    candidates: dict[str, list[Trajectory]] = {}
    for dataset in sorted(data, key=lambda dataset: dataset.name):
        for t in dataset.trajectories:
            candidates.setdefault(t.problem, []).append(t)
    order = sorted(candidates)
    return Dataset("random", GENERATION, tuple(Random(f"{seed}/{p}").choice(candidates[p]) for p in order))


METHODS: dict[str, Callable[[Sequence[Dataset]], Dataset]] = {"random": random}


def select(method: str, data: Sequence[Dataset]) -> Dataset:
    """The dataset that a method selects.

    Raises:
        InputError: there is no such method.
    """
    if method not in METHODS:
        raise InputError(f"no selection {method!r}: there is {', '.join(METHODS)}")
    return METHODS[method](data)
