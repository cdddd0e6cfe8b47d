"""Length: the order from a part, long and short trajectories, as Markdown and a figure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from experiments.analysis.length import agreement, length_bins, spearman_of
from experiments.analysis.prefixes import AFTER, ALL, BEFORE, Answers, Resampled, prefix
from experiments.app import result_folder
from experiments.app.command_configs import LengthConfig
from experiments.app.conclusions import Conclusion
from rsr.stats.bootstrap import resampled_statistic
from rsr.stats.correlation import correlate
from rsr.stats.effect import of_draws
from rsr.tokens.tokens import divide
from rsr.views.plots import Curve, curves

SETTLED = 0.9  # Spearman with the final order from which on an order counts as known


def order(
    data: Sequence[Answers], scores: Mapping[str, Resampled], config: LengthConfig
) -> tuple[list[Conclusion], list[str]]:
    """How far the order of datasets from a part of each trajectory agrees with the order from all of it."""
    longest = max(int(dataset.lengths.max()) for dataset in data)
    cuts = [k for k in sorted(config.prefixes) if k < longest]
    shorter = {k: float(np.mean([(dataset.lengths <= k).mean() for dataset in data])) for k in cuts}
    basis = f"{len(data)} datasets, bootstrap over problems"
    rows, effects = [], {}
    for name in [*(prefix(k) for k in cuts), BEFORE, AFTER]:
        if np.isnan(scores[name].value).any():
            continue
        if not np.ptp(scores[name].value):
            rows.append([name, "all datasets alike: no order", ""])
            continue
        effects[name] = replace(agreement(scores[name], scores[ALL]), basis=basis)
        whole = next((f"{share:.0%}" for k, share in shorter.items() if prefix(k) == name), "")
        rows.append([name, effects[name].text(), whole])
    conclusions = []
    if ordered := [k for k in cuts if prefix(k) in effects]:
        settled = [k for k in ordered if all(effects[prefix(n)].value >= SETTLED for n in ordered if n >= k)]
        first = effects[prefix(ordered[0])]
        answer = (
            f"From {settled[0]} tokens on the order of datasets agrees with the final one at {SETTLED:g} or more "
            f"({shorter[settled[0]]:.0%} of the trajectories are no longer than that)"
            if settled
            else f"No cut up to {ordered[-1]} tokens reaches an agreement of {SETTLED:g} that lasts"
        )
        answer += f"; after {ordered[0]} tokens the agreement is {first.value:+.2f}."
        question = "How early is the order of datasets by RSR known?"
        conclusions.append(Conclusion(question, answer, first, f"Spearman after {ordered[0]} tokens"))
    for name, question in (
        (BEFORE, "Is what stands before the answer's mark enough for the order?"),
        (AFTER, "Is the answer from its mark on enough for the order?"),
    ):
        if effect := effects.get(name):
            conclusions.append(Conclusion(question, f"The agreement is {effect.value:+.2f}.", effect, "Spearman"))
    shares = {dataset.name: f"{(dataset.parts[AFTER][:, 1] > 0).mean():.0%}" for dataset in data}
    marked = ", ".join(f"{name} {share}" for name, share in shares.items())
    if len(set(shares.values())) == 1:
        marked = f"{next(iter(shares.values()))} of every dataset"
    parts = [
        "## The order from a part of each trajectory",
        f"Spearman between RSR over a part and over all tokens, {len(data)} datasets, 95 % intervals over problems; a "
        "trajectory that is shorter than a prefix counts whole.",
        result_folder.markdown_table(
            ["part", "agreement with the final order [95 %]", "trajectories not longer"], rows
        ),
        f"Trajectories with the mark `{config.mark}`: {marked}."
        + ("" if AFTER in effects else " A dataset without it leaves no order to compare."),
    ]
    return conclusions, parts


def within(data: Sequence[Answers], config: LengthConfig) -> tuple[list[Conclusion], list[str]]:
    """Within each dataset: is a longer trajectory's RSR lower?"""
    rng = np.random.default_rng(config.bootstrap.seed)
    values, drawn = [], []
    for dataset in (dataset for dataset in data if len(set(dataset.lengths.tolist())) > 1):
        ratios, n = divide(*dataset.parts[ALL].T), len(dataset.lengths)
        values.append(float(correlate(dataset.lengths, ratios, "spearman")))
        spearman = partial(spearman_of, dataset.lengths, ratios)
        drawn.append(resampled_statistic(spearman, n, min(config.bootstrap.resamples, 1000), rng))
    if not values:
        return [], []
    basis = f"mean over {len(values)} datasets, bootstrap over trajectories"
    within = of_draws(float(np.mean(values)), np.mean(drawn, axis=0), basis)
    same = sum(value < 0 for value in values)
    conclusion = Conclusion(
        "Within a dataset, is the RSR of a longer trajectory lower?",
        f"Spearman between tokens and RSR is {within.value:+.2f} on average, negative in {same} of {len(values)} datasets.",
        within,
        "Spearman",
    )
    bins = length_bins(data, config.bins)
    rows = [
        [dataset[0], *(f"{row['rsr']:.2f} ({row['tokens']:.0f})" for row in frame.iter_rows(named=True))]
        for dataset, frame in bins.group_by("dataset", maintain_order=True)
    ]
    header = ["dataset", *(f"{i + 1} of {config.bins}" for i in range(config.bins))]
    parts = [
        "## By length within a dataset",
        "RSR of each dataset's trajectories from short to long, in bins of equal size (mean tokens in brackets).",
        result_folder.markdown_table(header, [[str(cell) for cell in row] for row in rows]),
    ]
    return [conclusion], parts


def draw(data: Sequence[Answers], scores: Mapping[str, Resampled], config: LengthConfig, folder: Path) -> None:
    panels = []
    for generation in dict.fromkeys(dataset.generation for dataset in data):
        drawn = []
        for i, dataset in enumerate(data):
            if dataset.generation == generation:
                cuts = [k for k in sorted(config.prefixes) if k < dataset.lengths.max()]
                points = [*(scores[prefix(k)] for k in cuts), scores[ALL]]
                low, high = zip(*(f.interval(i) for f in points), strict=True)
                drawn.append(
                    Curve(dataset.teacher, [*cuts, int(dataset.lengths.max())], [f.value[i] for f in points], low, high)
                )
        panels.append((generation, drawn))
    curves(
        panels,
        x_label="first tokens of each response",
        y_label="RSR (lower is meant to be better)",
        title="RSR of the first tokens; bands: 95 % over problems",
        path=folder / "prefixes.png",
        log=True,
    )
