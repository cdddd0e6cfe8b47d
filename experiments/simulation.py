"""Why should rank over surprisal single out what teaches? The paper's simulation (Table 3), exactly and by sampling.

    python experiments/simulation.py
    python experiments/simulation.py zipf=1.5 share=0.1

A student's predictions are a mixture of a dominant habit A and a minor habit B, Zipf distributions over one vocabulary in
different orders. Four "trajectories" are drawn from A, B, a third distribution C, and the mixture Z itself, and measured
under Z. The trajectory from B is the one that teaches: improbable as a whole, yet never far down the ranking.

The paper leaves open how the orders differ and what C is. Here B's order is A's, rolled by `shift` places, and C is
uniform over the first `support` tokens of A. Writes results/simulation/.
"""

from experiments.app import result_folder
from experiments.app.command_configs import SimulationConfig
from experiments.app.entry import entry
from experiments.paper import published
from experiments.paper.simulation import compare, separation_grid, world
from experiments.reports.simulation import changed, draw, report


@entry("simulation", SimulationConfig)
def main(config: SimulationConfig) -> None:
    cells = published.read_cells(config.paths.published / "simulation.csv", ["trajectory", "quantity"], "value")
    printed = {(r["trajectory"], r["quantity"]): r["value"] for r in cells}
    table, grid = compare(world(config), printed, config), separation_grid(config)
    folder = config.paths.results / "simulation" / changed(config)
    text = report(table, grid, config)
    result_folder.publish(folder, text, {"table3.csv": table, "grid.csv": grid})
    draw(world(config), config.share, grid, folder)


if __name__ == "__main__":
    main()
