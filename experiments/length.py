"""Does RSR know suitability or length? By length bin, by prefix, before and after the thinking; and, trained, by length.

    python experiments/length.py student=smollm2 teachers=FOLDER
    python experiments/length.py student=miniature teachers=miniature_lengths 'mark=answer :' run=true

No forward pass is repeated: scoring is causal, so a prefix has the token statistics of the whole. `run=true` trains on and
evaluates every dataset besides, and correlates within each generation (of teachers=miniature_lengths: each length) and over
all. Writes results/length/<student>[-<teachers>]/.
"""

from experiments.analysis.length import dataset_accuracies, length_bins, measured_answers, part_table
from experiments.analysis.lengths_trained import trained
from experiments.analysis.prefixes import resampled
from experiments.app import result_folder
from experiments.app.command_configs import LengthConfig
from experiments.app.conclusions import conclude
from experiments.app.entry import entry
from experiments.reports.length import draw, order, within
from rsr.errors import InputError


@entry("length", LengthConfig, open_groups=True)
def main(config: LengthConfig) -> None:
    data = measured_answers(config)
    if len(data) < 3:
        raise InputError(f"an order needs at least 3 datasets: {len(data)} are too few")
    scores = resampled(data, config.bootstrap)
    conclusions, parts = order(data, scores, config)
    tables = {"parts.csv": part_table(data, scores), "bins.csv": length_bins(data, config.bins)}
    within_conclusions, told = within(data, config)
    conclusions, parts = conclusions + within_conclusions, parts + told
    folder = result_folder.folder_of(config, "length")
    if config.run:
        accuracies = dataset_accuracies(config)
        trained_conclusions, told, table = trained(data, accuracies, folder, config.bootstrap)
        conclusions, parts, tables["accuracy.csv"] = trained_conclusions + conclusions, told + parts, table
    conclude(
        folder,
        f"Length, {config.student.name}, teachers {config.teachers.name}",
        conclusions,
        parts,
        tables,
        mark=config.mark,
    )
    draw(data, scores, config, folder)


if __name__ == "__main__":
    main()
