"""Rankings of teachers that later work prints, recomputed and judged as the paper's cells are.

`teacher_rankings.csv` holds coefficients between the order of teachers that a score predicts and the order of their students
after training, `teacher_scores.csv` the scores behind such orders, as far as they are printed. An order has the best teacher
first: "A > B" says that A is better, "A = B" that both are equal, and "A ? B" that print does not say which is better.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from re import split

import numpy as np
from numpy.typing import NDArray

from experiments.paper.consistency import Check, judged
from experiments.paper.published import read_cells
from rsr.errors import InputError
from rsr.stats.attainable import Interval, rounding_interval, weak_orders
from rsr.stats.correlation import COEFFICIENTS, correlate

Floats = NDArray[np.float64]
Row = dict[str, str]
Teachers = Mapping[str, str]  # teacher -> print
KEY = ("source", "table", "proxy")
PAIRWISE = (
    "pairwise"  # share of the pairs of teachers with unequal students that are in the right order; 1/2 for equal scores
)
SCORES = {"higher": 1, "lower": -1}  # quantities that teachers are ranked by -> sign of the better


def checks(folder: Path) -> list[Check]:
    """Coefficients of orders and scores, ratios of ranks and surprisals, and sums of shares.

    Raises:
        InputError: a file cannot be read, or a coefficient has neither an order nor scores of the teachers that were trained on.
    """
    rankings, scores = folder / "teacher_rankings.csv", folder / "teacher_scores.csv"
    printed: dict[tuple[str, ...], dict[str, dict[str, str]]] = {}
    for row in read_cells(scores, ["source", "proxy", "quantity", "teacher"], "printed"):
        printed.setdefault(_key(row), {}).setdefault(row["quantity"], {})[row["teacher"]] = row["printed"]
    rows = read_cells(rankings, ["source", "proxy", "coefficient", "order", "truth"], "printed")
    return [
        *(_ranking(row, printed.get(_key(row), {}), rankings) for row in rows),
        *(check for key, quantities in printed.items() for check in _of_scores(key, quantities)),
    ]


def _key(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in KEY)


def _ranking(row: Row, scores: Mapping[str, Teachers], path: Path) -> Check:
    """A coefficient, from the order that is printed beside it or else from scores."""
    truth = _heights(row["truth"])
    places = _of_order(row["order"]) if row["order"] else _of_print(scores)
    if places.keys() != truth.keys() or row["coefficient"] not in (*COEFFICIENTS, PAIRWISE):
        raise InputError(f"{path}: nothing gives {row['coefficient']!r} of {', '.join(_key(row))}: correct the row")
    accuracy = np.array([truth[teacher] for teacher in places])
    orders = weak_orders([(interval,) for interval in places.values()]).astype(float)
    attained = np.unique(_agreement(orders, accuracy, row["coefficient"]).round(12))
    middles = np.array([sum(interval) / 2 for interval in places.values()])
    (value,) = _agreement(middles[None], accuracy, row["coefficient"])
    basis = "the order beside it" if row["order"] else "printed scores"
    name = f"{row['table']}, {row['proxy']}, {row['coefficient']}"
    return judged(row["source"], name, row["printed"], basis, float(value), [(v, v) for v in attained.tolist()])


def _heights(order: str) -> dict[str, float]:
    """Teacher -> its place from the bottom; alike where an order has no difference."""
    groups = reversed(order.split(" > "))
    return {teacher: float(height) for height, group in enumerate(groups) for teacher in split(" [=?] ", group)}


def _of_order(order: str) -> dict[str, Interval]:
    return {teacher: (height, height + 0.5) for teacher, height in _heights(order).items()}


def _of_print(scores: Mapping[str, Teachers]) -> dict[str, Interval]:
    """Where the unrounded scores lie, higher ones being better; none where no scores are printed."""
    intervals: dict[str, Interval] = {}
    for quantity in SCORES.keys() & scores.keys():
        for teacher, printed in scores[quantity].items():
            low, high = sorted(SCORES[quantity] * end for end in rounding_interval(printed))
            intervals[teacher] = (low, high)
    return intervals


def _agreement(scores: Floats, accuracy: Floats, coefficient: str) -> Floats:
    """Of each row of scores, shape (orders, teachers), with accuracies of shape (teachers,)."""
    if coefficient != PAIRWISE:
        return correlate(scores, accuracy[None], next(c for c in COEFFICIENTS if c == coefficient))
    first, second = np.triu_indices(len(accuracy), k=1)
    better = np.sign(accuracy[first] - accuracy[second])
    agree = np.sign(scores[:, first] - scores[:, second]) * better
    return np.asarray(((1 + agree) / 2)[:, better != 0].mean(axis=1))


def _of_scores(key: tuple[str, ...], quantities: Mapping[str, Teachers]) -> Iterator[Check]:
    """RSR as the ratio of mean rank and mean surprisal, and shares that add up to 1."""
    source, table, proxy = key
    surprisals = quantities.get("mean surprisal", {})
    for teacher, rank in quantities.get("mean rank", {}).items():
        (low, high), (least, most) = rounding_interval(rank), rounding_interval(surprisals[teacher])
        value = float(rank) / float(surprisals[teacher])
        name = f"{table}, {proxy} of {teacher}"
        printed = quantities["lower"][teacher]
        yield judged(source, name, printed, "mean rank over mean surprisal", value, [(low / most, high / least)])
    if shares := quantities.get("winner share"):
        yield _sum_of_shares(source, f"{table}, shares by {proxy}", shares.values())


def _sum_of_shares(source: str, name: str, shares: Iterable[str]) -> Check:
    intervals = [rounding_interval(share) for share in shares]
    total = (sum(low for low, _ in intervals), sum(high for _, high in intervals))
    return judged(source, name, "1.00", "sum of the shares", sum((a + b) / 2 for a, b in intervals), [total])
