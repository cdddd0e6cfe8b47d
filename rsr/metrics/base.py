"""What a metric declares about itself."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsr.errors import InputError
from rsr.tokens import Tokens, divide

Floats = NDArray[np.float64]

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


class Parts(NamedTuple):
    """What a metric computes per trajectory; NaN where it has no value.

    A trajectory's value is numerator / denominator, a dataset's the ratio of their sums (Eq. 9). Without a denominator
    the numerator is the value, and a dataset's the mean.
    """

    numerator: Floats
    denominator: Floats | None = None

    @property
    def values(self) -> Floats:
        return self.numerator if self.denominator is None else divide(self.numerator, self.denominator)


Compute = Callable[..., Parts]  # of Tokens and the parameters of a preset


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
        presets: parameters by name of preset; "" is the default.
        compute: its function of token statistics; None where it is not computed from them.
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
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"": {}})
    compute: Compute | None = field(default=None, repr=False)

    def __call__(self, tokens: Tokens, preset: str = "", **parameters: Any) -> Parts:
        """The metric of each trajectory, under a preset or with parameters of one's own.

        Raises:
            InputError: it is not computed from token statistics, or has no such preset.
        """
        if self.compute is None:
            raise InputError(f"{self.name} is not computed from token statistics")
        if preset not in self.presets:
            raise InputError(f"{self.name} has no preset {preset!r}; known are {', '.join(filter(None, self.presets))}")
        return self.compute(tokens, **{**self.presets[preset], **parameters})

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


def metric(**declaration: Any) -> Callable[[Compute], Metric]:
    """Declare the decorated function of `Tokens` as a metric; see `Metric` for what a declaration says.

    >>> @metric(name="longest_surprise", title="Largest surprisal", formula="max of s", unit="nats", direction="lower",
    ...         levels=("trajectory", "dataset"), needs="tokens", per_student=True, source="mine")
    ... def longest_surprise(tokens):
    ...     return Parts(np.array([tokens.surprisal[a:b].max() for a, b in itertools.pairwise(tokens.offsets)]))
    """

    def decorate(function: Compute) -> Metric:
        return declare(replace(Metric(**declaration), compute=function))

    return decorate


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
