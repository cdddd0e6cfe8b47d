"""The order of datasets within each group of trajectories, beside that of all: an order of all may be that of no group."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from rsr.data.discovery import Source, field_of
from rsr.errors import InputError
from rsr.selection.ranking import Ranking, rank
from rsr.stats.correlation import correlate


@dataclass(frozen=True)
class Group:
    """The trajectories whose records hold one value in the field.

    Attributes:
        trajectories: how many there are.
        ranking: their order; None where there is none.
        reason: why there is none.
        agreement: Kendall's tau-b of its values and those of all, over the datasets; None for fewer than two, or equal ones.
    """

    name: str
    trajectories: int
    ranking: Ranking | None
    reason: str = ""
    agreement: float | None = None


@dataclass(frozen=True)
class GroupedRanking:
    """The order of all and of each group.

    Attributes:
        field: of the records, that tells the groups.
        groups: the largest first.
    """

    field: str
    whole: Ranking
    groups: tuple[Group, ...]


def with_field(sources: Sequence[Source], field: str) -> list[Source]:
    """The same sources, if the first record of each has the field: a misspelt one is refused before anything is scored.

    Raises:
        InputError: one lacks it.
    """
    for source in sources:
        for trajectory in source.dataset.trajectories[:1]:
            field_of(source, trajectory, field)
    return list(sources)


def rank_by(
    trajectories: pl.DataFrame,
    sources: Sequence[Source],
    field: str,
    metric: str = "rsr",
    preset: str = "",
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> GroupedRanking:
    """Rank datasets within the groups of a field of their records (arguments: `rsr.selection.ranking.rank`).

    Args:
        sources: what was scored; trajectories that are not among them are left out of the whole, too.

    Raises:
        InputError: a record lacks the field, the scores hold no trajectory of the sources, or the whole has no order.
    """
    rows = [
        (source.dataset.teacher, source.dataset.generation, t.id, field_of(source, t, field))
        for source in sources
        for t in source.dataset.trajectories
    ]
    names = ["teacher", "generation", "trajectory"]
    groups = pl.DataFrame(rows, schema=dict.fromkeys([*names, "group"], pl.String), orient="row")
    scored = trajectories.join(groups, on=names, how="inner", maintain_order="left")
    if scored.is_empty():
        raise InputError("the scores hold none of these trajectories: give the data that were scored")
    whole = rank(scored.drop("group"), metric, preset, resamples=resamples, seed=seed)
    sizes = (
        scored.select(*names, "group").unique().group_by("group").len().sort("len", "group", descending=[True, False])
    )
    found = []
    for name, size in sizes.iter_rows():
        own = scored.filter(pl.col("group") == name).drop("group")
        try:
            ranking = rank(own, metric, preset, resamples=resamples, seed=seed)
        except InputError as error:
            found.append(Group(name, size, None, str(error)))
        else:
            found.append(Group(name, size, ranking, agreement=_agreement(whole, ranking)))
    return GroupedRanking(field, whole, tuple(found))


def _agreement(whole: Ranking, ranking: Ranking) -> float | None:
    values = {place.dataset: place.value for place in whole.places}
    own = [place.value for place in ranking.places]
    of_all = [values[place.dataset] for place in ranking.places]
    agreement = float(correlate(of_all, own, "kendall")) if len(own) > 1 else np.nan
    return None if np.isnan(agreement) else agreement
