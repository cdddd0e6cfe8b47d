"""The eleven teachers at three lengths: the same sums in the same order, told with less or with more around them.

The design was committed before any trajectory of it was scored (docs/miniature.md).
"""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from experiments.miniature.teachers import (
    BENCHMARK,
    TEACHERS,
    Teacher,
    opening,
    problem_sets,
    solved,
    taste_of,
    told,
    write_benchmark,
    write_dataset,
)
from experiments.miniature.world import Problem, Taste, Words

IDLE = ("introduction", "connective", "filler")  # chances of what carries no number
LENGTHS: dict[str, dict[str, Any]] = {
    "short": dict.fromkeys(IDLE, 0.0) | {"restate": False},
    "medium": {},
    "long": dict.fromkeys(IDLE, 1.0) | {"restate": True},
}


def response(teacher: Teacher, length: str, problem: Problem, taste: Taste, seed: str) -> Words:
    """What a teacher answers at a length; short, it does not say either what it takes and what it keeps.

    Args:
        seed: of this answer; the sums follow from it whatever the length.
    """
    lines = solved(teacher, problem, Random(f"{seed}/sums"))
    if length == "short":
        lines = [replace(line, take=False, keep=False) for line in lines]
    wordy, rng = replace(teacher, **LENGTHS[length]), Random(f"{seed}/{length}")
    return told(wordy, opening(wordy, problem, taste, rng), lines, taste, rng)


def write_problems(folder: Path, seed: int) -> None:
    """Write the test problems as a benchmark, and every teacher's answers at each length (`teachers/NAME/LENGTH.json`)."""
    test, train = problem_sets(seed)
    write_benchmark(folder / f"{BENCHMARK}.jsonl", test)
    for name, teacher in TEACHERS.items():
        taste = taste_of(name, seed)
        for length in LENGTHS:
            answers = [response(teacher, length, p, taste, f"{seed}/{name}/{i}") for i, p in enumerate(train)]
            write_dataset(folder, name, length, train, answers)
