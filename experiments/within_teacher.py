"""Which of one teacher's own trajectories? The best of its samples for each problem, and a share of the problems.

    python experiments/within_teacher.py student=miniature 'within.teachers=[chain_near,mixed]'
    python experiments/within_teacher.py student=PATH_OR_HUB_NAME teachers=FOLDER run=true

For each teacher: of its n generations the wording that the student's score prefers against one by chance; and the share of
problems whose solutions score best against as many by chance, beside all of them. Writes results/within_teacher/<student>/.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from experiments.analysis.selection import accuracy
from experiments.app import result_folder
from experiments.app.command_configs import WithinConfig
from experiments.app.conclusions import Conclusion, conclude, contrast
from experiments.app.entry import entry
from experiments.stages import teacher_data, training_sets
from experiments.stages.evaluation import BASE
from experiments.stages.random_selection import RANDOM
from experiments.stages.training_sets import Pool
from experiments.study.plan import announce, refuse_or_go
from experiments.study.study import learn
from experiments.study.trained import Learned
from rsr.data.trajectories import Dataset
from rsr.errors import InputError
from rsr.metrics import by_name
from rsr.metrics.score_tables import Scores
from rsr.selection.rules import Rule
from rsr.stats.effect import Effect, estimate_text
from rsr.views.plots import Estimate, ranges

ALL = "all problems"


@dataclass(frozen=True)
class Arm:
    """One way to train: what of a teacher, by which method.

    Attributes:
        question: "best of 3", "25 % of problems", or ALL.
    """

    teacher: str
    question: str
    method: str
    dataset: Dataset


@entry("within_teacher", WithinConfig, open_groups=True)
def main(config: WithinConfig) -> None:
    ways = 3 + 2 * len(config.within.shares)
    refuse_or_go(config, f"trains on up to {ways} datasets of each teacher, with {len(config.within.seeds)} seeds")
    data = teacher_data.load(config.teachers, config.scoring, config.paths)
    metric = config.within.metric
    scores, missing = training_sets.scored(config, [metric])
    if missing:
        raise InputError(f"within.metric={metric}: {missing[metric]}")
    if unknown := sorted({*config.within.teachers} - {dataset.teacher for dataset in data}):
        raise InputError(f"within.teachers names {', '.join(unknown)}: there are no data of these")
    arms = [
        arm
        for teacher in config.within.teachers or dict.fromkeys(dataset.teacher for dataset in data)
        for arm in arms_of([dataset for dataset in data if dataset.teacher == teacher], scores, config)
    ]
    announce(config, [arm.dataset for arm in arms], len(config.within.seeds))
    learned = learn(config, [arm.dataset for arm in arms], config.within.seeds)
    if learned.grades.keys() - {BASE}:
        write(arms, learned, config)
    learned.runs.refuse_failed()


def arms_of(generations: Sequence[Dataset], scores: Scores, config: WithinConfig) -> list[Arm]:
    """What is trained on of one teacher: n generations of it are n samples of a solution.

    Raises:
        InputError: nothing is selected.
    """
    first = generations[0]
    asked = {f"best of {len(generations)}": (generations, Rule())} if len(generations) > 1 else {}
    asked |= {
        f"{share:.0%} of problems".replace("%", " %"): ([first], Rule(share=share)) for share in config.within.shares
    }
    arms = [Arm(first.teacher, ALL, ALL, first)]
    for question, (data, rule) in asked.items():
        for method in (config.within.metric, RANDOM):
            pool, name = Pool(question, data), f"{first.teacher} by {method}"
            selected = training_sets.select(method, pool, rule, scores, config, name=name)
            arms.append(Arm(first.teacher, question, method, selected.dataset))
    return arms


# --- what was found ------------------------------------------------------------------------------------------------


def answers_of(arm: Arm, answers: pl.DataFrame) -> pl.DataFrame:
    return answers.filter(teacher=arm.dataset.teacher, generation=arm.dataset.generation)


def over_teachers(arms: Sequence[Arm], answers: pl.DataFrame) -> pl.DataFrame:
    """Mean answers of several teachers' students, problem by problem and seed by seed."""
    rows = pl.concat(answers_of(arm, answers) for arm in arms)
    return rows.group_by("seed", "benchmark", "problem").agg(pl.col("correct").mean())


def pairs(arms: Sequence[Arm], learned: Learned, metric: str) -> dict[str, list[tuple[Arm, Arm]]]:
    """By question the arms of each teacher by score and by chance, of those that did not fail."""
    answers = learned.answers()
    there = {(a.teacher, a.question, a.method): a for a in arms if len(answers_of(a, answers))}
    return {
        question: both
        for question in dict.fromkeys(a.question for a in arms if a.question != ALL)
        if (
            both := [
                (there[teacher, question, metric], there[teacher, question, RANDOM])
                for teacher in dict.fromkeys(a.teacher for a in arms)
                if {(teacher, question, metric), (teacher, question, RANDOM)} <= there.keys()
            ]
        )
    }


def conclusions(found: dict[str, list[tuple[Arm, Arm]]], answers: pl.DataFrame, metric: str) -> list[Conclusion]:
    """Of every question the difference of score and chance, averaged over teachers."""
    made = []
    for question, of in found.items():
        difference = contrast(*(over_teachers(list(side), answers) for side in zip(*of, strict=True)))
        names = ", ".join(by_score.teacher for by_score, _ in of)
        made.append(
            Conclusion(
                f"{question}: is the choice by {by_name(metric).title} better than by chance?",
                f"{difference.verdict}, over {names}.",
                difference,
            )
        )
    return made


def write(arms: Sequence[Arm], learned: Learned, config: WithinConfig) -> None:
    """Write results/within_teacher/<student>/ and show it."""
    answers, metric = learned.answers(), config.within.metric
    found = pairs(arms, learned, metric)
    chance = {(b.teacher, b.question): b for of in found.values() for _, b in of}
    rows, estimates = [], dict[str, list[Estimate]]()
    for arm in arms:
        own = answers_of(arm, answers)
        if own.is_empty():
            continue
        a = accuracy(own)
        other = chance.get((arm.teacher, arm.question)) if arm.method == metric else None
        less = None if other is None else contrast(own, answers_of(other, answers))
        rows.append(_row(arm, a, less))
        label = arm.question if arm.question == ALL else f"{arm.question}, {arm.method}"
        estimates.setdefault(arm.teacher, []).append(Estimate(label, a.value, a.low, a.high))
    table = pl.DataFrame(rows, infer_schema_length=None)
    shown = [
        [
            r["teacher"],
            r["what"],
            "" if r["what"] == ALL else by_name(metric).title if r["by"] == metric else "chance",
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
        f"Accuracy in percent, differences in points on the same problems; {len(config.within.seeds)} training seeds. The same "
        "number of epochs for every set: half the problems are half the steps.",
    ]
    folder = result_folder.folder_of(config, "within_teacher")
    title = f"Accuracy of {config.student.name} after training on a part of one teacher's trajectories, 95 % intervals"
    ranges(estimates, title, "accuracy after training (%)", folder / "accuracy.png")
    tables = {"arms.csv": table, "runs.csv": learned.runs.frame()}
    conclude(folder, f"Within one teacher: {config.student.name}", conclusions(found, answers, metric), parts, tables)


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


if __name__ == "__main__":
    main()
