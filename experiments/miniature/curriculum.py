"""What a student is trained on, and what it has to master before it may be taught."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from experiments.miniature.world import Words


class Exercise(NamedTuple):
    """A text as far as its answer, and the answer."""

    prompt: Words
    answer: Words


@dataclass(frozen=True)
class Premise:
    """A competence that a study starts from.

    Attributes:
        what: named in an error, such as "sums of two numbers in one line".
        exercises: so many of them, whose prompts are equally long.
        least, most: share of exercises that the student has to get right.
    """

    what: str
    exercises: Callable[[int, Random], list[Exercise]]
    least: float = 0.0
    most: float = 1.0


@dataclass(frozen=True)
class Curriculum:
    """A world as a student meets it.

    Attributes:
        documents: without end, each closed by the end token.
        premises: by the name of their seed.
        threads: that the student is trained in; fixed, since their number changes the last digits, and so in the end the
            student.
    """

    name: str
    vocabulary: tuple[str, ...]
    documents: Callable[[Random], Iterator[Words]]
    premises: dict[str, Premise]
    threads: int = 2
