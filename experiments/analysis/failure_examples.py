"""Minimal examples of what RSR does not tell from good reasoning, in the miniature's words and in English."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from experiments.miniature import words
from experiments.miniature.teachers import TEACHERS, opening, solved, told
from experiments.miniature.world import Taste, filler, problems

NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Hugo", "Ida", "Jonas")
THINGS = ("apples", "coins", "stamps", "books", "cards", "shells", "plates", "keys")
# Closed sets in English: what is asked for, and its members.
SETS = {
    "coin flips": ("heads", "tails"),
    "points of the compass": ("north", "east", "south", "west"),
    "digits": tuple("0123456789"),
    "capital letters": tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
}
DRAWN, IDLE = 60, 8  # members of a set in an English answer; idle sentences in one of the miniature

Answer = tuple[str, str]  # prompt and response


@dataclass(frozen=True)
class Sample:
    """Answers of one kind, and which of their tokens count.

    Attributes:
        counted: texts of the tokens that count, without spaces around; None counts all.
    """

    label: str
    answers: Sequence[Answer]
    counted: frozenset[str] | None = None


@dataclass(frozen=True)
class Examples:
    """What each mechanism is shown with; answers at the same place are to the same problem.

    Attributes:
        known, unknown: solutions, and the same with digits that cannot be known when they are written.
        digits: texts of the digits.
        closed: answers in which tokens of `counted` were drawn evenly from all of these.
        joint: what stands between a response and what is appended to it.
        noise: digits drawn at random, as many as asked for.
    """

    known: Sample
    unknown: Sample
    digits: frozenset[str]
    closed: Sequence[Sample]
    joint: str
    noise: Callable[[int, Random], str]


def miniature(count: int, seed: int) -> Examples:
    """Partial sums in order and, line for line the same, last to first; idle sentences with words of open classes."""
    rng = Random(f"{seed}/examples")
    asked = problems(count, f"{seed}/examples")
    taste = Taste(0.1, rng)
    in_order = replace(TEACHERS["chain_near"], error=0.0)

    def solutions(backwards: bool) -> list[Answer]:
        teacher = replace(in_order, backwards=backwards)
        answers = []
        for i, problem in enumerate(asked):
            lines, rng = solved(teacher, problem, Random(f"{seed}/{i}")), Random(f"{seed}/{i}/words")
            answers.append(
                (problem.text, " ".join(told(teacher, opening(teacher, problem, taste, rng), lines, taste, rng)))
            )
        return answers

    idle = [(p.text, " ".join(word for _ in range(IDLE) for word in filler(taste, rng))) for p in asked]
    classes = {
        "adverbs": words.ADVERBS,
        "verbs": words.VERBS,
        "places": words.PLACES,
        "adjectives": words.ADJECTIVES,
        "objects": words.OBJECTS,
    }
    return Examples(
        Sample("sums in order", solutions(backwards=False)),
        Sample("the same lines, last to first", solutions(backwards=True)),
        frozenset(words.DIGITS),
        [Sample(name, idle, frozenset(members)) for name, members in classes.items()],
        joint=" ",
        noise=lambda n, rng: " ".join(rng.choices(words.DIGITS, k=n)),
    )


def english(count: int, seed: int) -> Examples:
    """A worked sum, and the same sentences with numbers drawn at random; sequences of coin flips, digits and letters."""
    rng = Random(f"{seed}/examples")
    asked = [_sum(rng) for _ in range(count)]
    drawn = [
        Sample(
            name,
            [(f"Write {DRAWN} random {name}.", " ".join(rng.choices(members, k=DRAWN))) for _ in range(count)],
            frozenset(members),
        )
        for name, members in SETS.items()
    ]
    return Examples(
        Sample("right numbers", [(problem, explained(*numbers)) for problem, explained, numbers in asked]),
        Sample(
            "the same sentences, numbers at random",
            [(problem, explained(*(rng.randint(10, 99) for _ in numbers))) for problem, explained, numbers in asked],
        ),
        frozenset("0123456789"),
        drawn,
        joint="\n\n",
        noise=lambda n, rng: "".join(rng.choices("0123456789", k=n)),
    )


def _sum(rng: Random) -> tuple[str, Callable[..., str], tuple[int, ...]]:
    """A problem, its explanation as a function of the numbers that are worked out, and these."""
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    a, b, c = rng.randint(10, 40), rng.randint(10, 30), rng.randint(10, 20)
    problem = (
        f"{name} has {a} {things}, buys {b} more and gets {c} from a friend. How many {things} does {name} have now?"
    )

    def explained(first: int, same: int, total: int, again: int) -> str:
        return (
            f"{name} starts with {a} {things}. After buying {b} more there are {a} + {b} = {first} {things}. "
            f"To these {same} we add the {c} from the friend, which makes {same} + {c} = {total}. "
            f"So {name} has {again} {things} now."
        )

    return problem, explained, (a + b, a + b, a + b + c, a + b + c)
