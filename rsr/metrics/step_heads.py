"""ASLEC (arXiv 2604.06834): mean log-probability that long steps do not raise (measured by `rsr.features.step_heads`).

The first tokens of a step are improbable, and a longer step dilutes them. One variant drops them; the other takes from the mean what
their share explains.
"""

import numpy as np
import polars as pl

from rsr.metrics.base import Floats, Parts, metric
from rsr.tokens.tokens import divide

SOURCE = "arXiv 2604.06834 and its authors' code"


def _columns(rows: pl.DataFrame) -> tuple[Floats, ...]:
    """Per trajectory: tokens and head tokens; surprisals of heads and of the rest, as sums. NaN where there is no row."""
    names = ("tokens", "head_tokens", "head_nats", "rest_nats")
    return tuple(rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in names)


@metric(
    name="aslec_drop",
    title="ASLEC-DROP",
    formula="mean of ln p over the tokens that are not among the first two of their step",
    unit="nats per token",
    direction="higher",
    levels=("trajectory", "dataset"),
    needs="step_heads",
    per_student=True,
    source=SOURCE,
    note="Steps end at sentences, as those of mean local surprisal do (its authors' code parts at `. ` and `? `). No value where all tokens "
    "are among the first two of a step, which its authors' code takes for 0. A dataset's value is the mean, since the source gives none.",
)
def aslec_drop(rows: pl.DataFrame) -> Parts:
    tokens, head_tokens, _, rest_nats = _columns(rows)
    return Parts(-divide(rest_nats, tokens - head_tokens))


@metric(
    name="aslec_casl",
    title="ASLEC-CASL",
    formula="mean of ln p, less gamma times the share of the first two tokens of steps; gamma is that share's coefficient in a least-"
    "squares fit of the mean by the mean over first tokens, the mean over the others, and the share",
    unit="nats per token",
    direction="higher",
    levels=("trajectory", "dataset"),
    needs="step_heads",
    per_student=True,
    source=SOURCE,
    note="Depends on the pool that gamma is fitted over, which is all trajectories of the run together: values of different pools do not "
    "compare. Steps are those of ASLEC-DROP. A trajectory without other tokens has no value; its authors' code takes -16 for their mean.",
)
def aslec_casl(rows: pl.DataFrame) -> Parts:
    tokens, head_tokens, head_nats, rest_nats = _columns(rows)
    share = divide(head_tokens, tokens)
    mean = -divide(head_nats + rest_nats, tokens)
    first, others = -divide(head_nats, head_tokens), -divide(rest_nats, tokens - head_tokens)
    explaining = np.stack([first, others, share], axis=1)
    known = np.isfinite(explaining).all(axis=1)
    gamma = _slopes(explaining[known], mean[known])[-1] if known.any() else np.nan
    return Parts(np.where(known, mean - gamma * share, np.nan))


def _slopes(explaining: Floats, explained: Floats) -> Floats:
    """Coefficients of a least-squares fit with an intercept, shape (columns,)."""
    centred = explaining - explaining.mean(axis=0)
    slopes: Floats = np.linalg.lstsq(centred, explained - explained.mean(), rcond=None)[0]
    return slopes
