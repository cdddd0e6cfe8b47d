"""What each part of RSR contributes (Tables 5 and 14).

    python experiments/ablation.py student=all
    python experiments/ablation.py student=smollm2 teachers=FOLDER 'ablation.r_max=[10,50,100,500,null]'

For the paper's students: the correlations that follow from printed scores. For any other: every variant from the token
stores of score.py, without another forward pass, and how far its order of teachers agrees with RSR's. Writes
results/ablation/<student>/.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments.app import result_folder
from experiments.app.command_configs import Ablation, AblationConfig
from experiments.app.config import from_print
from experiments.app.entry import command_line, entry
from experiments.paper import published
from experiments.paper.metric_table import Aggregates, Result, compare
from experiments.paper.published import AVERAGE, Published
from experiments.stages.scoring import token_stores
from rsr.errors import InputError
from rsr.metrics import METRICS, Parts, select
from rsr.metrics.token import avg_rsr_token_filtered, rsr
from rsr.stats.correlation import correlate
from rsr.stats.effect import interval_text
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


@entry("ablation", AblationConfig, open_groups=True)
def main(config: AblationConfig) -> None:
    if from_print(config.student, config.teachers):
        text = _published(published.read(config.paths.published), config)
        table = None
    else:
        stores = token_stores(config)
        if stores is None:
            return
        table = measured(stores, config.ablation, config.bootstrap.seed)
        text = _measured_report(table, stores)
    folder = config.paths.results / "ablation" / config.student.name
    result_folder.publish(folder, text, {} if table is None else {"table.csv": table})


# --- from print ----------------------------------------------------------------------------------------------------


def _published(prints: Published, config: AblationConfig) -> str:
    aggregates = Aggregates(prints.scores(), prints.performance())
    students = prints.students(config.student.name)
    teachers = [teacher.name for teacher in config.teachers.teachers]
    results = [
        result
        for metric in select(["rsr", "avg_rsr_token", "avg_rsr_token_filtered", "avg_rank_clipped"])
        for table in aggregates.tables(metric, students, teachers)
        for result in compare(table, prints, config.bootstrap)
        if result.coefficient == "spearman"
    ]
    rows = [_printed_row(r) for r in results]
    rows.append(_unclipped(aggregates, prints, students, teachers))
    name = AVERAGE if len(students) > 1 else students[0]
    parts = [
        f"# Ablations that follow from print, {name}",
        result_folder.markdown_table(["variant", "Spearman [95 %]", "printed (Tables 5 and 14)", "verdict"], rows),
        "No clipping: mean rank over mean surprisal per teacher, which stands for the mean over three datasets only about, "
        "so that it has no verdict. Other variants need token statistics that are not printed.",
        f"Made by `{command_line()}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _printed_row(r: Result) -> list[str]:
    assert r.correlation
    c = r.correlation
    shown = [p for p in r.prints if p.table in ("5", "14")]
    return [
        r.label,
        f"{c.value:+.3f} {interval_text(c.low, c.high)}",
        ", ".join(p.value for p in shown),
        ", ".join(p.verdict for p in shown),
    ]


def _unclipped(
    aggregates: Aggregates, prints: Published, students: Sequence[str], teachers: Sequence[str]
) -> list[str]:
    (rank,), (surprisal,) = (aggregates.tables(METRICS[n], students, teachers) for n in ("avg_rank", "avg_surprisal"))
    value = float(correlate(np.divide(rank.scores, surprisal.scores), rank.accuracy, "spearman").mean())
    printed = prints.printed(AVERAGE, "rsr", "no clipping", "spearman") if len(students) > 1 else []
    return ["RSR (no clipping), about", f"{value:+.3f}", ", ".join(p.value for p in printed), ""]


# --- from token stores ---------------------------------------------------------------------------------------------


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
    names = [f"{s.teacher}/{s.generation}".rstrip("/") for s in stores]
    wanted = list(variants(settings))
    of_stores = of_each(partial(_stacked, computes=[compute for _, _, compute in wanted]), stores)
    parts = {(group, name): [of[i] for of in of_stores] for i, (group, name, _) in enumerate(wanted)}
    default = _scores(parts["default", "RSR"])
    rows = []
    for (group, name), of in parts.items():
        scores = _scores(of)
        agreement = float(correlate(scores, default, "spearman"))
        rows.append({"group": group, "variant": name, "agreement": agreement} | dict(zip(names, scores, strict=True)))
    rows += _samples(parts["default", "RSR"], default, names, settings, seed)
    return pl.DataFrame(rows)


def _stacked(store: TokenStore, computes: Sequence[Variant]) -> list[NDArray[np.float64]]:
    """Per variant the numerators and denominators (or values and ones) of the trajectories that have a value, shape (n, 2);
    all variants in one pass over the shards.
    """
    found: list[list[NDArray[np.float64]]] = [[] for _ in computes]
    for shard in store:
        for rows, compute in zip(found, computes, strict=True):
            numerator, denominator = compute(shard.tokens)
            rows.append(np.stack([numerator, np.ones_like(numerator) if denominator is None else denominator], 1))
    stacked = [np.concatenate(rows) for rows in found]
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


def _measured_report(table: pl.DataFrame, stores: Sequence[TokenStore]) -> str:
    rows = [[r["group"], r["variant"], f"{r['agreement']:+.3f}"] for r in table.iter_rows(named=True)]
    scoring = stores[0].artefact.key["student"]["dtype"]
    parts = [
        f"# Ablations measured, {stores[0].student} ({scoring})",
        f"Spearman between the order of {len(stores)} datasets under a variant and under RSR; their scores are in table.csv. "
        "There are no accuracies after training to correlate with yet.",
        result_folder.markdown_table(["group", "variant", "agreement with RSR's order"], rows),
        f"Made by `{command_line()}`.",
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
