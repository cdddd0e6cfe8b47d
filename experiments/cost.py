"""What do scores cost? (Table 10, and what was measured here)

    python experiments/cost.py

The printed GPU-hours as ratios to RSR's, and the seconds and tokens that the measurements under outputs/ record. Writes
results/cost/.
"""

from experiments.app import result_folder
from experiments.app.command_configs import CostConfig
from experiments.app.entry import entry
from experiments.reports.cost import report


@entry("cost", CostConfig)
def main(config: CostConfig) -> None:
    text = report(config.paths)
    folder = config.paths.results / "cost"
    result_folder.publish(folder, text)


if __name__ == "__main__":
    main()
