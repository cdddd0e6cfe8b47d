"""Trajectory selection measured: training sets of every method and setting, trained on with several seeds and evaluated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from experiments.app import result_folder
from experiments.app.command_configs import SelectionConfig
from experiments.app.conclusions import Conclusion, conclude, contrast
from experiments.stages import teacher_data, training_sets, verification
from experiments.stages.evaluation import BASE
from experiments.stages.random_selection import KEYS, RANDOM
from experiments.stages.training_sets import NONE, Selection
from experiments.study.plan import announce, refuse_or_go
from experiments.study.study import learn
from experiments.study.trained import Learned
from rsr.data.trajectories import Dataset
from rsr.metrics import by_name
from rsr.metrics.score_tables import Scores, of_metric
from rsr.selection.rules import Rule
from rsr.stats.effect import Effect, estimate_text, interval_text
from rsr.views.plots import Estimate, ranges

TEACHER = "best single teacher"


@dataclass(frozen=True)
class Measured:
    """Selections and what was learned from them.

    Attributes:
        best: the dataset of one teacher that its student did best on, of the first generations; known only afterwards.
        answers: see `Learned.answers`.
        left_out: reason by method that cannot be had here.
    """

    selections: Sequence[Selection]
    best: Dataset
    answers: pl.DataFrame
    scores: Scores
    verified: pl.DataFrame
    left_out: Mapping[str, str]

    def of(self, dataset: Dataset) -> pl.DataFrame:
        """Answers of the learners of a dataset."""
        return self.answers.filter(teacher=dataset.teacher, generation=dataset.generation)

    def method(self, label: str, method: str) -> pl.DataFrame:
        """Answers of the learners of a selection."""
        return self.answers.filter(teacher=method, generation=label)


def report(config: SelectionConfig) -> None:
    """Select, train, evaluate, and write results/trajectory_selection/<student>/.

    Raises:
        InputError: what is wrong with student, data or settings; or a cell failed, after everything else is written.
    """
    asked = config.selection
    refuse_or_go(
        config,
        f"trains on one of each teacher once, and on up to {len(asked.settings) * len(asked.methods)} selections and the best "
        f"teacher with {len(asked.seeds)} seeds",
    )
    data = teacher_data.load(config.teachers, config.scoring, config.paths)
    scores, left_out = training_sets.scored(config, config.selection.methods)
    chosen = [
        training_sets.select(method, pool, Rule(), scores, config)
        for pool in training_sets.pools(config.selection.settings, data, config.teachers.fewer)
        for method in config.selection.methods
        if method not in left_out
    ]
    singles = training_sets.first_generations(data)
    teachers = learn(config, singles, config.selection.seeds[:1])
    if not teachers.grades.keys() - {BASE}:
        teachers.runs.refuse_failed()
    best = best_of(teachers, singles)
    trained = [*(selection.dataset for selection in chosen), best]
    announce(config, trained, len(config.selection.seeds))
    learned = learn(config, trained, config.selection.seeds)
    if not {selection.method for selection in chosen} & {learned.learners[name].teacher for name in learned.grades}:
        learned.runs.refuse_failed()
    verified = verification.verified(data, config.teachers.answer, config.teachers.grader, config.paths.outputs)
    write(Measured(chosen, best, learned.answers(), scores, verified, left_out), teachers, learned, config)
    for of in (teachers, learned):
        of.runs.refuse_failed()


def best_of(learned: Learned, data: Sequence[Dataset]) -> Dataset:
    """The dataset with the best accuracy."""
    accuracy = {(r["teacher"], r["generation"]): r["accuracy"] for r in learned.performance().iter_rows(named=True)}
    return max(data, key=lambda dataset: accuracy.get((dataset.teacher, dataset.generation), -1.0))


# --- what was found ------------------------------------------------------------------------------------------------


def accuracy(answers: pl.DataFrame) -> Effect:
    """Accuracy in percent with its interval, cut at 0 and 100: the contrast with a student that answers nothing."""
    found = contrast(answers, answers.with_columns(correct=pl.lit(0.0)))
    return replace(found, low=max(found.low, 0.0), high=min(found.high, 100.0))


def by_method(found: Measured) -> pl.DataFrame:
    """One row per setting and method, and the best teacher: accuracy, and its differences from chance and that teacher."""
    rows = []
    best = found.of(found.best)
    for selection in found.selections:
        own = found.method(selection.label, selection.method)
        chance = found.method(selection.label, RANDOM)
        if own.is_empty():  # its cells failed
            continue
        of: dict[str, Effect | None] = {
            "accuracy": accuracy(own),
            "less_random": contrast(own, chance) if len(chance) and selection.method != RANDOM else None,
            "less_best_teacher": contrast(own, best) if len(best) else None,
        }
        rows.append(
            {"setting": selection.label, "method": selection.method} | _columns(of) | _made_of(selection, found)
        )
    return pl.DataFrame(rows, infer_schema_length=None)


def _columns(contrasts: Mapping[str, Effect | None]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name, effect in contrasts.items():
        columns[name] = effect and effect.value
        columns[f"{name}_low"] = effect and effect.low
        columns[f"{name}_high"] = effect and effect.high
        columns[f"{name}_detectable"] = effect and effect.minimum_detectable
    return columns


def _made_of(selection: Selection, found: Measured) -> dict[str, Any]:
    """RSR of a training set (Eq. 9), its mean length, verified accuracy, and how often chance had to decide."""
    rows = selection.chosen.select(KEYS)
    rsr = rows.join(of_metric(found.scores.trajectories, "rsr"), on=KEYS, how="left").drop_nulls("value")
    graded = rows.join(found.verified, on=KEYS, how="inner")
    return {
        "trajectories": len(rows),
        "rsr": float(rsr["numerator"].to_numpy().sum() / rsr["denominator"].to_numpy().sum()),
        "tokens": rsr["tokens"].mean(),
        "verified_accuracy": 100 * graded["correct"].to_numpy().mean() if len(graded) else None,
        "ties": selection.ties,
        "winner": selection.chosen["teacher"].mode().sort()[0],
    }


def winners(found: Measured) -> pl.DataFrame:
    """setting, method, teacher, share: of the problems (of the trajectories, where all are taken) that a teacher won."""
    return pl.concat(
        selection.chosen.group_by("teacher")
        .agg(share=100 * pl.len() / len(selection.chosen))
        .sort("share", "teacher", descending=[True, False])
        .select(pl.lit(selection.label).alias("setting"), pl.lit(selection.method).alias("method"), "teacher", "share")
        for selection in found.selections
    )


def conclusions(found: Measured) -> list[Conclusion]:
    """RSR against chance and against the best single teacher in every setting, and the best other method against RSR."""
    made = []
    for label in dict.fromkeys(selection.label for selection in found.selections):
        methods = [s.method for s in found.selections if s.label == label and len(found.method(label, s.method))]
        if "rsr" not in methods:
            continue
        rsr = found.method(label, "rsr")
        first = next(s for s in found.selections if s.label == label and s.method == "rsr").chosen["teacher"]
        most, share = first.mode().sort()[0], 100 * (first == first.mode().sort()[0]).sum() / len(first)
        taken = f"it takes {share:.0f} % of its trajectories from {most}"
        if RANDOM in methods:
            difference = contrast(rsr, found.method(label, RANDOM))
            question = f"{label}: does selecting by RSR beat selecting at random?"
            made.append(Conclusion(question, f"{difference.verdict}; {taken}.", difference))
        if len(single := found.of(found.best)):
            difference = contrast(rsr, single)
            question = f"{label}: does selecting by RSR beat the best single teacher, known afterwards?"
            made.append(
                Conclusion(question, f"{difference.verdict}; that teacher is {found.best.teacher}.", difference)
            )
        others = [m for m in methods if m not in ("rsr", RANDOM, NONE)]
        if others:
            best = max(others, key=lambda m: accuracy(found.method(label, m)).value)
            difference = contrast(rsr, found.method(label, best))
            question = f"{label}: does selecting by RSR beat the best other score, known afterwards?"
            made.append(Conclusion(question, f"{difference.verdict}; that is {title(best).lower()}.", difference))
    return made


# --- shown ---------------------------------------------------------------------------------------------------------


def title(method: str) -> str:
    return {RANDOM: "At random", NONE: "None: all candidates"}.get(method) or by_name(method).title


def write(found: Measured, teachers: Learned, learned: Learned, config: SelectionConfig) -> None:
    """Write results/trajectory_selection/<student>/ and show them."""
    table, won = by_method(found), winners(found)
    best = accuracy(found.of(found.best)) if len(found.of(found.best)) else None
    parts = [
        config.teachers.caveat or "",
        *(_setting_markdown(label, rows) for (label,), rows in table.group_by("setting", maintain_order=True)),
        f"Accuracy in percent with its 95 % interval over problems and {len(config.selection.seeds)} training seeds; differences "
        "in points, over the same problems. RSR, tokens and right (verified accuracy, percent) are those of the training set. "
        "Ties: problems decided by the hash of the content.",
        ""
        if best is None
        else f"{TEACHER.capitalize()}: {found.best.name}, {best.value:.1f} % {interval_text(best.low, best.high, '.1f')}, the best of "
        f"{len(teachers.learners) - 1} after training on all of them, so that its lead is too large by choice.",
        "## Who wins a problem",
        "Share of the problems that each teacher's candidate wins, in percent.",
        *(_winners_markdown(label, rows) for (label,), rows in won.group_by("setting", maintain_order=True)),
        result_folder.markdown_list(f"{title(m)} is left out: {reason}." for m, reason in found.left_out.items()),
    ]
    folder = result_folder.folder_of(config, "trajectory_selection")
    groups = {
        str(label): [
            Estimate(title(r["method"]), r["accuracy"], r["accuracy_low"], r["accuracy_high"])
            for r in rows.iter_rows(named=True)
        ]
        for (label,), rows in table.group_by("setting", maintain_order=True)
    }
    ranges(
        groups,
        f"Accuracy of {config.student.name} after training on what each method selects, 95 % intervals",
        "accuracy after training (%)",
        folder / "accuracy.png",
        marks={} if best is None else {f"{TEACHER}: {found.best.teacher}": best.value},
    )
    performance = pl.concat([of.performance(resamples=config.bootstrap.resamples) for of in (teachers, learned)])
    tables = {
        "methods.csv": table,
        "winners.csv": won,
        "performance.csv": performance.unique(maintain_order=True),
        "runs.csv": learned.runs.frame(),
    }
    conclude(
        folder,
        f"Trajectory selection: {config.student.name}",
        conclusions(found),
        parts,
        tables,
        left_out=dict(found.left_out),
    )


def _setting_markdown(label: object, table: pl.DataFrame) -> str:
    rows = []
    for r in table.sort("accuracy", descending=True).iter_rows(named=True):
        differences = [
            "" if r[of] is None else estimate_text(r[of], r[f"{of}_low"], r[f"{of}_high"], "+.1f")
            for of in ("less_random", "less_best_teacher")
        ]
        right = "" if r["verified_accuracy"] is None else f"{r['verified_accuracy']:.1f}"
        made = [f"{r['rsr']:.2f}", f"{r['tokens']:.0f}", right, str(r["ties"])]
        accuracy = estimate_text(r["accuracy"], r["accuracy_low"], r["accuracy_high"], ".1f")
        rows.append([title(r["method"]), accuracy, *differences, *made])
    header = ["method", "accuracy", "less random", f"less {TEACHER}", "RSR", "tokens", "right", "ties"]
    return f"## {label}\n\n" + result_folder.markdown_table(header, rows)


def _winners_markdown(label: object, won: pl.DataFrame) -> str:
    wide = won.pivot("method", index="teacher", values="share").fill_null(0.0)
    methods = wide.columns[1:]
    rows = [[r["teacher"], *(f"{r[m]:.1f}" for m in methods)] for r in wide.sort("teacher").iter_rows(named=True)]
    return f"{label}:\n\n" + result_folder.markdown_table(["teacher", *map(title, methods)], rows)
