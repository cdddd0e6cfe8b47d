"""What a student of the miniature has read before it is taught: documents of a world."""

from collections.abc import Iterator
from itertools import repeat
from random import Random
from typing import Literal

from experiments.miniature import words
from experiments.miniature.curriculum import Curriculum, Exercise, Premise
from experiments.miniature.world import (
    LARGEST,
    Numbers,
    Step,
    Taste,
    Words,
    draw,
    filler,
    introduction,
    inverse_check,
    number,
    numbers,
    operand,
    problem_text,
    restated,
    solve,
    written,
)

World = Literal["memoryless", "sticky"]
WORLDS: tuple[World, ...] = ("memoryless", "sticky")

AUTHORS, AUTHOR_SHUFFLE = 30, 0.35
KINDS = {"worked": 0.55, "bare": 0.03, "table": 0.32, "prose": 0.10}  # shares of documents
WORKED_SIZES = {2: 0.5, 3: 0.15, 4: 0.2, 5: 0.15}  # numbers in a worked document
BARE_SIZES = {3: 0.3, 4: 0.4, 5: 0.3}
EVERYTHING = 9  # more operands than a problem has
DOMINANT, ELABORATE = Step(EVERYTHING, take=False, keep=False), Step(1, take=True, keep=True)
STICKY_ELABORATE = 0.07  # share of worked documents that take the minor habit

# The premise: sums of two numbers are mastered, sums of three in one line are not.
TWO_AT_LEAST, THREE_AT_MOST = 0.9, 0.2


def documents(world: World, rng: Random) -> Iterator[Words]:
    """Documents without end, each closed by the end token."""
    authors = [Taste(AUTHOR_SHUFFLE, rng) for _ in range(AUTHORS)]
    while True:
        taste = rng.choice(authors)
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        if kind == "worked":
            text = worked(world, taste, rng)
        elif kind == "bare":
            text = problem_text(numbers(draw(BARE_SIZES, rng), rng), rng)
        elif kind == "table":
            text = [word for _ in range(rng.randint(4, 9)) for word in table_line(taste, rng)]
        else:
            text = [word for _ in range(rng.randint(3, 7)) for word in filler(taste, rng)]
        yield [*text, words.EOS]


def worked(world: World, taste: Taste, rng: Random) -> Words:
    """A problem and its solution by the habits of a world."""
    size = draw(WORKED_SIZES, rng)
    values = pair(rng) if size == 2 else numbers(size, rng)
    text = problem_text(values, rng)
    if rng.random() < 0.4:
        text += introduction(taste, rng)
    if rng.random() < 0.15:
        text += restated(values)
    for line in solve(values, habit(world, rng), 0.0, rng):
        text += written(line, taste, rng)
        if len(line.operands) == 1 and rng.random() < 0.05:
            text += inverse_check(line, taste, rng)
        if rng.random() < 0.05:
            text += filler(taste, rng)
    return text


def habit(world: World, rng: Random) -> Iterator[Step]:
    """The choices of one document, line by line."""
    if world == "sticky":
        yield from repeat(ELABORATE if rng.random() < STICKY_ELABORATE else DOMINANT)
    while True:
        yield Step(1 if rng.random() < 0.10 else EVERYTHING, take=rng.random() < 0.15, keep=rng.random() < 0.15)


def pair(rng: Random) -> Numbers:
    """The easy instance, which every student masters."""
    while sum(drawn := (rng.randint(1, 90), operand(rng))) > LARGEST:
        pass
    return drawn


def table_line(taste: Taste, rng: Random) -> Words:
    first, second = pair(rng)
    return [*number(first), "+", *number(second), taste.choose(words.EQUALS, rng), *number(first + second), "."]


def in_one_line(size: int, count: int, rng: Random) -> list[Exercise]:
    """Sums of so many numbers, all in one line."""
    exercises = []
    for values in [numbers(size, rng) for _ in range(count)]:
        added = [word for value in values for word in ("+", *number(value))][1:]
        exercises.append(Exercise([words.EOS, *added, words.EQUALS[0]], number(sum(values))))
    return exercises


def curriculum(world: World) -> Curriculum:
    """A world of sums as a student meets it."""
    return Curriculum(
        world,
        tuple(words.vocabulary()),
        lambda rng: documents(world, rng),
        {
            "2": Premise("sums of two numbers", lambda count, rng: in_one_line(2, count, rng), least=TWO_AT_LEAST),
            "3": Premise(
                "sums of three in one line", lambda count, rng: in_one_line(3, count, rng), most=THREE_AT_MOST
            ),
        },
    )
