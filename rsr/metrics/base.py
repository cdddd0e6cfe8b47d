"""What a metric declares about itself."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rsr.errors import InputError
from rsr.tokens.tokens import Tokens, divide

Floats = NDArray[np.float64]

Level = Literal["token", "trajectory", "dataset"]
Need = Literal[
    "teacher",
    "text",
    "answers",
    "tokens",
    "graded",
    "judged",
    "steps",
    "step_heads",
    "responses_alone",
    "activations",
    "gradients",
    "influence",
    "endpoint",
]

COST: dict[Need, str] = {
    "teacher": "none: known of the teacher",
    "text": "none: counted in the text",
    "answers": "grading",
    "tokens": "one forward pass",
    "graded": "one forward pass, with RSR, and grading",
    "judged": "one forward pass, with RSR, and one call to a judge per trajectory",
    "steps": "about window + 1 forward passes",
    "step_heads": "one more forward pass",
    "responses_alone": "two more forward passes, one without prompts",
    "activations": "one more forward pass",
    "gradients": "a forward and a backward pass per trajectory",
    "influence": "several backward passes per trajectory, and a training run before",
    "endpoint": "one call to a judge per trajectory",
}

APART: tuple[Need, ...] = ("step_heads", "responses_alone", "activations")  # passes that no metric of the paper takes

# Columns that a token store may lack, and what mends it.
OLD = "its token store was made before they were kept: remove it and score anew"
MEND = {
    "squares": OLD,
    "repeated": OLD,
    "expected_rank": "score with expectations=true (--expectations)",
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


Compute = Callable[..., Parts]  # of what the metric needs and the parameters of a preset


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
        columns: token statistics besides rank, surprisal and entropy that it is computed from; of `rsr.tokens.tokens.LATER`.
        note: what a reader must know besides.
        presets: parameters by name of preset; "" is the default.
        compute: its function of token statistics (`Tokens`) or, where it needs something else that is measured, of the
            rows of such measurements (see `rsr.features.extractor`); None where nothing is computed. A metric of datasets alone
            takes the rows of one and gives one value.
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
    columns: tuple[str, ...] = ()
    note: str = ""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"": {}})
    compute: Compute | None = field(default=None, repr=False)

    def __call__(self, measured: Tokens | pl.DataFrame, preset: str = "", **parameters: Any) -> Parts:
        """The metric of each trajectory, under a preset or with parameters of one's own.

        Raises:
            InputError: it is not computed from what was measured, or from columns that are not there, or has no such preset.
        """
        statistics = isinstance(measured, Tokens)
        if self.compute is None or statistics != (self.needs == "tokens"):
            raise InputError(f"{self.name} is not computed from {'token statistics' if statistics else 'such rows'}")
        if preset not in self.presets:
            raise InputError(f"{self.name} has no preset {preset!r}; known are {', '.join(filter(None, self.presets))}")
        if isinstance(measured, Tokens) and (lacking := self.lacking(measured)):
            raise InputError(lacking)
        return self.compute(measured, **{**self.presets[preset], **parameters})

    def lacking(self, tokens: Tokens) -> str | None:
        """What is said where the tokens lack a column that it is computed from."""
        missing = [column for column in self.columns if getattr(tokens, column) is None]
        return f"{self.name} needs {missing[0]}: {MEND[missing[0]]}" if missing else None

    @property
    def cost(self) -> str:
        return COST[self.needs]

    @property
    def expected_sign(self) -> int:
        """Sign of its correlation with accuracy, should it work as meant."""
        return -1 if self.direction == "lower" else 1


METRICS: dict[str, Metric] = {}
GROUPS: dict[str, tuple[str, ...]] = {"grad": ("g_norm", "grace")}  # besides one group per need


def declare(metric: Metric) -> Metric:
    """Add a metric to the table.

    Raises:
        ValueError: the name is taken.
    """
    if metric.name in METRICS or metric.name in _groups():
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


def _groups() -> dict[str, tuple[str, ...]]:
    by_need = {need: tuple(m.name for m in METRICS.values() if m.needs == need) for need in COST}
    return GROUPS | by_need | {"study": tuple(m.name for m in METRICS.values() if m.needs not in APART)}


def by_name(name: str) -> Metric:
    """The declared metric of that name.

    Raises:
        InputError: there is none; the message names near ones.
    """
    if name not in METRICS:
        near = get_close_matches(name, ["all", *METRICS, *_groups()])
        listed = f"those of one forward pass are {', '.join(_groups()['tokens'])}; docs/baselines.md has the others"
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else listed
        raise InputError(f"unknown metric {name!r}: {hint}")
    return METRICS[name]


def select(names: Iterable[str]) -> list[Metric]:
    """Metrics by name or group, without repetition, in the order asked for.

    Groups are "all", "study" (those that follow from what the paper's metrics take), "grad" (the gradient baselines), and one per
    need, such as "tokens".

    Raises:
        InputError: a name is unknown, or none is given.
    """
    chosen: dict[str, Metric] = {}
    for name in names:
        members = METRICS if name == "all" else _groups().get(name, (name,))
        chosen.update((member, by_name(member)) for member in members)
    if not chosen:
        raise InputError("no metric is chosen: metric=all takes every one")
    return list(chosen.values())
