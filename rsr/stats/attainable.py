"""Which correlations could the unrounded numbers behind a printed table have had?

A printed number stands for every number that rounds to it. A cell printed twice has both prints: where they agree,
the number lies in both intervals; where they contradict each other, in one or the other. Under this model a
correlation recomputed from print is one of a set, and a printed coefficient is *attainable* if it is in that set.

Spearman takes finitely many values, one per order of the unrounded numbers, and the set is enumerated exactly.
Pearson varies continuously over a box, so the set is an interval; its ends are bracketed between a value that some
unrounded numbers reach and a bound that none can pass (`Attainable.slack`, the distance of the two).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations, product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rsr.errors import InputError
from rsr.stats.correlation import correlate

Interval = tuple[float, float]
Cell = tuple[Interval, ...]  # the disjoint intervals in which the unrounded number may lie
Column = Sequence[Cell]  # one cell per teacher

MAX_ORDERS = 100_000
MAX_CORNERS = 2**13
FLOAT_SLACK = 1e-9  # of float64 sums and of the digits by which values are told apart


def rounding_interval(printed: str, scale: float = 1.0) -> Interval:
    """The numbers that round to a print: its last digit give or take one half.

    >>> rounding_interval("0.50")
    (0.495, 0.505)
    """
    number = Decimal(printed)
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int):
        raise InputError(f"{printed!r} is not a number")
    half = Decimal(5).scaleb(exponent - 1)
    return float(number - half) * scale, float(number + half) * scale


def cell(prints: Sequence[Interval]) -> Cell:
    """All prints of one number: overlapping intervals are intersected, others are alternatives."""
    alternatives: list[Interval] = []
    for low, high in prints:
        for i, (other_low, other_high) in enumerate(alternatives):
            if max(low, other_low) < min(high, other_high):
                alternatives[i] = (max(low, other_low), min(high, other_high))
                break
        else:
            alternatives.append((low, high))
    return tuple(alternatives)


@dataclass(frozen=True)
class Attainable:
    """The signed correlations that unrounded inputs could give.

    Attributes:
        low, high: the extremes that are reached.
        values: all of them, ascending, where they are finitely many.
        spans: otherwise intervals whose every value is reached; several where prints contradict each other.
        slack: no value farther than this from a span is attainable (0 where values are enumerated).
    """

    low: float
    high: float
    values: tuple[float, ...] | None = None
    spans: tuple[Interval, ...] = ()
    slack: float = 0.0

    def allows(self, printed: str) -> bool | None:
        """Whether an absolute value that rounds to `printed` is in the set; None where the slack leaves it open."""
        low, high = rounding_interval(printed)
        low, high = low - FLOAT_SLACK, high + FLOAT_SLACK
        bands = ((low, high), (-high, -low))
        if self.values is not None:
            return any(a <= value <= b for a, b in bands for value in self.values)
        meets = {
            slack: any(low - slack <= b and high + slack >= a for a, b in bands for low, high in self.spans)
            for slack in (0.0, self.slack)
        }
        return True if meets[0.0] else None if meets[self.slack] else False


Verdict = Literal["equal", "attainable", "not attainable", "undecided"]


def verdict(printed: str, recomputed: float, attainable: Attainable) -> Verdict:
    """Judge a coefficient that is printed as an absolute value.

    equal: the printed inputs, taken as they stand, give it; attainable: some unrounded inputs do;
    not attainable: none can; undecided: the bracket around the attainable set is too wide to tell.
    """
    low, high = rounding_interval(printed)
    if low - FLOAT_SLACK <= abs(recomputed) <= high + FLOAT_SLACK:
        return "equal"
    allowed = attainable.allows(printed)
    if allowed is None:
        return "undecided"
    return "attainable" if allowed else "not attainable"


# --- Spearman: enumeration ---------------------------------------------------------------------------------------


def weak_orders(column: Column) -> NDArray[np.int64]:
    """Every order, ties included, that numbers inside the intervals can have.

    Returns:
        Doubled mean ranks, shape (orders, teachers), without repetition.

    Rounding is monotone, so two prints of the same precision that differ fix the order of their numbers; the open
    intervals used here say just that, whichever way halves are rounded.

    Raises:
        InputError: more than 100,000 orders (the prints are too coarse to say anything).
    """
    found: set[tuple[int, ...]] = set()
    for intervals in product(*column):
        for order in _orders(intervals):
            found.add(order)
            if len(found) > MAX_ORDERS:
                raise InputError(f"more than {MAX_ORDERS:,} orders fit the printed numbers: too many of them are equal")
    return np.array(sorted(found), dtype=np.int64)


def _orders(intervals: Sequence[Interval]) -> Iterator[tuple[int, ...]]:
    """Build orders from the smallest block of equal numbers upwards.

    Each block takes the smallest value open to it: if a higher one leads to a full order, the smallest does too.
    `floor` is that value; an infinitesimal above it is meant, so a bound equal to it still leaves room only if open.
    """
    ranks = [0] * len(intervals)

    def extend(remaining: frozenset[int], floor: float) -> Iterator[tuple[int, ...]]:
        if not remaining:
            yield tuple(ranks)
            return
        ceiling = min(intervals[i][1] for i in remaining)
        candidates = [i for i in sorted(remaining) if intervals[i][0] < ceiling]
        placed = len(intervals) - len(remaining)
        for size in range(1, len(candidates) + 1):
            for block in combinations(candidates, size):
                value = max(floor, *(intervals[i][0] for i in block))
                if value < ceiling:
                    for i in block:
                        ranks[i] = 2 * placed + size + 1
                    yield from extend(remaining - set(block), value)

    yield from extend(frozenset(range(len(intervals))), -np.inf)


def attainable_spearman(scores: Sequence[Column], accuracy: Sequence[Column], *, shared_scores: bool) -> Attainable:
    """The exact set of Spearman coefficients, averaged over students where there are several.

    Args:
        scores, accuracy: one column per student.
        shared_scores: the metric is a property of the teacher, so one unrounded column serves every student.
    """
    accuracy_orders = [weak_orders(column) for column in accuracy]
    if shared_scores:
        common = weak_orders(_merge(scores))
        choices = [[order[None]] * len(accuracy_orders) for order in common]
    else:
        choices = [[weak_orders(column) for column in scores]]
    values = np.unique(np.concatenate([_means(choice, accuracy_orders) for choice in choices]))
    if len(values) == 0:
        raise InputError("every order that fits the printed numbers is constant: there is nothing to correlate")
    return Attainable(float(values[0]), float(values[-1]), tuple(values.tolist()))


def _merge(columns: Sequence[Column]) -> Column:
    """One column from several prints of it."""
    return [cell([interval for c in cells for interval in c]) for cells in zip(*columns, strict=True)]


def _means(scores: Sequence[NDArray[np.int64]], accuracy: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    """All means over students of one coefficient each."""
    totals = np.zeros(1)
    for x, y in zip(scores, accuracy, strict=True):
        rho = correlate(x[:, None, :], y[None, :, :], "pearson")
        rho = np.unique(rho[~np.isnan(rho)].round(12))
        totals = np.unique((totals[:, None] + rho[None, :]).round(12))
    return totals / len(scores)


# --- Pearson: bracketing ---------------------------------------------------------------------------------------


def attainable_pearson(scores: Sequence[Column], accuracy: Sequence[Column]) -> Attainable:
    """The set of Pearson coefficients, averaged over students where there are several: an interval per choice among
    contradicting prints.

    Scores of different students are taken as independent, so for a metric of the teacher alone the set is too large.

    Raises:
        InputError: more than 13 teachers (the corners of the box are enumerated), or a column may be constant.
    """
    per_student = [
        [_pearson_range(np.array(a), np.array(b)) for a in product(*x) for b in product(*y)]
        for x, y in zip(scores, accuracy, strict=True)
    ]
    spans = tuple(
        (float(np.mean([c.low for c in choice])), float(np.mean([c.high for c in choice])))
        for choice in product(*per_student)
    )
    slack = float(np.mean([max(c.slack for c in choices) for choices in per_student]))
    return Attainable(min(a for a, _ in spans), max(b for _, b in spans), spans=spans, slack=slack)


def _pearson_range(x: NDArray[np.float64], y: NDArray[np.float64]) -> Attainable:
    """Extremes over two boxes, each of shape (teachers, 2)."""
    high, high_bound = _pearson_maximum(x, y)
    low, low_bound = _pearson_maximum(x, -y[:, ::-1])
    return Attainable(low=-low, high=high, slack=max(high_bound - high, low_bound - low))


def _pearson_maximum(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """The largest Pearson coefficient over two boxes: (reached, bound).

    With u and v the centred unit vectors of x and y the coefficient is <u, v>. In each of x and y alone it is
    linear over convex: where positive, quasi-concave, so that its minimum over a box lies at a corner and a local
    maximum is global. Three facts follow.

    * If no pair of corners has a positive coefficient, none is positive (the covariance is bilinear), the negated
      coefficient is quasi-concave, and the maximum is the largest value at a pair of corners: exact.
    * Otherwise the maximum is approached by maximising over x and y in turn.
    * For any u0, v0: <u, v> = <u, v0> + <u0, v> - <u0, v0> + <u - u0, v - v0>. The first two terms have certified
      maxima, the last is at most the product of the largest distances, which corners attain. That is the bound.
    """
    x_corners, y_corners = _units(_corners(x)), _units(_corners(y))
    at_corners = float((x_corners @ y_corners.T).max())
    if at_corners <= 0:
        return at_corners, at_corners
    u, v = _unit(x.mean(axis=1)), _unit(y.mean(axis=1))
    for _ in range(20):
        u, v = _closest(x, v), _closest(y, u)
    reached = max(float(u @ v), at_corners)
    x_spread = float(np.sqrt(np.maximum(0, 2 - 2 * (x_corners @ u).min())))
    y_spread = float(np.sqrt(np.maximum(0, 2 - 2 * (y_corners @ v).min())))
    bound = _certified_maximum(x, v, u) + _certified_maximum(y, u, v) - float(u @ v) + x_spread * y_spread
    return reached, max(min(bound, 1.0), reached)


def _closest(box: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """The centred unit vector of the box with the largest product with a centred unit vector."""
    from scipy.optimize import minimize

    spread = float(box.mean(axis=1).std()) or 1.0
    scaled = box / spread

    def objective(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        centred = x - x.mean()
        norm = float(np.linalg.norm(centred))
        value = float(centred @ direction) / norm
        return -value, -(direction - value * centred / norm) / norm

    result = minimize(
        objective,
        scaled.mean(axis=1),
        jac=True,
        bounds=scaled,
        method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-12, "maxiter": 1000},
    )
    return _unit(result.x)


def _certified_maximum(box: NDArray[np.float64], direction: NDArray[np.float64], witness: NDArray[np.float64]) -> float:
    """An upper bound of <x - mean, direction> / |x - mean| over a box; tight where `witness` is the maximiser.

    |x - mean| >= <x - mean, witness>, so c is a bound as soon as the linear form <x, direction - c witness> is
    nowhere positive on the box, and a linear form is largest at a corner. Bisection finds the smallest such c.
    """

    def holds(c: float) -> bool:
        form = direction - c * witness
        return float(np.maximum(form * box[:, 0], form * box[:, 1]).sum()) <= 0

    low, high = 0.0, 1.0
    if not holds(high):
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _corners(box: NDArray[np.float64]) -> NDArray[np.float64]:
    """All corners of a box, shape (2 ** teachers, teachers)."""
    if 2 ** len(box) > MAX_CORNERS:
        raise InputError(f"the attainable Pearson coefficients of {len(box)} teachers would take too long to bracket")
    bits = (np.arange(2 ** len(box))[:, None] >> np.arange(len(box))) & 1
    return np.asarray(np.where(bits, box[:, 1], box[:, 0]))


def _unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(_units(x[None])[0])


def _units(x: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = x - x.mean(axis=-1, keepdims=True)
    norms = np.linalg.norm(centred, axis=-1, keepdims=True)
    if (norms == 0).any():
        raise InputError("the printed numbers may all be equal: there is nothing to correlate")
    return np.asarray(centred / norms)
