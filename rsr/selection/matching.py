"""Arms of equal size: parts of training sets that differ in what was chosen, not in how much of it.

The order in which trajectories are left out is that of a hash of their problems. It favours no score, and is the same in all
arms, so that they keep the same problems as far as they can.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Literal, NamedTuple

import polars as pl

from rsr.errors import InputError

# Raised when the same arms are cut otherwise.
VERSION = 1

# What is equal: response tokens, rows, or rows of each teacher. Rows are equal exactly, tokens within the longest trajectory.
Match = Literal["tokens", "rows", "teachers", "tokens_and_teachers"]


class _Row(NamedTuple):
    place: int
    tokens: int


_Rows = dict[str, list[_Row]]  # of an arm, by teacher, in the order in which they are kept


def match(arms: Sequence[pl.DataFrame], by: Match) -> list[pl.Series]:
    """What to keep of each arm, so that all are of one size and the least is lost.

    With tokens alone the smallest arm stays whole, and the others take what fits. With rows the smallest number of any arm is
    kept, of each teacher where these are matched. With both, the teachers' numbers are lowered by one factor until there is a
    number of tokens that all arms can have, and longer trajectories are exchanged for shorter ones until they have it.

    Args:
        arms: a row per trajectory: teacher, generation, trajectory, problem, tokens (of the response).

    Returns:
        Per arm a mask over its rows.

    Raises:
        InputError: the tokens of a trajectory are not known, or nothing would be left of an arm.
    """
    for arm in arms:
        if "tokens" in by and arm["tokens"].null_count():
            raise InputError(
                f"the response tokens of {arm['tokens'].null_count()} trajectories are not known: match rows"
            )
    rows = [_in_order(arm, by_teacher="teachers" in by) for arm in arms]
    if by == "tokens":
        kept = _equal_tokens(rows)
    elif by == "tokens_and_teachers":
        kept = _equal_rows_and_tokens(rows)
    else:
        kept = [_first(of_arm, _common(rows)) for of_arm in rows]
    if not all(any(of_arm.values()) for of_arm in kept):
        raise InputError(f"nothing would be left of an arm with equal {by.replace('_', ' ')}: match something else")
    places = [{row.place for own in of_arm.values() for row in own} for of_arm in kept]
    return [
        pl.Series("kept", [place in own for place in range(len(arm))], pl.Boolean)
        for arm, own in zip(arms, places, strict=True)
    ]


def _in_order(arm: pl.DataFrame, *, by_teacher: bool) -> _Rows:
    """Its rows by the hash of the problem; all under one name where teachers are not told apart."""
    columns = arm.select("teacher", "generation", "trajectory", "problem", "tokens")
    named = [(hashlib.sha256(row[3].encode()).digest(), *row, place) for place, row in enumerate(columns.iter_rows())]
    rows: _Rows = defaultdict(list)
    for _, teacher, _, _, _, tokens, place in sorted(named, key=lambda row: row[:4]):
        rows[teacher if by_teacher else ""].append(_Row(place, tokens or 0))
    return rows


def _common(arms: Sequence[_Rows]) -> dict[str, int]:
    """How many rows of each teacher all arms have."""
    return {teacher: min(len(rows.get(teacher, [])) for rows in arms) for teacher in arms[0]}


def _first(rows: _Rows, counts: Mapping[str, int]) -> _Rows:
    return {teacher: rows.get(teacher, [])[:count] for teacher, count in counts.items()}


def _total(rows: _Rows) -> int:
    return sum(row.tokens for own in rows.values() for row in own)


# --- equal tokens --------------------------------------------------------------------------------------------------


def _equal_tokens(arms: Sequence[_Rows]) -> list[_Rows]:
    budget = min(map(_total, arms))
    return [{teacher: _fitting(own, budget) for teacher, own in rows.items()} for rows in arms]


def _fitting(rows: Sequence[_Row], budget: int) -> list[_Row]:
    """Each row in turn that still fits: what is missing in the end is less than any row that was left out."""
    kept = []
    for row in rows:
        if row.tokens <= budget:
            kept.append(row)
            budget -= row.tokens
    return kept


# --- equal rows and tokens -----------------------------------------------------------------------------------------


def _equal_rows_and_tokens(arms: Sequence[_Rows]) -> list[_Rows]:
    common = _common(arms)
    most = sum(common.values())
    sums = [{teacher: _sums_of_shortest(rows.get(teacher, [])) for teacher in common} for rows in arms]
    for rows in range(most, 0, -1):
        counts = {teacher: count * rows // most for teacher, count in common.items()}
        least = max(sum(own[teacher][n] for teacher, n in counts.items()) for own in sums)
        greatest = min(sum(own[teacher][-1] - own[teacher][-1 - n] for teacher, n in counts.items()) for own in sums)
        if least <= greatest:
            first = [_first(own, counts) for own in arms]
            target = min(max(min(map(_total, first)), least), greatest)
            return [_exchanged(kept, own, target) for kept, own in zip(first, arms, strict=True)]
    return [{} for _ in arms]


def _sums_of_shortest(rows: Sequence[_Row]) -> list[int]:
    """Tokens of the n shortest, for every n from 0."""
    return list(accumulate(sorted(row.tokens for row in rows), initial=0))


def _exchanged(kept: _Rows, rows: _Rows, target: int) -> _Rows:
    """Rows of a teacher for others of the same, the largest differences first, until the tokens are at most the target.

    Each exchange changes them by less than the longest row has, so that they end that near to the target.
    """
    total = _total(kept)
    sign = 1 if total <= target else -1
    pairs = []
    for teacher, own in kept.items():
        others = [row for row in rows.get(teacher, []) if row not in own]
        worst, best = sorted(own, key=lambda row: sign * row.tokens), sorted(others, key=lambda row: -sign * row.tokens)
        pairs += [(sign * (b.tokens - a.tokens), teacher, a, b) for a, b in zip(worst, best, strict=False)]
    result = {teacher: [*own] for teacher, own in kept.items()}
    for gain, teacher, out, into in sorted(pairs, key=lambda pair: -pair[0]):
        fits = total + gain <= target if sign > 0 else total > target
        if gain > 0 and fits:
            result[teacher][result[teacher].index(out)] = into
            total += sign * gain
    return result
