"""The cost of scores as Markdown: published and measured."""

from experiments.analysis.cost import measured_rows
from experiments.app import result_folder
from experiments.app.entry import command_line
from experiments.app.shared_configs import PathsConfig
from experiments.paper import consistency, published
from rsr.metrics import METRICS


def report(paths: PathsConfig) -> str:
    cells = published.read_cells(paths.published / "cost.csv", ["metric", "quantity"], "value")
    printed = {(r["metric"], r["quantity"]): float(r["value"]) for r in cells}
    verdicts = {c.cell: c.verdict for c in consistency.gpu_hours(paths.published)}
    rows = [
        [METRICS[m].title, f"{printed[m, 'gpus']:g}", f"{printed[m, 'hours']:g}", f"{printed[m, 'gpu_hours']:g}"]
        + [f"{printed[m, 'gpu_hours'] / printed['rsr', 'gpu_hours']:g}", verdicts[f"GPU-hours, {m}"]]
        for m in dict.fromkeys(m for m, _ in printed)
    ]
    measured = measured_rows(paths)
    parts = [
        "# Cost of scores",
        "Printed: 5,000 trajectories of DeepSeek-R1, a student of 8B parameters, H200.",
        result_folder.markdown_table(["metric", "GPUs", "hours", "GPU-hours", "ratio to RSR", "GPUs x hours"], rows),
        "Measured here, each with the seconds of its last run and the tokens that a model read in them; the ratio is to RSR on "
        "the same datasets:",
        result_folder.markdown_table(
            ["student", "measurement", "datasets", "tokens", "seconds", "ratio to RSR"], measured
        )
        if measured
        else "nothing yet: `python experiments/score.py student=smollm2 teachers=FOLDER` makes it.",
        f"Made by `{command_line()}`.",
    ]
    return "\n\n".join(parts) + "\n"
