"""Every variant of RSR from token stores, and how far its order of datasets agrees with RSR's."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments.app.command_configs import Ablation
from rsr.errors import InputError
from rsr.metrics import METRICS, Parts
from rsr.metrics.token import avg_rsr_token_filtered, rsr
from rsr.stats.correlation import correlate
from rsr.tokens.token_store import TokenStore, of_each
from rsr.tokens.tokens import Tokens, divide

Variant = Callable[[Tokens], Parts]


WEIGHTINGS = (
    "rsr_simple_average",
    "avg_rank_clipped",
    "avg_rank",
    "avg_surprisal",
    "avg_entropy",
    "avg_rsr_token",
    "surprisal_weighted_sum_of_rank",
    "rank_weighted_sum_of_surprisal",
    "rank_minus_surprisal",
    "rank_times_surprisal",
    "rank_entropy_ratio",
)


def variants(settings: Ablation) -> Iterator[tuple[str, str, Variant]]:
    """Group, name and function of `Tokens` of every variant."""
    yield "default", "RSR", rsr
    for r_max in settings.r_max:
        yield "clip", "no clipping" if r_max is None else f"r_max = {r_max}", partial(rsr, r_max=r_max)
    for power in settings.rank_power:
        yield "rank power", f"r^{power:g}", partial(rsr, rank_power=power)
    for power in settings.surprisal_power:
        yield "surprisal power", f"s^{power:g}", partial(rsr, surprisal_power=power)
    for share in settings.filter_share:
        yield (
            "token RSR",
            f"of the {share:.0%} most surprising",
            partial(avg_rsr_token_filtered, share=share),
        )
    for name in WEIGHTINGS:
        yield "weighting", METRICS[name].title, METRICS[name]
    yield "aggregation", "ratio of token totals", _token_totals


def _token_totals(tokens: Tokens) -> Parts:
    """Longer trajectories count for more: the ratio over all tokens of a dataset."""
    parts = rsr(tokens)
    assert parts.denominator is not None
    return Parts(parts.numerator * tokens.lengths, parts.denominator * tokens.lengths)


def measured(stores: Sequence[TokenStore], settings: Ablation, seed: int) -> pl.DataFrame:
    """Score of every dataset under every variant, and the Spearman of its order with that of RSR.

    Raises:
        InputError: fewer than 3 datasets (there is no order to compare).
    """
    if len(stores) < 3:
        raise InputError(f"an ablation compares the order of datasets: {len(stores)} are too few, give at least 3")
    names = [store.name for store in stores]
    wanted = list(variants(settings))
    of_stores = of_each(partial(_stacked, computes=[compute for _, _, compute in wanted]), stores)
    parts = {(group, name): [columns[i] for columns in of_stores] for i, (group, name, _) in enumerate(wanted)}
    default = _scores(parts["default", "RSR"])
    rows = []
    for (group, name), columns in parts.items():
        scores = _scores(columns)
        agreement = float(correlate(scores, default, "spearman"))
        rows.append({"group": group, "variant": name, "agreement": agreement} | dict(zip(names, scores, strict=True)))
    rows += _samples(parts["default", "RSR"], default, names, settings, seed)
    return pl.DataFrame(rows)


def _stacked(store: TokenStore, computes: Sequence[Variant]) -> list[NDArray[np.float64]]:
    """Per variant the numerators and denominators (or values and ones) of the trajectories that have a value, shape (n, 2);
    all variants in one pass over the shards.
    """
    per_variant: list[list[NDArray[np.float64]]] = [[] for _ in computes]
    for shard in store:
        for rows, compute in zip(per_variant, computes, strict=True):
            numerator, denominator = compute(shard.tokens)
            rows.append(np.stack([numerator, np.ones_like(numerator) if denominator is None else denominator], 1))
    stacked = [np.concatenate(rows) for rows in per_variant]
    return [rows[np.isfinite(rows).all(axis=1)] for rows in stacked]


def _scores(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.array([divide(*rows.sum(axis=0)[:, None])[0] for rows in parts])


def _samples(
    parts: Sequence[NDArray[np.float64]],
    default: NDArray[np.float64],
    names: Sequence[str],
    settings: Ablation,
    seed: int,
) -> Iterator[dict[str, object]]:
    """Mean agreement of the order from a sample of trajectories with the order from all."""
    rng = np.random.default_rng(seed)
    for size in settings.sample_size:
        if size <= min(len(rows) for rows in parts):
            drawn = [
                _scores([rows[rng.choice(len(rows), size, replace=False)] for rows in parts])
                for _ in range(settings.draws)
            ]
            agreement = float(correlate(np.array(drawn), default, "spearman").mean())
            mean = np.mean(drawn, axis=0)
            yield {"group": "sample", "variant": f"{size} trajectories", "agreement": agreement} | dict(
                zip(names, mean, strict=True)
            )
