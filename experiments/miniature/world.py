"""Problems, and how a line of a solution is written: what corpus and teachers share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from experiments.miniature import words

SEED = 1
LARGEST = 99  # of every number and every running total: two digit tokens
SLIPS = (-10, -2, -1, 1, 2, 10)  # by how much a wrong line is wrong
PROBLEM_SIZES = {2: 0.15, 3: 0.35, 4: 0.30, 5: 0.20}  # numbers in a problem and how often

Words = list[str]
Numbers = tuple[int, ...]


def number(value: int) -> Words:
    """Always two digits, most significant first."""
    return list(f"{value:02d}")


def draw(weights: dict[int, float], rng: Random) -> int:
    return rng.choices(list(weights), list(weights.values()))[0]


def operand(rng: Random) -> int:
    return rng.randint(1, 9) if rng.random() < 0.4 else rng.randint(10, 30)


def numbers(size: int, rng: Random) -> Numbers:
    """Operands with a total of at most `LARGEST`."""
    while sum(drawn := tuple(operand(rng) for _ in range(size))) > LARGEST:
        pass
    return drawn


class Problem(NamedTuple):
    numbers: Numbers
    text: str

    @property
    def answer(self) -> str:
        return f"{sum(self.numbers):02d}"


def problems(count: int, seed: str, taken: Sequence[Problem] = ()) -> list[Problem]:
    """Problems that differ in their numbers from one another and from those already taken."""
    rng = Random(seed)
    seen = {problem.numbers for problem in taken}
    made: list[Problem] = []
    while len(made) < count:
        drawn = numbers(draw(PROBLEM_SIZES, rng), rng)
        if drawn not in seen:
            seen.add(drawn)
            made.append(Problem(drawn, " ".join(problem_text(drawn, rng))))
    return made


def problem_text(values: Numbers, rng: Random) -> Words:
    """A short story (70 %) or the bare sum."""
    if rng.random() >= 0.7:
        total = [word for value in values for word in ("+", *number(value))][1:]
        opening, end = rng.choice([("compute", "."), ("what is", "?"), ("find the value of", ".")])
        return [*opening.split(), *total, end]
    name, things = rng.choice(words.NAMES), rng.choice(words.OBJECTS)
    first = number(values[0])
    text = rng.choice(
        [
            [name, "has", *first, things, "."],
            ["there", "are", *first, things, "in", "the", rng.choice(words.PLACES), "."],
            [name, "starts", "with", *first, things, "."],
        ]
    )
    for value in values[1:]:
        text += [name, rng.choice(words.GAINS), *number(value), "more", "."]
    question = rng.choice(["how many {things} does {name} have now ?", "find the sum of {things} ."])
    return text + question.format(things=things, name=name).split()


class Taste:
    """Which words of a list somebody prefers: Zipf(1.2) over an order between the corpus's own and a random one.

    Args:
        shuffle: 0 keeps the corpus's order, 1 is random.
        reverse: start from the corpus's order reversed.
    """

    def __init__(self, shuffle: float, rng: Random, *, reverse: bool = False) -> None:
        self._orders: dict[Sequence[str], list[str]] = {}
        for synonyms in (words.CONNECTIVES, words.EQUALS, words.TAKE, words.KEEP, words.CHECK, words.INTRO):
            start = list(reversed(synonyms)) if reverse else list(synonyms)
            position = {word: (1 - shuffle) * i / len(start) + shuffle * rng.random() for i, word in enumerate(start)}
            self._orders[tuple(synonyms)] = sorted(start, key=position.__getitem__)

    def choose(self, synonyms: Sequence[str], rng: Random) -> str:
        order = self._orders[tuple(synonyms)]
        return rng.choices(order, [1 / (rank + 1) ** 1.2 for rank in range(len(order))])[0]


@dataclass(frozen=True)
class Line:
    """One addition of a solution: `value` + `operands` = `result`, which may be wrong."""

    value: int
    operands: Numbers
    result: int
    take: bool
    keep: bool


class Step(NamedTuple):
    """How a line is to be written: how many operands it adds, and whether it says what it takes and keeps."""

    operands: int
    take: bool
    keep: bool


def solve(values: Numbers, steps: Iterator[Step], error: float, rng: Random) -> list[Line]:
    """The lines that sum the numbers; an error is carried on.

    Args:
        steps: the writer's choice for each line, made one after the other.
        error: chance that a line's result is wrong.
    """
    lines: list[Line] = []
    total, rest = values[0], values[1:]
    while rest:
        step = next(steps)
        now, rest = rest[: step.operands], rest[step.operands :]
        result = min(LARGEST, total + sum(now))
        if rng.random() < error:
            result = min(LARGEST, max(1, result + rng.choice(SLIPS)))
        lines.append(Line(total, now, result, step.take, step.keep))
        total = result
    return lines


def written(line: Line, taste: Taste, rng: Random, *, connective: float = 0.6) -> Words:
    """[connective] [take b ,] value + b = result [keep result] ."""
    text: Words = []
    if rng.random() < connective:
        text.append(taste.choose(words.CONNECTIVES, rng))
    if line.take:
        text += [taste.choose(words.TAKE, rng), *number(line.operands[0]), ","]
    text += number(line.value)
    for value in line.operands:
        text += ["+", *number(value)]
    text += [taste.choose(words.EQUALS, rng), *number(line.result)]
    if line.keep:
        text += [taste.choose(words.KEEP, rng), *number(line.result)]
    return [*text, "."]


def inverse_check(line: Line, taste: Taste, rng: Random) -> Words:
    """check : result - b = value ."""
    start = [taste.choose(words.CHECK, rng), ":", *number(line.result), "-", *number(line.operands[0])]
    return [*start, taste.choose(words.EQUALS, rng), *number(line.value), "."]


def restated(values: Numbers) -> Words:
    """we have a and b and c ."""
    return ["we", "have", *[word for value in values for word in ("and", *number(value))][1:], "."]


def introduction(taste: Taste, rng: Random) -> Words:
    return [*taste.choose(words.INTRO, rng).split(), "."]


def filler(taste: Taste, rng: Random) -> Words:
    """A sentence that has nothing to do with sums."""
    kind = rng.random()
    if kind < 0.35:
        near = [rng.choice(words.ADJECTIVES), rng.choice(words.PLACES), "is", "near", "the"]
        return ["the", *near, rng.choice(words.ADJECTIVES), rng.choice(words.PLACES), "."]
    if kind < 0.80:
        thing = [rng.choice(words.ADJECTIVES), rng.choice(words.OBJECTS), rng.choice(words.ADVERBS)]
        return [rng.choice(words.NAMES), rng.choice(words.VERBS), "the", *thing, "."]
    who = [taste.choose(words.CONNECTIVES, rng), rng.choice(words.NAMES), "was", rng.choice(words.ADJECTIVES)]
    return [*who, "because", "the", rng.choice(words.OBJECTS), "were", rng.choice(words.ADJECTIVES), "."]
