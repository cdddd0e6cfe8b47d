"""Operations, problems, lines and programs: what corpus and teachers of the program domain share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from experiments.miniature import words
from experiments.miniature.world import Taste, Words, draw

ITEMS = ("a", "b", "c", "d", "e")
LEAST = 2  # items that are left of a list after each operation
PROBLEM_SIZES = {2: 0.05, 3: 0.35, 4: 0.35, 5: 0.25}  # operations in a problem and how often
HIDDEN_INPUTS = 3

# An operation is what its Python does to the list x, one token a word.
OPERATIONS = {
    "reverse all": "x [ : : -1 ]",
    "rotate front": "x [ 1 : ] + x [ : 1 ]",
    "rotate back": "x [ -1 : ] + x [ : -1 ]",
    "swap front": "x [ 1 : 2 ] + x [ : 1 ] + x [ 2 : ]",
    "swap back": "x [ : -2 ] + x [ -1 : ] + x [ -2 : -1 ]",
    "swap ends": "x [ -1 : ] + x [ 1 : -1 ] + x [ : 1 ]",
    "drop front": "x [ 1 : ]",
    "drop back": "x [ : -1 ]",
}
_FUNCTIONS = {name: eval(f"lambda x: {code}") for name, code in OPERATIONS.items()}

State = tuple[str, ...]
Operations = tuple[str, ...]

_REST = [
    "program",
    "def",
    "f",
    "(",
    ")",
    "[",
    "]",
    ";",
    "x",
    "return",
    "1",
    "2",
    "-1",
    "-2",
    "given",
    "list",
    "does",
    "b",
    "c",
    "d",
    "e",
]


def vocabulary() -> list[str]:
    """That of the sums, and what programs need besides."""
    names = [word for operation in OPERATIONS for word in operation.split()]
    return list(dict.fromkeys([*words.vocabulary(), *names, *_REST]))


def applied(operations: Sequence[str], state: State) -> State:
    for operation in operations:
        state = _FUNCTIONS[operation](state)
    return state


def drawn(size: int, rng: Random) -> tuple[State, Operations]:
    """A list of three to five items and different operations that never leave fewer than `LEAST`."""
    while True:
        items = ITEMS[: rng.randint(3, 5)]
        operations = tuple(rng.sample(list(OPERATIONS), size))
        if len(applied(operations, items)) >= LEAST:
            return items, operations


class Problem(NamedTuple):
    items: State
    operations: Operations
    text: str

    @property
    def answer(self) -> str:
        """Assertions on hidden inputs, one a line."""
        rng = Random(" ".join([*self.items, *self.operations]))
        lines = []
        for _ in range(HIDDEN_INPUTS):
            digits = rng.sample(range(10), len(self.items))
            given = dict(zip(self.items, digits, strict=True))
            expected = [given[item] for item in applied(self.operations, self.items)]
            lines.append(f"assert f({', '.join(map(str, digits))}) == {expected}")
        return "\n".join(lines)


def problems(count: int, seed: str, taken: Sequence[Problem] = ()) -> list[Problem]:
    """Problems that differ in items or operations from one another and from those already taken."""
    rng = Random(seed)
    seen = {problem[:2] for problem in taken}
    made: list[Problem] = []
    while len(made) < count:
        items, operations = drawn(draw(PROBLEM_SIZES, rng), rng)
        if (items, operations) not in seen:
            seen.add((items, operations))
            made.append(Problem(items, operations, " ".join(problem_text(items, operations, rng))))
    return made


def problem_text(items: State, operations: Operations, rng: Random) -> Words:
    """A short story (70 %) or the bare operations."""
    if rng.random() >= 0.7:
        return ["given", *items, ":", *listed(operations), "."]
    name = rng.choice(words.NAMES)
    text = [name, "has", "the", "list", *items, "."]
    for operation in operations:
        text += [name, "does", *operation.split(), "."]
    return text


def listed(operations: Operations) -> Words:
    return [word for operation in operations for word in (",", *operation.split())][1:]


class Step(NamedTuple):
    """How a line is to be written: how many operations it follows, and whether it says first which it takes."""

    operations: int
    take: bool


@dataclass(frozen=True)
class Line:
    """A line of a solution: `operations` on the list `state` give `result`, which may be wrong."""

    state: State
    operations: Operations
    result: State
    take: bool


def follow(items: State, operations: Operations, steps: Iterator[Step], error: float, rng: Random) -> list[Line]:
    """The lines that follow the operations; an error is carried on.

    Args:
        steps: the writer's choice for each line, made one after the other.
        error: chance that a line's result has two neighbours exchanged.
    """
    lines: list[Line] = []
    state, rest = items, operations
    while rest:
        step = next(steps)
        now, rest = rest[: step.operations], rest[step.operations :]
        result = applied(now, state)
        if rng.random() < error and len(result) >= LEAST:
            i = rng.randrange(len(result) - 1)
            result = (*result[:i], result[i + 1], result[i], *result[i + 2 :])
        lines.append(Line(state, now, result, step.take))
        state = result
    return lines


def written(line: Line, taste: Taste, rng: Random, *, connective: float = 0.6) -> Words:
    """[connective] [take operation ,] items , operation = items ."""
    text: Words = []
    if rng.random() < connective:
        text.append(taste.choose(words.CONNECTIVES, rng))
    if line.take:
        text += [taste.choose(words.TAKE, rng), *line.operations[0].split(), ","]
    text += [*line.state, ",", *listed(line.operations)]
    return [*text, taste.choose(words.EQUALS, rng), *line.result, "."]


def program(items: State, result: State) -> Words:
    """program : def f ( a , b , c ) : return [ c , a ]"""
    return [*_signature(items), "return", "[", *separated(result), "]"]


def program_in_statements(items: State, operations: Operations) -> Words:
    """program : def f ( a , b , c ) : x = [ a , b , c ] ; x = x [ 1 : ] ; return x"""
    text = [*_signature(items), "x", "=", "[", *separated(items), "]", ";"]
    for operation in operations:
        text += ["x", "=", *OPERATIONS[operation].split(), ";"]
    return [*text, "return", "x"]


def separated(items: State) -> Words:
    return [word for item in items for word in (",", item)][1:]


def _signature(items: State) -> Words:
    return ["program", ":", "def", "f", "(", *separated(items), ")", ":"]
