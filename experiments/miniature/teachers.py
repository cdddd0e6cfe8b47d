"""Eleven teachers: how informative is what they write, and how familiar does it look to the student?

Names say both: direct (one line) or chain (partial sums), near (the corpus's words), far (its rare ones), alien (words that
it never saw). The same teachers serve both worlds.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from random import Random
from typing import Literal, Protocol, TypeVar

from experiments.miniature import words
from experiments.miniature.corpus import DOMINANT, ELABORATE
from experiments.miniature.world import (
    Line,
    Problem,
    Step,
    Taste,
    Words,
    filler,
    introduction,
    inverse_check,
    number,
    problems,
    restated,
    solve,
    written,
)

VERSION = 3  # raised when what is written from the same seed changes
TRAIN, TEST, HELD_OUT = 600, 200, 50  # problems
GENERATIONS = ("gen1", "gen2", "gen3")
BENCHMARK = "miniature"


@dataclass(frozen=True)
class Teacher:
    """How a teacher writes.

    Attributes:
        procedure: one line; lines of three numbers; partial sums; or half of each.
        shuffle: how far its taste in words is from the corpus's (see `Taste`); `reverse`: rare words first.
        error: chance that a line is wrong.
        filler: chance of an idle sentence after a line.
        check: an inverse check after each line; `restate`: all numbers once more before the first line.
        backwards: lines are written last to first; `alien`: in words the student has never seen.
    """

    procedure: Literal["direct", "coarse", "chain", "mixed"]
    shuffle: float = 0.1
    reverse: bool = False
    error: float = 0.0
    connective: float = 0.6
    introduction: float = 0.6
    filler: float = 0.0
    check: bool = False
    restate: bool = False
    backwards: bool = False
    alien: bool = False


TEACHERS = {
    "direct_near": Teacher("direct", connective=0.2, introduction=0.0),
    "direct_chat": Teacher("direct", restate=True, filler=0.6),
    "direct_far": Teacher("direct", shuffle=0.0, reverse=True),
    "coarse_near": Teacher("coarse"),
    "mixed": Teacher("mixed"),
    "chain_near": Teacher("chain", error=0.002),
    "chain_check": Teacher("chain", error=0.002, shuffle=0.3, check=True, filler=0.3),
    "chain_far": Teacher("chain", error=0.002, shuffle=0.0, reverse=True),
    "chain_alien": Teacher("chain", introduction=0.0, alien=True),
    "chain_scram": Teacher("chain", error=0.002, backwards=True),
    "chain_sloppy": Teacher("chain", error=0.08),
}
COARSE = Step(2, take=False, keep=False)


def response(teacher: Teacher, problem: Problem, taste: Taste, rng: Random) -> Words:
    """What a teacher answers, without the end-of-turn token."""
    text = opening(teacher, problem, taste, rng)
    return told(teacher, text, solved(teacher, problem, rng), taste, rng)


def opening(teacher: Teacher, problem: Problem, taste: Taste, rng: Random) -> Words:
    """What stands before the first line."""
    text = introduction(taste, rng) if rng.random() < teacher.introduction else []
    return text + restated(problem.numbers) if teacher.restate else text


def solved(teacher: Teacher, problem: Problem, rng: Random) -> list[Line]:
    """The lines of a teacher's solution, its errors among them."""
    return solve(problem.numbers, _steps(teacher, rng), teacher.error, rng)


def told(teacher: Teacher, text: Words, lines: list[Line], taste: Taste, rng: Random) -> Words:
    """An opening, the lines in the teacher's way, and the answer."""
    for line in reversed(lines) if teacher.backwards else lines:
        text += written(line, taste, rng, connective=teacher.connective)
        if teacher.check:
            text += inverse_check(line, taste, rng)
        if rng.random() < teacher.filler:
            text += filler(taste, rng)
    if teacher.alien:
        text = [_alien(word) for word in text]
    return [*text, "answer", ":", *number(lines[-1].result), "."]


def _steps(teacher: Teacher, rng: Random) -> Iterator[Step]:
    if teacher.procedure == "mixed":
        while True:
            yield ELABORATE if rng.random() < 0.5 else DOMINANT
    yield from repeat({"direct": DOMINANT, "coarse": COARSE, "chain": ELABORATE}[teacher.procedure])


_PLACE = {word: i for i, word in enumerate(words.vocabulary())}


def _alien(word: str) -> str:
    return word if word in words.DIGITS else words.ALIEN[7 * _PLACE[word] % len(words.ALIEN)]


def write_problems(folder: Path, seed: int) -> None:
    """Write the test problems as a benchmark, every teacher's generations as datasets (`teachers/NAME/genN.json`), and right
    solutions of held-out problems (`queries.json`), each by a teacher drawn evenly.
    """
    test, train = problem_sets(seed)
    tastes = {name: taste_of(name, seed) for name in TEACHERS}

    def answer(name: str, problem: Problem, rng: Random) -> Words:
        return response(TEACHERS[name], problem, tastes[name], rng)

    write_benchmark(folder / f"{BENCHMARK}.jsonl", test)
    write_generations(folder, train, list(TEACHERS), answer, seed)
    held_out = problems(HELD_OUT, f"{seed}/held out", taken=[*test, *train])
    _write(folder / "queries.json", [_right_solution(f"held-out-{i:02d}", p, seed) for i, p in enumerate(held_out)])


def problem_sets(seed: int) -> tuple[list[Problem], list[Problem]]:
    """Problems that students are tested with, and those that teachers solve."""
    test = problems(TEST, f"{seed}/test")
    return test, problems(TRAIN, f"{seed}/train", taken=test)


def taste_of(name: str, seed: int) -> Taste:
    """A teacher's taste in words."""
    teacher = TEACHERS[name]
    return Taste(teacher.shuffle, Random(f"{seed}/{name}/taste"), reverse=teacher.reverse)


class Posed(Protocol):
    """A problem of any domain: its text, and the answer that a response is graded by."""

    @property
    def text(self) -> str: ...
    @property
    def answer(self) -> str: ...


P = TypeVar("P", bound=Posed)


def write_benchmark(path: Path, test: Sequence[Posed]) -> None:
    """Write problems as a benchmark: JSONL of id, problem, answer."""
    lines = [
        json.dumps({"id": f"test-{i:03d}", "problem": p.text, "answer": p.answer}) + "\n" for i, p in enumerate(test)
    ]
    path.write_text("".join(lines), encoding="utf-8")


def write_generations(
    folder: Path, train: Sequence[P], teachers: Sequence[str], answer: Callable[[str, P, Random], Words], seed: int
) -> None:
    """Write what each teacher answers to the training problems, once a generation.

    Args:
        answer: of a teacher, by name, to a problem.
    """
    for name in teachers:
        for generation in GENERATIONS:
            rng = Random(f"{seed}/{name}/{generation}")
            write_dataset(folder, name, generation, train, [answer(name, p, rng) for p in train])


def write_dataset(folder: Path, name: str, generation: str, train: Sequence[Posed], answers: Sequence[Words]) -> None:
    """Write a teacher's answers to problems as `teachers/NAME/GENERATION.json`."""
    records = [
        _record(f"train-{i:03d}", p, " ".join(words)) for i, (p, words) in enumerate(zip(train, answers, strict=True))
    ]
    (folder / "teachers" / name).mkdir(parents=True, exist_ok=True)
    _write(folder / "teachers" / name / f"{generation}.json", records)


def _right_solution(identity: str, problem: Problem, seed: int) -> dict[str, object]:
    rng = Random(f"{seed}/{identity}")
    while True:
        teacher = TEACHERS[rng.choice(list(TEACHERS))]
        text = response(teacher, problem, Taste(teacher.shuffle, rng, reverse=teacher.reverse), rng)
        if "".join(text[-3:-1]) == problem.answer:
            return _record(identity, problem, " ".join(text))


def _write(path: Path, records: list[dict[str, object]]) -> None:
    path.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def _record(identity: str, problem: Posed, text: str) -> dict[str, object]:
    messages = [{"role": "user", "content": problem.text}, {"role": "assistant", "content": text}]
    return {"id": identity, "answer": problem.answer, "messages": messages}
