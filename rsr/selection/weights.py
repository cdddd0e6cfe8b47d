"""Weights of the answers to a problem, by which a trainer may weigh them: those of LARK (arXiv 2605.30651).

LARK chooses the answers with the largest gain, which depends on what else there is to choose from, and weighs each by how far its
gain lies above that of the best answer left out.
"""

from typing import Literal

import polars as pl

from rsr.errors import InputError
from rsr.metrics.score_tables import of_metric
from rsr.selection.rules import NOT_BEST, Choice, Rule

Weights = Literal["lark"]
METRICS = ("lark_learnability", "avg_surprisal")  # that gains are made of: learnability, and the loss
NEXT = 1e-8  # how far below the last that is taken the next lies where there is none, as in the authors' code
NAMES = ("teacher", "generation", "trajectory")


def number_weighed(rule: Rule, weights: Weights) -> int:
    """How many answers to a problem a rule takes, where it takes those of the largest gain.

    Raises:
        InputError: it puts correct answers first, or says not how many answers to a problem are chosen.
    """
    if rule.correct == "first":
        raise InputError(
            f"weights {weights} are those of the answers with the largest gain, and correct=first puts others before them: take "
            "correct=only (--correct only), or correct=ignore"
        )
    if rule.per_problem is None:
        raise InputError(
            f"weights {weights} lie above the best answer to the problem that is left out: say how many are taken "
            "(--per-problem 3, as its source does)"
        )
    return rule.per_problem


def loss_and_learnability(trajectories: pl.DataFrame) -> pl.DataFrame:
    """What gains are made of: teacher, generation, trajectory, tokens, truncated, loss (mean surprisal), value (learnability).

    Args:
        trajectories: rows of score tables.

    Raises:
        InputError: the scores hold no such metrics, or no value of them.
    """
    learnabilities, losses = (of_metric(trajectories, metric) for metric in METRICS)
    losses = losses.select(*NAMES, loss="value")
    return learnabilities.select(*NAMES, "tokens", "truncated", "value").join(
        losses, on=NAMES, how="left", maintain_order="left"
    )


def gains(scored: pl.DataFrame) -> pl.Series:
    """LARK's gain g = (L / sum L) (2 rho - sum rho L / sum L) of each answer; the sums are over the answers to its problem that have
    both numbers. Null where an answer has not.

    Args:
        scored: problem, loss (L), learnability (rho).
    """
    loss = pl.when(pl.col("learnability").is_finite()).then("loss")
    total = loss.sum().over("problem")
    mean = (loss * pl.col("learnability")).sum().over("problem") / total
    gain = loss / total * (2 * pl.col("learnability") - mean)
    return scored.select(gain=gain.fill_nan(None))["gain"]


def with_gains(candidates: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Candidates with their gains as values.

    Args:
        candidates: columns `rsr.selection.rules.CANDIDATES`; their values are learnabilities.
        rows: of `loss_and_learnability`.
    """
    joined = candidates.join(rows.select(*NAMES, "loss"), on=NAMES, how="left", maintain_order="left")
    return candidates.with_columns(value=gains(joined.rename({"value": "learnability"})))


def weights_of(choice: Choice, per_problem: int) -> pl.Series:
    """A weight for each chosen answer, in their order: proportional to how far its gain lies above the best gain that was left out of
    its problem. A problem's weights have the same sum for all problems, and the mean of all is 1.

    Args:
        choice: of candidates with gains, the largest of each problem.
        per_problem: how many of a problem were taken.
    """
    left_out = choice.left_out.filter(reason=NOT_BEST.format(per_problem))
    best_left_out = left_out.group_by("problem").agg(next=pl.col("value").max())
    chosen = choice.chosen.join(best_left_out, on="problem", how="left", maintain_order="left")
    lowest = pl.col("value").min().over("problem")
    above = pl.col("value") - pl.coalesce("next", lowest - NEXT)
    total = above.sum().over("problem")
    # Equal gains, of which none lies above the next, weigh alike.
    share = pl.when(total > 0).then(above / total).otherwise(1 / pl.len().over("problem"))
    return chosen.select(weight=share * pl.len() / pl.col("problem").n_unique())["weight"]
