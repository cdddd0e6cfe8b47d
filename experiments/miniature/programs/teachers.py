"""Eleven teachers of programs: how informative is what they write, and how familiar does it look to the student?

Names as for the sums; `statements` reasons in its program alone, in Python that is in no corpus.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from random import Random
from typing import Literal

from experiments.miniature import words
from experiments.miniature.programs.corpus import DOMINANT, ELABORATE
from experiments.miniature.programs.world import (
    ITEMS,
    Problem,
    Step,
    follow,
    listed,
    problems,
    program,
    program_in_statements,
    vocabulary,
    written,
)
from experiments.miniature.teachers import TEST, TRAIN, write_benchmark, write_generations
from experiments.miniature.world import Taste, Words, filler, introduction

VERSION = 2  # raised when what is written from the same seed changes
BENCHMARK = "miniature_programs"


@dataclass(frozen=True)
class Teacher:
    """How a teacher writes.

    Attributes:
        procedure: all operations in one line; two a line; one a line; half of each; or no lines, and a program of one
            statement an operation.
        shuffle: how far its taste in words is from the corpus's (see `Taste`); `reverse`: rare words first.
        error: chance that a line is wrong.
        filler: chance of an idle sentence after a line.
        restate: all operations once more before the first line.
        backwards: lines are written last to first; `alien`: in words the student has never seen.
    """

    procedure: Literal["direct", "coarse", "chain", "mixed", "statements"]
    shuffle: float = 0.1
    reverse: bool = False
    error: float = 0.0
    connective: float = 0.6
    introduction: float = 0.6
    filler: float = 0.0
    restate: bool = False
    backwards: bool = False
    alien: bool = False


TEACHERS = {
    "direct_near": Teacher("direct", connective=0.2, introduction=0.0),
    "direct_far": Teacher("direct", shuffle=0.0, reverse=True),
    "statements": Teacher("statements"),
    "coarse_near": Teacher("coarse"),
    "mixed": Teacher("mixed"),
    "chain_near": Teacher("chain", error=0.002),
    "chain_chat": Teacher("chain", error=0.002, shuffle=0.3, restate=True, filler=0.3),
    "chain_far": Teacher("chain", error=0.002, shuffle=0.0, reverse=True),
    "chain_alien": Teacher("chain", introduction=0.0, alien=True),
    "chain_scram": Teacher("chain", error=0.002, backwards=True),
    "chain_sloppy": Teacher("chain", error=0.08),
}
COARSE = Step(2, take=False)


def response(teacher: Teacher, problem: Problem, taste: Taste, rng: Random) -> Words:
    """What a teacher answers, without the end-of-turn token."""
    text = introduction(taste, rng) if rng.random() < teacher.introduction else []
    if teacher.procedure == "statements":
        return text + program_in_statements(problem.items, problem.operations)
    if teacher.restate:
        text += ["we", "have", *listed(problem.operations), "."]
    lines = follow(problem.items, problem.operations, _steps(teacher, rng), teacher.error, rng)
    for line in reversed(lines) if teacher.backwards else lines:
        text += written(line, taste, rng, connective=teacher.connective)
        if rng.random() < teacher.filler:
            text += filler(taste, rng)
    if teacher.alien:
        text = [_alien(word) for word in text]
    return text + program(problem.items, lines[-1].result)


def _steps(teacher: Teacher, rng: Random) -> Iterator[Step]:
    if teacher.procedure == "mixed":
        while True:
            yield ELABORATE if rng.random() < 0.5 else DOMINANT
    yield from repeat({"direct": DOMINANT, "coarse": COARSE, "chain": ELABORATE}[teacher.procedure])


_PLACE = {word: i for i, word in enumerate(vocabulary())}


def _alien(word: str) -> str:
    return word if word in ITEMS else words.ALIEN[7 * _PLACE[word] % len(words.ALIEN)]


def write_problems(folder: Path, seed: int) -> None:
    """Write the test problems as a benchmark and every teacher's generations as datasets (`teachers/NAME/genN.json`)."""
    test = problems(TEST, f"{seed}/test")
    train = problems(TRAIN, f"{seed}/train", taken=test)
    tastes = {
        name: Taste(teacher.shuffle, Random(f"{seed}/{name}/taste"), reverse=teacher.reverse)
        for name, teacher in TEACHERS.items()
    }

    def answer(name: str, problem: Problem, rng: Random) -> Words:
        return response(TEACHERS[name], problem, tastes[name], rng)

    write_benchmark(folder / f"{BENCHMARK}.jsonl", test)
    write_generations(folder, train, list(TEACHERS), answer, seed)
