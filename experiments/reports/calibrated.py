"""The table and record of calibrated RSR's pre-registered comparison."""

from experiments.analysis.calibrated import COMPARED, Comparison
from experiments.app import result_folder
from experiments.app.command_configs import CalibratedConfig
from experiments.app.conclusions import Conclusion, conclude
from rsr.metrics import by_name


def write(comparison: Comparison, config: CalibratedConfig) -> None:
    """Write results/calibrated/<student>/ and show it.

    Raises:
        InputError: the folder cannot be written.
    """
    found = [
        Conclusion(
            f"Does calibrated RSR agree more with accuracy than {by_name(metric).title}, on other {resampled.unit}?",
            f"{effect.verdict}.",
            effect,
            "Spearman",
        )
        for resampled in comparison.resampled
        for metric, effect in resampled.lead.items()
    ]
    units = [resampled.unit for resampled in comparison.resampled]
    spearman = [
        [by_name(metric).title, *(resampled.spearman[metric].text() for resampled in comparison.resampled)]
        for metric in COMPARED
    ]
    teachers = [
        [row["teacher"], f"{row['accuracy']:.1f}", *(f"{row[metric]:.3f}" for metric in COMPARED)]
        for row in comparison.table.iter_rows(named=True)
    ]
    titles = [by_name(metric).title for metric in COMPARED]
    parts = [
        ""
        if comparison.resampled
        else "Fewer than three teachers, or all with the same accuracy: there is no order to agree with.",
        "A difference is of correlations that are positive where a score is right about its direction. Its interval is widened for "
        f"{len(COMPARED) - 1} comparisons.",
        config.teachers.caveat or "",
        "## Spearman with accuracy after training",
        result_folder.markdown_table(["score", *(f"over {unit} [95 %]" for unit in units)], spearman),
        f"Over problems, teachers are fixed: those that are scored and those of the benchmark are drawn anew. {len(teachers)} teachers, "
        f"training seeds {', '.join(map(str, config.calibrated.seeds))}.",
        "## Teachers",
        result_folder.markdown_table(["teacher", "accuracy", *titles], teachers),
    ]
    folder = result_folder.folder_of(config, "calibrated")
    title = f"Calibrated RSR, pre-registered: {config.student.name}"
    conclude(folder, title, found, parts, {"teachers.csv": comparison.table})
