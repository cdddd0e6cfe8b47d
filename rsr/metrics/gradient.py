"""G-Norm and GRACE: functions of projected gradients, one per trajectory (measured by `rsr.features.gradients`).

A row holds the projection z of the gradient g of a trajectory's token-mean loss, which keeps the norm in expectation,
the number D of parameters it was taken for, and the number T of response tokens.
"""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rsr.metrics.base import Floats, Parts, metric

LengthScale = Literal["log", "none"]
Split = Literal["folds", "random"]

FOLDS = 10
# GRACE divides projections by the root of the number of parameters; the authors' code knows no length scale.
NORM_PRESETS: dict[str, dict[str, Any]] = {
    "": {},
    "grace-paper": {"squared": True, "per_parameter": True},
    "grace-author-code": {"length": "none", "squared": True, "per_parameter": True},
}
GRACE_PRESETS: dict[str, dict[str, Any]] = {
    "": {},
    "grace-paper": {"smoothing": 1e-4},
    "grace-author-code": {"length": "none", "split": "random"},
}


def scaled(rows: pl.DataFrame, length: LengthScale = "log", per_parameter: bool = False) -> Floats:
    """Scaled projections h, shape (trajectories, d); NaN where there is none.

    Args:
        length: "log" multiplies by ln T (of at least two tokens), "none" does not.
        per_parameter: multiply by sqrt(d / D): entries of the projection matrix are then +-1 / sqrt(D).
    """
    present = rows["projection"].is_not_null().to_numpy()
    z = np.stack(rows["projection"].drop_nulls().to_list()).astype(np.float64) if present.any() else np.empty((0, 1))
    h = np.full((len(rows), z.shape[1]), np.nan)
    h[present] = z
    if length == "log":
        h *= np.log(np.maximum(rows["tokens"].fill_null(2).to_numpy(), 2))[:, None]
    if per_parameter:
        h *= np.sqrt(z.shape[1] / rows["weights"].cast(pl.Float64).to_numpy())[:, None]
    return h


@metric(
    name="g_norm",
    title="G-Norm",
    formula="norm of the projected gradient of the trajectory's mean loss, scaled by log length",
    unit="",
    direction="lower",
    levels=("trajectory", "dataset"),
    needs="gradients",
    per_student=True,
    source="Appendix B.4; arXiv 2511.02833",
    note="The default is read from Appendix B.4 and the printed values; arXiv 2511.02833 squares the norm and divides "
    "by the number of parameters (grace-paper), its authors' code leaves the length out (grace-author-code). Values "
    "of different dimensions or parameters do not compare. An early summary of the paper names one gradient measure, "
    "GRAD, with a correlation of 0.47. Version 5 does not print it; metric=grad shows the two that it prints, G-Norm "
    "and GRACE.",
    presets=NORM_PRESETS,
)
def g_norm(
    rows: pl.DataFrame, length: LengthScale = "log", squared: bool = False, per_parameter: bool = False
) -> Parts:
    """Norm of each scaled projection, or its square."""
    square = (scaled(rows, length, per_parameter) ** 2).sum(axis=1)
    return Parts(square if squared else np.sqrt(square))


@metric(
    name="grace",
    title="GRACE",
    formula="mean over folds S_i of problems of tr(cov(rest, unit rows, smoothed)^-1 cov(S_i)) of projected gradients",
    unit="",
    direction="lower",
    levels=("dataset",),
    needs="gradients",
    per_student=True,
    source="Appendix B.5; arXiv 2511.02833",
    note="Ten disjoint folds, scale ln T, smoothing 1e-3; grace-paper smooths by 1e-4; grace-author-code knows no "
    "length and draws ten times a tenth of the problems. It has no interval: problems drawn twice would be on both "
    "sides of a fold. Governed by its smoothing where rows are fewer than twice the dimensions. See G-Norm on the "
    "name GRAD.",
    presets=GRACE_PRESETS,
)
def grace(
    rows: pl.DataFrame,
    length: LengthScale = "log",
    split: Split = "folds",
    smoothing: float = 1e-3,
    per_parameter: bool = True,
    seed: int = 0,
) -> Parts:
    """GRACE of one dataset: a single value, NaN for fewer than two problems.

    Args:
        split: "folds" are disjoint parts of the problems (the paper); "random" draws a tenth of them anew each time (the
            authors' code).
        smoothing: nu; the inverted covariance, whose trace is 1, is mixed with nu / d of the identity.
    """
    kept = rows.filter(pl.col("projection").is_not_null())
    problems = np.unique(kept["problem"].to_numpy(), return_inverse=True)[1]
    if len(kept) == 0 or problems.max() < 1:
        return Parts(np.array([np.nan]))
    h = scaled(kept, length, per_parameter)
    scores = [_excess(h[~held], h[held], smoothing, mix=split == "random") for held in _held_out(problems, split, seed)]
    return Parts(np.array([np.mean(scores)]))


def _held_out(problems: NDArray[np.int64], split: Split, seed: int) -> Iterator[NDArray[np.bool_]]:
    """Masks of the rows that each fold holds out: all answers to a problem go together."""
    n = problems.max() + 1
    if split == "folds":
        for fold in np.array_split(np.random.default_rng(seed).permutation(n), min(FOLDS, n)):
            yield np.isin(problems, fold)
    else:
        for i in range(FOLDS):
            order = np.random.default_rng(seed + i).permutation(n)
            yield np.isin(problems, order[-max(1, n // 10) :])


def _excess(train: Floats, test: Floats, smoothing: float, *, mix: bool) -> float:
    """tr(K^-1 cov(test)), K being the smoothed covariance of the unit rows of train."""
    d = train.shape[1]
    unit = train / np.maximum(np.linalg.norm(train, axis=1, keepdims=True), 1e-12)
    covariance = unit.T @ unit / len(unit)
    if mix:
        # The authors clip eigenvalues at 1e-12 and then mix them with their mean, 1 / d.
        values, vectors = np.linalg.eigh(covariance)
        values = np.maximum(values, 1e-12)
        values = (1 - smoothing) * values + smoothing * values.mean()
        return float((((test @ vectors) ** 2).mean(axis=0) / values).sum())
    smoothed = covariance + smoothing / d * np.eye(d)
    return float((test * np.linalg.solve(smoothed, test.T).T).sum() / len(test))


@metric(
    name="g_vendi",
    title="G-Vendi",
    formula="exp of the entropy of the eigenvalues of the unit gradients' covariance",
    unit="directions",
    direction="higher",
    levels=("dataset",),
    needs="gradients",
    per_student=True,
    source="arXiv 2505.20161",
    note="How many directions the projected gradients of a dataset spread over: its diversity. It is at most the number of trajectories and "
    "of dimensions, so that values for other numbers of either do not compare. Its source takes the gradients of one small model whatever "
    "the student, here they are the student's own, those of G-Norm. It has no interval: a resample repeats problems and is less diverse.",
)
def g_vendi(rows: pl.DataFrame) -> Parts:
    """Effective rank of one dataset: a single value, NaN without a gradient."""
    return Parts(np.array([np.nan if rows["projection"].is_null().all() else effective_rank(rows)]))


def effective_rank(rows: pl.DataFrame) -> float:
    """exp of the entropy of the eigenvalues of the unit rows' covariance: directions that the rows spread over."""
    z = scaled(rows.filter(pl.col("projection").is_not_null()), "none")
    unit = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    values = np.linalg.svd(unit, compute_uv=False) ** 2 / len(unit)
    values = values[values > 0]
    return float(np.exp(-(values * np.log(values)).sum()))


def too_few(rows: pl.DataFrame) -> str | None:
    """A warning where GRACE is governed by its smoothing, since there are too few rows to fill its dimensions."""
    kept = rows.filter(pl.col("projection").is_not_null())
    if len(kept) == 0:
        return None
    d, train = len(kept["projection"][0]), int(len(kept) * (1 - 1 / FOLDS))
    if train >= 2 * d:
        return None
    return (
        f"GRACE inverts a covariance of {d} dimensions from {train} rows of effective rank {effective_rank(kept):.0f}: "
        f"its smoothing governs it; {2 * d} rows or fewer dimensions are needed, and other numbers of rows do not compare"
    )
