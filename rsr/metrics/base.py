"""What a metric declares about itself."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from rsr.errors import InputError

Level = Literal["token", "trajectory", "dataset"]
Need = Literal["teacher", "text", "answers", "tokens", "gradients", "endpoint"]

COST: dict[Need, str] = {
    "teacher": "none: known of the teacher",
    "text": "none: counted in the text",
    "answers": "grading",
    "tokens": "one forward pass",
    "gradients": "a backward pass per trajectory",
    "endpoint": "one call to a judge per trajectory",
}


@dataclass(frozen=True)
class Metric:
    """A declared metric.

    Attributes:
        name: how it is called in commands, files and tables.
        title: how it is called in figures.
        formula: in symbols or words.
        unit: of its value ("" for a pure number).
        direction: which scores the metric prefers. A good lower-is-better metric correlates *negatively* with accuracy.
        levels: what it is defined for.
        needs: what it is computed from; fixes its cost class.
        per_student: whether it depends on the student; otherwise all students share a teacher's score.
        source: equation, table or paper.
        note: what a reader must know besides.
    """

    name: str
    title: str
    formula: str
    unit: str
    direction: Literal["lower", "higher"]
    levels: tuple[Level, ...]
    needs: Need
    per_student: bool
    source: str
    note: str = ""

    @property
    def cost(self) -> str:
        return COST[self.needs]

    @property
    def expected_sign(self) -> int:
        """Sign of its correlation with accuracy, should it work as meant."""
        return -1 if self.direction == "lower" else 1


METRICS: dict[str, Metric] = {}
GROUPS: dict[str, tuple[str, ...]] = {"grad": ("g_norm", "grace")}


def declare(metric: Metric) -> Metric:
    """Add a metric to the table.

    Raises:
        ValueError: the name is taken.
    """
    if metric.name in METRICS or metric.name in GROUPS:
        raise ValueError(f"a metric named {metric.name!r} is declared already")
    METRICS[metric.name] = metric
    return metric


def by_name(name: str) -> Metric:
    """The declared metric of that name.

    Raises:
        InputError: there is none; the message names the nearest.
    """
    if name not in METRICS:
        near = get_close_matches(name, [*METRICS, *GROUPS], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join([*METRICS, *GROUPS])}"
        raise InputError(f"unknown metric {name!r}: {hint}")
    return METRICS[name]


def select(names: Iterable[str]) -> list[Metric]:
    """Metrics by name or group ("grad" for the gradient baselines, "all"), without repetition, in the order asked for.

    Raises:
        InputError: a name is unknown, or none is given.
    """
    chosen: dict[str, Metric] = {}
    for name in names:
        members = METRICS if name == "all" else GROUPS.get(name, (name,))
        chosen.update((member, by_name(member)) for member in members)
    if not chosen:
        raise InputError("no metric is chosen: metric=all takes every one")
    return list(chosen.values())
