"""The simulation of Table 3, the grid and what explains it, as Markdown and figures."""

from pathlib import Path

import numpy as np
import polars as pl

from experiments.app import result_folder
from experiments.app.command_configs import SimulationConfig
from experiments.app.entry import command_line
from experiments.paper.simulation import GRID, RULES, World, closed_set
from rsr.views.plots import heatmap, stacked_bars


def changed(config: SimulationConfig) -> str:
    """The settings that are not those of the paper and its chosen rest, as the name of a folder; "" where all are."""
    own, default = vars(config), vars(SimulationConfig())
    return ",".join(f"{name}={own[name]}" for name in own if name != "paths" and own[name] != default[name])


def report(table: pl.DataFrame, grid: pl.DataFrame, config: SimulationConfig) -> str:
    """Table 3, the grid and the identities behind it, as Markdown."""
    rows = [
        [r["trajectory"], r["quantity"], f"{r['exact']:.3f}", f"{r['sampled']:.3f} ± {r['sampling_error']:.3f}"]
        + [r["printed"], f"{r['errors_away']:.1f}"]
        for r in table.iter_rows(named=True)
    ]
    decided = table.filter(pl.col("trajectory") != "X_C")
    inside = int((decided["errors_away"] <= 3).sum())
    wins = {name: int((grid[name] > 0.95).sum()) for name in (*RULES, "best")}
    closed = ", ".join(f"{k}: {closed_set(k):.2f}" for k in (2, 3, 4, 10, 26, 100))
    parts = [
        "# The simulation of Table 3",
        f"Vocabulary {config.vocabulary}, Zipf exponent {config.zipf}, shares {1 - config.share:g} and {config.share:g}, "
        f"{config.tokens:,} tokens a trajectory{', all as printed' if not changed(config) else ''}. Chosen here, as the paper does not say: B's order is A's "
        f"rolled by {config.shift}, C is uniform over the first {config.support} tokens of A.",
        result_folder.markdown_table(["trajectory", "quantity", "exact", "sampled", "printed", "errors away"], rows),
        f"{inside} of the {len(decided)} cells of X_A, X_B and X_D lie within 3 sampling errors of the expectation (beyond "
        "rounding). X_C cannot be checked: its distribution is not given. Token RSR is the mean of r / s: the ratio of "
        "means differs (X_B: printed 4.31 / 2.73 = 1.58 beside 1.3).",
        "## Where does rank over surprisal prefer B?",
        f"Over a grid of {len(grid)} worlds (Zipf exponent, share of B, overlap), trajectories of {config.length} tokens, "
        "B scores lowest with more than 95 % probability in "
        + ", ".join(
            f"{n} by {name if name != 'best' else 'the best r^a / s^b with a, b up to 2'}" for name, n in wins.items()
        )
        + ". See grid.png and grid.csv.",
        "## What explains it",
        result_folder.markdown_list(
            [
                "**Fluent text.** Where every rank is 1, RSR is 1 / mean surprisal: of two texts that the student always "
                "ranks first, the less certain one scores better. A, whose first token is nearly certain, is punished by "
                "its own fluency.",
                "**Minor habit.** B's first token has rank 2 and surprisal -ln(share x its probability): a good rank at a "
                "small probability. The figure shows for which shares that suffices.",
                "**Closed sets.** Tokens drawn evenly from k equally likely ones have mean rank (k + 1) / 2 and surprisal "
                f"ln k. Their RSR for k = {closed}: unpredictable digits score better than most reasoning "
                "(2.6 to 4.0 in Tables 25-29), so a low RSR need not mean that there is anything to learn.",
            ]
        ),
        f"Made by `{command_line()}`.",
    ]
    return "\n\n".join(parts) + "\n"


def draw(w: World, share: float, grid: pl.DataFrame, folder: Path) -> None:
    by_rank = np.argsort(-w.sources["X_D"], kind="stable")[:30]
    stacked_bars(
        {
            "dominant habit A": (1 - share) * w.sources["X_A"][by_rank],
            "minor habit B": share * w.sources["X_B"][by_rank],
        },
        x_label="token, by its rank under the student",
        y_label="predicted probability",
        title="The student's predictions: a mixture of two habits",
        path=folder / "mixture.png",
    )
    panels = []
    for shift in GRID["shift"]:
        part = grid.filter(pl.col("shift") == shift)
        values = part["rank / surprisal"].to_numpy().reshape(len(GRID["zipf"]), len(GRID["share"]))
        panels.append((f"B's order rolled by {shift}", values))
    heatmap(
        panels,
        rows=[f"{z:g}" for z in GRID["zipf"]],
        columns=[f"{s:g}" for s in GRID["share"]],
        row_label="Zipf exponent",
        column_label="share of B in the student's predictions",
        title="Probability that rank / surprisal prefers the trajectory from B",
        path=folder / "grid.png",
    )
