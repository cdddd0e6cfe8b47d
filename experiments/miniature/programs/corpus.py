"""What a student of the program domain has read before it is taught."""

from collections.abc import Iterator
from random import Random

from experiments.miniature import words
from experiments.miniature.corpus import AUTHOR_SHUFFLE, AUTHORS
from experiments.miniature.curriculum import Curriculum, Exercise, Premise
from experiments.miniature.programs.world import (
    ITEMS,
    LEAST,
    OPERATIONS,
    PROBLEM_SIZES,
    Line,
    Step,
    applied,
    drawn,
    follow,
    listed,
    problem_text,
    program,
    vocabulary,
    written,
)
from experiments.miniature.world import Taste, Words, draw, filler, introduction

KINDS = {"worked": 0.55, "bare": 0.03, "table": 0.32, "prose": 0.10}  # shares of documents
WORKED_SIZES = {1: 0.5, 2: 0.1, 3: 0.15, 4: 0.15, 5: 0.1}  # operations in a worked document
EVERYTHING = 9  # more operations than a problem has
DOMINANT, ELABORATE = Step(EVERYTHING, take=False), Step(1, take=True)

# The premise: one operation is mastered, three in one line are not.
ONE_AT_LEAST, THREE_AT_MOST = 0.9, 0.2


def documents(rng: Random) -> Iterator[Words]:
    """Documents without end, each closed by the end token."""
    authors = [Taste(AUTHOR_SHUFFLE, rng) for _ in range(AUTHORS)]
    while True:
        taste = rng.choice(authors)
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        if kind == "worked":
            text = worked(taste, rng)
        elif kind == "bare":
            text = problem_text(*drawn(draw(PROBLEM_SIZES, rng), rng), rng)
        elif kind == "table":
            text = [word for _ in range(rng.randint(4, 9)) for word in table_line(taste, rng)]
        else:
            text = [word for _ in range(rng.randint(3, 7)) for word in filler(taste, rng)]
        yield [*text, words.EOS]


def worked(taste: Taste, rng: Random) -> Words:
    """A problem, its solution by the habits of the corpus, and the program."""
    items, operations = drawn(draw(WORKED_SIZES, rng), rng)
    text = problem_text(items, operations, rng)
    if rng.random() < 0.4:
        text += introduction(taste, rng)
    lines = follow(items, operations, habit(rng), 0.0, rng)
    for line in lines:
        text += written(line, taste, rng)
        if rng.random() < 0.05:
            text += filler(taste, rng)
    return text + program(items, lines[-1].result)


def habit(rng: Random) -> Iterator[Step]:
    """Every line chooses afresh."""
    while True:
        yield Step(1 if rng.random() < 0.10 else EVERYTHING, take=rng.random() < 0.15)


def table_line(taste: Taste, rng: Random) -> Words:
    """The easy instance, which every student masters: one operation on any list."""
    while True:
        state = tuple(rng.sample(ITEMS, rng.randint(LEAST, len(ITEMS))))
        operation = rng.choice(list(OPERATIONS))
        if len(result := applied([operation], state)) >= LEAST:
            return written(Line(state, (operation,), result, take=False), taste, rng, connective=0.0)


def in_one_line(size: int, count: int, rng: Random) -> list[Exercise]:
    """Lists of four items and so many operations, all in one line."""
    exercises: list[Exercise] = []
    while len(exercises) < count:
        items, operations = drawn(size, rng)
        if len(items) == 4:
            prompt = [words.EOS, *items, ",", *listed(operations), words.EQUALS[0]]
            exercises.append(Exercise(prompt, [*applied(operations, items), "."]))
    return exercises


CURRICULUM = Curriculum(
    "programs",
    tuple(vocabulary()),
    documents,
    {
        "1": Premise("one operation", lambda count, rng: in_one_line(1, count, rng), least=ONE_AT_LEAST),
        "3": Premise("three operations in one line", lambda count, rng: in_one_line(3, count, rng), most=THREE_AT_MOST),
    },
    threads=1,  # beside other work two threads wait for one another longer than they save
)
