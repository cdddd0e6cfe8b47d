"""Choices among one teacher's own trajectories: what is trained on, and what it gained."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from experiments.app.command_configs import WithinConfig
from experiments.app.conclusions import Conclusion, contrast
from experiments.stages import training_sets
from experiments.stages.random_selection import RANDOM
from experiments.stages.training_sets import Pool
from experiments.study.trained import TrainedStudents
from rsr.data.trajectories import Dataset
from rsr.metrics import by_name
from rsr.metrics.score_tables import Scores
from rsr.selection.rules import Rule

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
        for method in (*config.within.metrics, RANDOM):
            pool, name = Pool(question, data), f"{first.teacher} by {method}"
            selected = training_sets.select(method, pool, rule, scores, config, name=name)
            arms.append(Arm(first.teacher, question, method, selected.dataset))
    return arms


def answers_of(arm: Arm, answers: pl.DataFrame) -> pl.DataFrame:
    return answers.filter(teacher=arm.dataset.teacher, generation=arm.dataset.generation)


def over_teachers(arms: Sequence[Arm], answers: pl.DataFrame) -> pl.DataFrame:
    """Mean answers of several teachers' students, problem by problem and seed by seed."""
    rows = pl.concat(answers_of(arm, answers) for arm in arms)
    return rows.group_by("seed", "benchmark", "problem").agg(pl.col("correct").mean())


def pairs(arms: Sequence[Arm], learned: TrainedStudents, method: str, other: str) -> dict[str, list[tuple[Arm, Arm]]]:
    """By question the arms of each teacher by two methods, of those that did not fail."""
    answers = learned.answers()
    there = {(a.teacher, a.question, a.method): a for a in arms if len(answers_of(a, answers))}
    return {
        question: both
        for question in dict.fromkeys(a.question for a in arms if a.question != ALL)
        if (
            both := [
                (there[teacher, question, method], there[teacher, question, other])
                for teacher in dict.fromkeys(a.teacher for a in arms)
                if {(teacher, question, method), (teacher, question, other)} <= there.keys()
            ]
        )
    }


def conclusions(arms: Sequence[Arm], learned: TrainedStudents, metrics: Sequence[str]) -> list[Conclusion]:
    """Of every question the difference of each score and chance, and of each and the first score, averaged over teachers."""
    answers = learned.answers()
    compared = [(metric, RANDOM) for metric in metrics] + [(metric, metrics[0]) for metric in metrics[1:]]
    made = []
    for method, other in compared:
        than = "a random choice" if other == RANDOM else f"the choice by {by_name(other).title}"
        for question, teacher_pairs in pairs(arms, learned, method, other).items():
            difference = contrast(*(over_teachers(list(side), answers) for side in zip(*teacher_pairs, strict=True)))
            names = ", ".join(arm.teacher for arm, _ in teacher_pairs)
            made.append(
                Conclusion(
                    f"{question}: is the choice by {by_name(method).title} better than {than}?",
                    f"{difference.verdict}, over {names}.",
                    difference,
                )
            )
    return made
