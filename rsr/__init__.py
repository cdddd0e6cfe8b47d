"""Rank-Surprisal Ratio: which reasoning trajectories will teach a student model best?

The verbs are `score`, `rank` (`rank_by`), `select`, `inspect` and `compare`; `metric` declares a metric of one's own. Importing the
package is cheap: what a verb needs is imported when it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rsr.api import compare, inspect, rank, rank_by, score, select
    from rsr.errors import InputError
    from rsr.metrics.base import Parts, metric
    from rsr.student.student import Student
    from rsr.tokens.settings import Settings

_HOMES = {
    **dict.fromkeys(("compare", "inspect", "rank", "rank_by", "score", "select"), "rsr.api"),
    **dict.fromkeys(("Parts", "metric"), "rsr.metrics.base"),
    "InputError": "rsr.errors",
    "Settings": "rsr.tokens.settings",
    "Student": "rsr.student.student",
}
__all__ = [
    "InputError",
    "Parts",
    "Settings",
    "Student",
    "compare",
    "inspect",
    "metric",
    "rank",
    "rank_by",
    "score",
    "select",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rsr' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
