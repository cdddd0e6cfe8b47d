"""The table, figure and record of choices within one teacher."""

from collections.abc import Sequence

import polars as pl

from experiments.analysis.selection import accuracy
from experiments.analysis.within_teacher import ALL, Arm, answers_of, conclusions
from experiments.app import result_folder
from experiments.app.command_configs import Within, WithinConfig
from experiments.app.conclusions import conclude, contrast
from experiments.stages.random_selection import RANDOM
from experiments.study.trained import TrainedStudents
from rsr.metrics import by_name
from rsr.stats.effect import Effect, estimate_text
from rsr.views.plots import Estimate, ranges


def write(arms: Sequence[Arm], learned: TrainedStudents, config: WithinConfig) -> None:
    """Write results/within_teacher/<student>[-<metrics>]/ and show it."""
    answers, metrics = learned.answers(), config.within.metrics
    chance = {(a.teacher, a.question): own for a in arms if a.method == RANDOM and len(own := answers_of(a, answers))}
    rows, estimates = [], dict[str, list[Estimate]]()
    for arm in arms:
        own = answers_of(arm, answers)
        if own.is_empty():
            continue
        a = accuracy(own)
        other = chance.get((arm.teacher, arm.question)) if arm.method in metrics else None
        less = None if other is None else contrast(own, other)
        rows.append(_row(arm, a, less))
        label = arm.question if arm.question == ALL else f"{arm.question}, {arm.method}"
        estimates.setdefault(arm.teacher, []).append(Estimate(label, a.value, a.low, a.high))
    table = pl.DataFrame(rows, infer_schema_length=None)
    shown = [
        [
            r["teacher"],
            r["what"],
            "" if r["what"] == ALL else "chance" if r["by"] == RANDOM else by_name(r["by"]).title,
            str(r["trajectories"]),
            estimate_text(r["accuracy"], r["low"], r["high"], ".1f"),
            ""
            if r["less_chance"] is None
            else estimate_text(r["less_chance"], r["less_chance_low"], r["less_chance_high"], "+.1f"),
        ]
        for r in table.iter_rows(named=True)
    ]
    parts = [
        config.teachers.caveat or "",
        "## Teachers one by one",
        result_folder.markdown_table(
            ["teacher", "trained on", "by", "trajectories", "accuracy [95 %]", "less chance"], shown
        ),
        f"Accuracy in percent, differences in points on the same problems; training seeds "
        f"{', '.join(map(str, config.within.seeds))}. The same number of epochs for every set: half the problems are half the steps.",
    ]
    folder = result_folder.folder_of(config, "within_teacher", *(metrics if metrics != Within().metrics else ()))
    title = f"Accuracy of {config.student.name} after training on a part of one teacher's trajectories, 95 % intervals"
    ranges(estimates, title, "accuracy after training (%)", folder / "accuracy.png")
    tables = {"arms.csv": table, "runs.csv": learned.runs.frame()}
    conclude(
        folder,
        f"Within one teacher: {config.student.name}",
        conclusions(arms, learned, metrics),
        parts,
        tables,
    )


def _row(arm: Arm, a: Effect, less: Effect | None) -> dict[str, object]:
    return {
        "teacher": arm.teacher,
        "what": arm.question,
        "by": arm.method,
        "trajectories": len(arm.dataset.trajectories),
        "accuracy": a.value,
        "low": a.low,
        "high": a.high,
        "less_chance": less and less.value,
        "less_chance_low": less and less.low,
        "less_chance_high": less and less.high,
        "detectable": less and less.minimum_detectable,
    }
