"""Trajectory selection measured: training sets of every method and setting, trained on with several seeds and evaluated."""

import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from experiments.analysis import released
from experiments.analysis.released import Agreement
from experiments.analysis.selection import (
    SelectionResult,
    accuracy,
    best_of,
    by_method,
    conclusions,
    title,
    what_differs,
    winners,
)
from experiments.app import result_folder
from experiments.app.command_configs import SelectionConfig, SelectionSetting, SelectionSettings
from experiments.app.conclusions import conclude
from experiments.stages import teacher_data, training_sets, verification
from experiments.stages.evaluation import BASE
from experiments.stages.training_sets import Pool, Selection
from experiments.study.plan import announce, refuse_or_go
from experiments.study.study import learn
from experiments.study.trained import TrainedStudents
from rsr.data.trajectories import Dataset
from rsr.errors import InputError
from rsr.metrics.score_tables import Scores
from rsr.selection.rules import Rule
from rsr.stats.effect import Effect, estimate_text, interval_text
from rsr.views.plots import Estimate, ranges

TEACHER = "best single teacher"


def report(config: SelectionConfig) -> None:
    """Select, train, evaluate, and write results/trajectory_selection/<student>/.

    Raises:
        InputError: what is wrong with student, data or settings; or a cell failed, after everything else is written.
    """
    asked = config.selection
    refuse_or_go(
        config,
        f"trains on one of each teacher once, and on up to "
        f"{len(asked.settings) * len(asked.methods) * (2 if asked.match else 1)} selections and the best teacher with "
        f"{len(asked.seeds)} seeds",
    )
    data = teacher_data.load(config.teachers, config.scoring, config.paths)
    scores, left_out = training_sets.scored(config, config.selection.methods)
    chosen = [
        selection
        for pool in training_sets.pools(config.selection.settings, data, config.teachers.fewer)
        for selection in _selected(pool, scores, [m for m in asked.methods if m not in left_out], config)
    ]
    compared = _released(chosen, data, config)
    singles = training_sets.first_generations(data)
    teachers = learn(config, singles, config.selection.seeds[:1])
    if not teachers.grades.keys() - {BASE}:
        teachers.runs.refuse_failed()
    best = best_of(teachers, singles)
    trained = [*(selection.dataset for selection in chosen), best]
    announce(config, trained, len(config.selection.seeds))
    learned = learn(config, trained, config.selection.seeds)
    if not {selection.method for selection in chosen} & {learned.students[name].teacher for name in learned.grades}:
        learned.runs.refuse_failed()
    verified = verification.verified(data, config.teachers.answer, config.teachers.grader, config.paths.outputs)
    result = SelectionResult(chosen, best, learned.answers(), scores, verified, left_out, compared)
    write(result, teachers, learned, config)
    for models in (teachers, learned):
        models.runs.refuse_failed()


def _selected(pool: Pool, scores: Scores, methods: Sequence[str], config: SelectionConfig) -> list[Selection]:
    """What each method selects from a pool, and the same cut to one size where that is asked for."""
    whole = [training_sets.select(method, pool, Rule(), scores, config) for method in methods]
    by = config.selection.match
    return whole if by is None else [*whole, *training_sets.matched(whole, by, config)]


def _released(chosen: Sequence[Selection], data: Sequence[Dataset], config: SelectionConfig) -> Agreement | str:
    """How far the choices by RSR among all candidates are the released ones, or why that is not known."""
    of_all = training_sets.pool(SelectionSetting.all, data, []).label
    ours = [selection for selection in chosen if (selection.method, selection.label) == ("rsr", of_all)]
    if not ours:
        return f"it is one by RSR, {of_all}, which was not asked for"
    try:
        agreement = released.agreement(ours[0], data, released.read(config))
    except InputError as error:
        return str(error)
    print(f"{agreement.share:.1f} % of the released choices are those made here", file=sys.stderr, flush=True)
    return agreement


def write(
    result: SelectionResult, teachers: TrainedStudents, learned: TrainedStudents, config: SelectionConfig
) -> None:
    """Write results/trajectory_selection/<student>/ and show them."""
    table, won = by_method(result), winners(result)
    best = accuracy(result.of(result.best)) if len(result.of(result.best)) else None
    parts = [
        config.teachers.caveat or "",
        *(
            _setting_markdown(str(label), rows, won.filter(setting=label), result)
            for (label,), rows in table.group_by("setting", maintain_order=True)
        ),
        f"Accuracy in percent with its 95 % interval over problems and {len(config.selection.seeds)} training seeds; differences "
        "in points, over the same problems. RSR, trajectories, tokens (mean) and right (verified accuracy, percent) are those of the "
        "training set. "
        "Ties: problems decided by the hash of the content.",
        verification.without_verdict(result.verified),
        ""
        if best is None
        else f"{TEACHER.capitalize()}: {result.best.name}, {best.value:.1f} % {interval_text(best.low, best.high, '.1f')}, the best of "
        f"{len(teachers.students) - 1} after training on all of them, so that its lead is too large by choice.",
        "## Who wins a problem",
        "Share of the problems that each teacher's candidate wins, in percent.",
        *(_winners_markdown(label, rows) for (label,), rows in won.group_by("setting", maintain_order=True)),
        _released_markdown(result.released),
        result_folder.markdown_list(f"{title(m)} is left out: {reason}." for m, reason in result.left_out.items()),
    ]
    folder = result_folder.folder_of(config, "trajectory_selection", *_parts(config.selection))
    _draw(table, result, best, config.student.name, folder / "accuracy.png")
    performance = pl.concat(
        [trained.performance(resamples=config.bootstrap.resamples) for trained in (teachers, learned)]
    )
    tables = {
        "methods.csv": table,
        "winners.csv": won,
        "performance.csv": performance.unique(maintain_order=True),
        "runs.csv": learned.runs.frame(),
    }
    if isinstance(result.released, Agreement):
        tables["released.csv"] = result.released.teachers
    conclude(
        folder,
        f"Trajectory selection: {config.student.name}",
        conclusions(result),
        parts,
        tables,
        left_out=dict(result.left_out),
    )


def _parts(asked: SelectionSettings) -> list[str]:
    """What tells results of other settings apart, and those with arms of equal size."""
    settings = [] if asked.settings == SelectionSettings().settings else [setting.value for setting in asked.settings]
    return settings if asked.match is None else [*settings, f"equal_{asked.match.value}"]


def _draw(table: pl.DataFrame, result: SelectionResult, best: Effect | None, student: str, path: Path) -> None:
    groups = {
        str(label): [
            Estimate(title(r["method"]), r["accuracy"], r["accuracy_low"], r["accuracy_high"])
            for r in rows.iter_rows(named=True)
        ]
        for (label,), rows in table.group_by("setting", maintain_order=True)
    }
    ranges(
        groups,
        f"Accuracy of {student} after training on what each method selects, 95 % intervals",
        "accuracy after training (%)",
        path,
        marks={} if best is None else {f"{TEACHER}: {result.best.teacher}": best.value},
    )


def _setting_markdown(label: str, table: pl.DataFrame, won: pl.DataFrame, result: SelectionResult) -> str:
    rows = []
    for r in table.sort("accuracy", descending=True).iter_rows(named=True):
        differences = [
            ""
            if r[difference] is None
            else estimate_text(r[difference], r[f"{difference}_low"], r[f"{difference}_high"], "+.1f")
            for difference in ("less_random", "less_best_teacher")
        ]
        right = "" if r["verified_accuracy"] is None else f"{r['verified_accuracy']:.1f}"
        made = [f"{r['rsr']:.2f}", f"{r['trajectories']:,}", f"{r['tokens']:.0f}", right, str(r["ties"])]
        accuracy = estimate_text(r["accuracy"], r["accuracy_low"], r["accuracy_high"], ".1f")
        rows.append([title(r["method"]), accuracy, *differences, *made])
    header = ["method", "accuracy", "less random", f"less {TEACHER}", "RSR", "trajectories", "tokens", "right", "ties"]
    parts = [f"## {label}", result_folder.markdown_table(header, rows)]
    return "\n\n".join([*parts, what_differs(table, won)] if result.whole_label(label) else parts)


def _winners_markdown(label: object, won: pl.DataFrame) -> str:
    wide = won.pivot("method", index="teacher", values="share").fill_null(0.0)
    methods = wide.columns[1:]
    rows = [[r["teacher"], *(f"{r[m]:.1f}" for m in methods)] for r in wide.sort("teacher").iter_rows(named=True)]
    return f"{label}:\n\n" + result_folder.markdown_table(["teacher", *map(title, methods)], rows)


def _released_markdown(agreement: Agreement | str) -> str:
    title = "## Beside the released selection\n\n"
    if isinstance(agreement, str):
        return title + f"Left out: {agreement}."
    rows = [
        [
            r["teacher"],
            *(f"{r[name]:,}" for name in ("released", "own", "equal")),
            "" if r["share"] is None else f"{r['share']:.1f}",
        ]
        for r in agreement.teachers.iter_rows(named=True)
    ]
    elsewhere = (
        f" {agreement.elsewhere:,} released choices are of problems that are not here." if agreement.elsewhere else ""
    )
    said = f"Choices of {agreement.setting} by RSR: released, made here, equal, and equal as a share of the released, percent.{elsewhere}"
    return title + said + "\n\n" + result_folder.markdown_table(["teacher", "released", "own", "equal", "share"], rows)
