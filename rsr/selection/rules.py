"""Choose trajectories by their scores: best of n per problem, quota per group, and a size across problems.

Pure functions of a table with one row per candidate. The order is total and does not depend on the order of rows: correct
before unknown before wrong (where the rule wants it), then the score in the direction of its metric, then the hash of the
content, then names. A candidate without a score is never chosen, nor one that overlaps with an evaluation set.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import polars as pl

from rsr.errors import InputError

# What is said where no candidate is known to be correct.
UNKNOWN = (
    ": records say it (\"correct\"), or the right answer (\"answer\"); answers=['last number'] (--answer 'last number') looks for answers "
    "elsewhere in responses"
)

Correct = Literal["first", "only", "ignore"]
Direction = Literal["lower", "higher"]

CANDIDATES = {
    "teacher": pl.String,
    "generation": pl.String,
    "trajectory": pl.String,
    "problem": pl.String,
    "group": pl.String,  # of a quota
    "value": pl.Float64,  # the score; null where there is none
    "tokens": pl.Int64,
    "truncated": pl.Boolean,  # cut at the maximum length; null where that is not known
    "correct": pl.Boolean,  # null where it is not known
    "content": pl.String,  # hash of the messages, settles ties
    "cluster": pl.Int64,  # of near-duplicates (`rsr.selection.duplicates`); null where they are not looked for
    "overlap": pl.String,  # the evaluation set that it shares text with (`rsr.data.contamination`); null where it does with none
}


# Reasons.
NOT_BEST = "not among the best {} of the problem"
CUT = "cut at the maximum length"


@dataclass(frozen=True)
class Rule:
    """What to choose; applied in the order of the attributes.

    Attributes:
        min_response_tokens, max_response_tokens: leave out responses that are shorter, or longer or cut.
        correct: put correct candidates first, choose only those, or ignore correctness.
        distinct: of near-duplicates keep the best.
        per_problem: the best so many of each problem; None takes all.
        quota: at most so many of each group, the best of it.
        top, share, tokens: of what is left the best so many, the best share of it, or the best while their response
            tokens fit into a budget; at most one of the three.

    Raises:
        InputError: a number is out of range, or two sizes are given.
    """

    min_response_tokens: int | None = None
    max_response_tokens: int | None = None
    correct: Correct = "first"
    distinct: bool = False
    per_problem: int | None = 1
    quota: int | None = None
    top: int | None = None
    share: float | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        for name in ("min_response_tokens", "max_response_tokens", "per_problem", "quota", "top", "tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} {value} is too small: the least is 1")
        if self.share is not None and not 0 < self.share <= 1:
            raise InputError(f"share {self.share} is no share: it lies above 0 and up to 1")
        if (self.min_response_tokens or 0) > (self.max_response_tokens or float("inf")):
            raise InputError(
                f"no response has at least {self.min_response_tokens} and at most {self.max_response_tokens} tokens"
            )
        sizes = [name for name in ("top", "share", "tokens") if getattr(self, name) is not None]
        if len(sizes) > 1:
            raise InputError(f"{' and '.join(sizes)} are both sizes of the whole: give one of them")


@dataclass(frozen=True)
class Choice:
    """What a rule chose.

    Attributes:
        chosen: rows of the candidates, by problem, best first.
        left_out: the other rows, with the `reason`.
        ties: decisions (who is the last to be kept) between candidates of equal score and correctness, settled by content.
    """

    chosen: pl.DataFrame
    left_out: pl.DataFrame
    ties: int


def choose(candidates: pl.DataFrame, direction: Direction, rule: Rule) -> Choice:
    """Apply a rule.

    Args:
        candidates: columns `CANDIDATES`, in any order.

    Raises:
        InputError: nothing is left, and why.
    """
    left_out: list[pl.DataFrame] = []
    ties = 0

    def step(frame: pl.DataFrame, keep: pl.Expr, reason: str, mend: str = "") -> pl.DataFrame:
        left_out.append(frame.filter(~keep).with_columns(reason=pl.lit(reason)))
        kept = frame.filter(keep)
        if kept.is_empty():
            raise InputError(f"nothing is selected: all of {len(frame)} candidates are {reason}{mend}")
        return kept

    def limit(frame: pl.DataFrame, keep: Callable[[pl.Expr], pl.Expr], reason: str, over: str | None) -> pl.DataFrame:
        nonlocal ties
        place = pl.int_range(pl.len())
        marked = frame.with_columns(kept=keep(place if over is None else place.over(over)))
        ties += _ties(marked, over)
        return step(marked, pl.col("kept"), reason).drop("kept")

    rest = step(candidates, pl.col("value").is_finite().fill_null(False), "without a score")
    for evaluation in rest["overlap"].drop_nulls().unique().sort():
        rest = step(rest, pl.col("overlap").ne_missing(evaluation), f"overlapping with {evaluation}")
    if rule.tokens or rule.min_response_tokens or rule.max_response_tokens:
        rest = step(rest, pl.col("tokens").is_not_null(), "of unknown length")
    if rule.min_response_tokens is not None:
        least = rule.min_response_tokens
        rest = step(rest, pl.col("tokens") >= least, f"shorter than {least} response tokens")
    if rule.max_response_tokens is not None:
        most = rule.max_response_tokens
        rest = step(rest, pl.col("tokens") <= most, f"longer than {most} response tokens")
        rest = step(rest, ~pl.col("truncated").fill_null(False), CUT)  # so that its whole length is not known
    if rule.correct == "only":
        rest = step(rest, pl.col("correct").fill_null(False), "not known to be correct", UNKNOWN)
    rest = _ordered(rest, direction, rule.correct == "first")
    if rule.distinct:
        rest = limit(rest, lambda place: place < 1, "a near-duplicate of a better one", "cluster")
    if rule.per_problem is not None:
        best = rule.per_problem
        rest = limit(rest, lambda place: place < best, NOT_BEST.format(best), "problem")
    if rule.quota is not None:
        quota = rule.quota
        rest = limit(rest, lambda place: place < quota, f"beyond the quota of {quota} of the group", "group")
    if rule.tokens is not None:
        fits = pl.col("tokens").cum_sum() <= rule.tokens
        rest = limit(rest, lambda place: fits, f"beyond the budget of {rule.tokens} tokens", None)
    elif rule.top is not None or rule.share is not None:
        size = rule.top if rule.share is None else max(1, int(rule.share * len(rest) + 1e-9))
        assert size is not None
        rest = limit(rest, lambda place: place < size, f"beyond the best {size}", None)
    columns = candidates.columns
    out = pl.concat([frame.select(*columns, "reason") for frame in left_out])
    names = ["teacher", "generation", "trajectory"]
    return Choice(rest.select(columns).sort("problem", maintain_order=True), out.sort("problem", *names), ties)


def _ordered(frame: pl.DataFrame, direction: Direction, correct_first: bool) -> pl.DataFrame:
    rank = pl.col("correct").replace_strict({True: 0, False: 2}, default=1, return_dtype=pl.Int8)
    value = pl.col("value") if direction == "lower" else -pl.col("value")
    ranked = frame.with_columns(_correct=rank if correct_first else pl.lit(0, pl.Int8), _value=value + 0.0)
    return ranked.sort("_correct", "_value", "content", "teacher", "generation", "trajectory")


def _ties(frame: pl.DataFrame, over: str | None) -> int:
    """Groups whose last kept and first left-out row do not differ in what the order is about."""
    groups = [frame] if over is None else [group for _, group in frame.group_by(over)]
    edges = [(g.filter("kept").tail(1), g.filter(~pl.col("kept")).head(1)) for g in groups]
    order = ["_correct", "_value"]
    return sum(bool(len(a) and len(b) and a.select(order).equals(b.select(order))) for a, b in edges)
