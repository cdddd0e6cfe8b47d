"""Two score sets of the same trajectories: how far do they agree?"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from rsr.errors import InputError
from rsr.metrics import score_tables
from rsr.metrics.score_sets import KEYS, METRICS, ScoreSet
from rsr.metrics.score_tables import of_metric
from rsr.stats.correlation import correlate
from rsr.store.artefacts import MANIFEST, of_folder
from rsr.store.parquet import read_parquet
from rsr.tokens.token_store import STAGE as TOKENS
from rsr.tokens.token_store import read_shard


@dataclass(frozen=True)
class Agreement:
    """Two score sets on one metric.

    Attributes:
        spearman: of the trajectories of both.
        largest, median: relative differences of trajectories (second less first, over the first; absolute).
        datasets: dataset -> its two values, over the shared trajectories.
        order: Spearman of the datasets; None for fewer than three.
    """

    metric: str
    spearman: float | None
    largest: float
    median: float
    datasets: dict[str, tuple[float, float]]
    order: float | None


@dataclass(frozen=True)
class TokenAgreement:
    """Token by token, where both have token stores and the same number of tokens.

    Attributes:
        same_rank: share of tokens with the same rank, clipped at 100.
        largest, mean: absolute differences of surprisal, nats.
    """

    tokens: int
    same_rank: float
    largest: float
    mean: float


@dataclass(frozen=True)
class Comparison:
    """Two score sets.

    Attributes:
        shared, only_first, only_second: trajectories with a score, counted.
        other_length: shared trajectories whose number of tokens differs.
        warnings: why the comparison means less than it seems.
    """

    first: str
    second: str
    shared: int
    only_first: int
    only_second: int
    other_length: int
    agreements: tuple[Agreement, ...]
    tokens: TokenAgreement | None
    warnings: tuple[str, ...]


def compare(first: ScoreSet, second: ScoreSet) -> Comparison:
    """Compare two score sets.

    Raises:
        InputError: they have no trajectory in common.
    """
    a, b = _matched(first, second)
    both = a.join(b, on=KEYS, suffix="_2", how="inner", maintain_order="left")
    if both.is_empty():
        raise InputError(
            f"{first.name} and {second.name} have no trajectory in common: datasets {_some(a)} with ids such as "
            f"{a['trajectory'][0]!r}, and {_some(b)} with ids such as {b['trajectory'][0]!r}"
        )
    other_length = int((both["tokens"] != both["tokens_2"]).sum())
    warnings = []
    if first.tokenizer and second.tokenizer and first.tokenizer != second.tokenizer:
        warnings.append("the tokenizers differ: ranks and surprisals are of other tokens, only orders compare")
    elif other_length:
        warnings.append(
            f"{other_length} of {len(both)} trajectories have another number of tokens: template, truncation or tokenizer "
            "differ"
        )
    return Comparison(
        first=first.name,
        second=second.name,
        shared=len(both),
        only_first=len(a) - len(both),
        only_second=len(b) - len(both),
        other_length=other_length,
        agreements=tuple(_agreement(both, metric) for metric in METRICS),
        tokens=_tokens(first, second, both),
        warnings=tuple(warnings),
    )


def _some(rows: pl.DataFrame) -> str:
    names = rows["dataset"].unique().sort().to_list()
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _matched(first: ScoreSet, second: ScoreSet) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows with a score; two single datasets are taken for the same, whatever they are called."""
    a, b = (s.rows.drop_nulls("rsr") for s in (first, second))
    if a["dataset"].n_unique() == b["dataset"].n_unique() == 1:
        return a, b.with_columns(dataset=pl.lit(a["dataset"][0]))
    return a, b


def _agreement(both: pl.DataFrame, metric: str) -> Agreement:
    x, y = both[metric].to_numpy(), both[f"{metric}_2"].to_numpy()
    relative = np.abs(y - x) / np.abs(x)  # ranks are at least 1; a surprisal of 0 has no ratio, so no score
    rank, surprisal = "avg_rank_clipped", "avg_surprisal"
    pair = [pl.col(f"{metric}{s}").mean() for s in ("", "_2")]
    if metric == "rsr":
        pair = [(pl.col(f"{rank}{s}").mean() / pl.col(f"{surprisal}{s}").mean()).alias(f"rsr{s}") for s in ("", "_2")]
    datasets = both.group_by("dataset").agg(*pair).sort("dataset")
    values = {name: (float(p), float(q)) for name, p, q in datasets.iter_rows()}
    columns = np.array(list(values.values())).T
    return Agreement(
        metric=metric,
        spearman=_spearman(x, y) if len(x) > 2 else None,
        largest=float(relative.max()),
        median=float(np.median(relative)),
        datasets=values,
        order=_spearman(columns[0], columns[1]) if len(values) > 2 else None,
    )


def _spearman(x: np.ndarray, y: np.ndarray) -> float | None:
    coefficient = float(correlate(x, y, "spearman"))
    return None if np.isnan(coefficient) else coefficient


def _tokens(first: ScoreSet, second: ScoreSet, both: pl.DataFrame) -> TokenAgreement | None:
    """Token-level agreement of trajectories of equal length; None where a set has no token stores beside it."""
    one, other = _token_rows(first), _token_rows(second)
    if one is None or other is None:
        return None
    pairs = [
        (one[key], other[key]) for key in both.select("trajectory", "dataset").rows() if key in one and key in other
    ]
    pairs = [(p, q) for p, q in pairs if len(p[0]) == len(q[0])]
    if not pairs:
        return None
    rank, surprisal = (
        (np.concatenate([p[i] for p, _ in pairs]), np.concatenate([q[i] for _, q in pairs])) for i in (0, 1)
    )
    difference = np.abs(surprisal[0].astype(np.float64) - surprisal[1])
    same = np.minimum(rank[0], 100) == np.minimum(rank[1], 100)
    return TokenAgreement(len(difference), float(same.mean()), float(difference.max()), float(difference.mean()))


def _token_rows(score_set: ScoreSet) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] | None:
    """(trajectory, dataset) -> ranks and surprisals, from the token stores in the same outputs."""
    if score_set.folder is None:
        return None
    rows = {}
    table = of_metric(read_parquet(of_folder(score_set.folder), score_tables.TRAJECTORIES), "rsr")
    for dataset, artefact in table.select("dataset", "artefact").unique().iter_rows():
        store = score_set.folder.parent.parent / TOKENS / artefact
        if not (store / MANIFEST).is_file():
            return None
        found = of_folder(store)
        for index in range(found.facts["shards"]):
            shard = read_shard(found, index)
            for i, identity in enumerate(shard.ids):
                part = slice(shard.tokens.offsets[i], shard.tokens.offsets[i + 1])
                rows[identity, dataset] = (shard.tokens.rank[part], shard.tokens.surprisal[part])
    return rows
