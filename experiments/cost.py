"""What do scores cost? (Table 10, and what was measured here)

    python experiments/cost.py

The printed GPU-hours as ratios to RSR's, and the seconds and tokens that the token stores under outputs/ record. Writes
results/cost/.
"""

import json

from experiments import checks, output, published
from experiments.config import CostConfig, Paths
from experiments.entry import command_line, entry
from rsr.artefacts import MANIFEST
from rsr.metrics import METRICS


@entry("cost", CostConfig)
def main(config: CostConfig) -> None:
    text = _report(config.paths)
    folder = config.paths.results / "cost"
    output.publish(folder, text)


def measured_rows(paths: Paths) -> list[list[str]]:
    """Per student: stores, tokens and seconds of scoring, from the manifests of runs that were not interrupted."""
    totals: dict[str, list[float]] = {}
    for path in sorted((paths.outputs / "tokens").glob(f"*/{MANIFEST}")):
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["tokens_in_those_seconds"]:
            device, dtype = facts["computed_with"]["device"], facts["key"]["student"]["dtype"]
            total = totals.setdefault(f"{facts['student']}, {dtype}, {device}", [0, 0, 0])
            for i, value in enumerate((1, facts["tokens_in_those_seconds"], facts["seconds"])):
                total[i] += value
    return [
        [name, f"{n:.0f}", f"{tokens:,.0f}", f"{seconds:.0f}", f"{tokens / seconds:,.0f}"]
        for name, (n, tokens, seconds) in totals.items()
    ]


def _report(paths: Paths) -> str:
    cells = published.read_cells(paths.published / "cost.csv", ["metric", "quantity"], "value")
    printed = {(r["metric"], r["quantity"]): float(r["value"]) for r in cells}
    verdicts = {c.cell: c.verdict for c in checks.gpu_hours(paths.published)}
    rows = [
        [METRICS[m].title, f"{printed[m, 'gpus']:g}", f"{printed[m, 'hours']:g}", f"{printed[m, 'gpu_hours']:g}"]
        + [f"{printed[m, 'gpu_hours'] / printed['rsr', 'gpu_hours']:g}", verdicts[f"GPU-hours, {m}"]]
        for m in dict.fromkeys(m for m, _ in printed)
    ]
    measured = measured_rows(paths)
    parts = [
        "# Cost of scores",
        "Printed: 5,000 trajectories of DeepSeek-R1, a student of 8B parameters, H200.",
        output.markdown_table(["metric", "GPUs", "hours", "GPU-hours", "ratio to RSR", "GPUs x hours"], rows),
        "Measured here, rank, surprisal and entropy of every response token:",
        output.markdown_table(["student", "datasets", "tokens", "seconds", "tokens/s"], measured)
        if measured
        else "nothing yet: `python experiments/score.py student=smollm2 teachers=FOLDER` makes it.",
        f"Made by `{command_line()}`.",
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
