"""The table, figure and record of a validation on some teachers."""

import numpy as np
import polars as pl

from experiments.analysis.selection import accuracy
from experiments.analysis.validation import Compared, conclusions, has_order
from experiments.app import result_folder
from experiments.app.command_configs import ValidationConfig
from experiments.app.conclusions import conclude
from experiments.study.trained import TrainedStudents
from rsr.metrics import Metric
from rsr.views.plots import Panel, scatter


def write(
    comparison: Compared, metric: Metric, learned: TrainedStudents, teacher_count: int, config: ValidationConfig
) -> None:
    """Write results/validation/<student>/ and show it."""
    places = np.argsort(np.argsort(-np.array(comparison.accuracies), kind="stable")) + 1
    intervals = [accuracy(answers) for answers in comparison.answers]
    rows = [
        [name, f"{score:.3f}", str(i + 1), a.text(".1f"), str(place)]
        for i, (name, score, a, place) in enumerate(
            zip(comparison.teachers, comparison.scores, intervals, places, strict=True)
        )
    ]
    asked = (
        "asked for by name"
        if config.validation.teachers
        else f"spread over the order of {teacher_count} teachers' scores"
    )
    parts = [
        config.teachers.caveat or "",
        "## Predicted and measured",
        result_folder.markdown_table(
            ["teacher", metric.title, "predicted place", "accuracy [95 %]", "measured place"], rows
        ),
        f"{len(rows)} teachers, {asked} before any accuracy was seen. Accuracy in percent, {intervals[0].basis}. So few "
        "teachers can show a score to be badly wrong; they can hardly show it to be right.",
        "" if has_order(comparison) else "Scores or accuracies are all equal: there is no order to compare.",
    ]
    folder = result_folder.folder_of(config, "validation")
    if config.validation.metric != "rsr":
        folder = folder.with_name(f"{folder.name}-{config.validation.metric}")
    title = f"{metric.title} ({metric.direction} is better) against accuracy after training, {config.student.name}"
    panel = Panel(
        title,
        metric.title,
        "accuracy after training (%)",
        comparison.teachers,
        comparison.scores,
        comparison.accuracies,
    )
    scatter([panel], folder / "scatter.png")
    table = pl.DataFrame(
        {
            "teacher": comparison.teachers,
            "score": comparison.scores,
            "accuracy": comparison.accuracies,
            "low": [a.low for a in intervals],
            "high": [a.high for a in intervals],
        }
    )
    tables = {"teachers.csv": table, "runs.csv": learned.runs.frame()}
    conclude(
        folder, f"Validation of {metric.title}: {config.student.name}", conclusions(comparison, metric), parts, tables
    )
