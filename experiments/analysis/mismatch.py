"""Scores under every student and dtype crossed with the accuracies of every student."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import polars as pl
from omegaconf import OmegaConf

from experiments.analysis.transfer import Crossed, Setting
from experiments.app.command_configs import MismatchConfig
from experiments.app.entry import OPEN_GROUPS
from experiments.app.shared_configs import ROOT, Dtype, StudentConfig
from experiments.paper import published
from experiments.paper.metric_table import Aggregates
from experiments.stages import scoring, teacher_data
from experiments.stages.evaluation import BASE
from experiments.stages.students import dtype_of
from experiments.study import study
from experiments.study.plan import refuse_or_go
from rsr.errors import InputError
from rsr.metrics import Metric, select
from rsr.stats.correlation import correlate


def published_crossings(config: MismatchConfig) -> Iterator[Crossed]:
    """The paper's students: every metric whose printed scores depend on the student.

    Raises:
        InputError: one student is asked for, or none of the chosen metrics is one.
    """
    if config.student.name != "all":
        raise InputError(
            f"student={config.student.name}: the printed students are compared all at once: student=all, or source=measured "
            "with others=[NAME]"
        )
    chosen = _student_metrics(config)
    prints = published.read(config.paths.published)
    aggregates = Aggregates(prints.scores(), prints.performance())
    teachers = [teacher.name for teacher in config.teachers.teachers]
    tables = [table for metric in chosen for table in aggregates.tables(metric, prints.students(), teachers)]
    if not tables:
        raise InputError(f"metric={config.metric}: the paper prints no scores of it")
    for table in tables:
        if not table.preset:
            scores = table.metric.expected_sign * np.array(table.scores)
            settings = [Setting(student) for student in table.students]
            distance = 1 - correlate(scores[:, None], scores[None], "spearman")
            yield Crossed(table.metric, settings, settings, scores, np.array(table.accuracy), distance)


def measured_crossings(config: MismatchConfig) -> Iterator[Crossed]:
    """Students that are scored in every dtype, trained and evaluated here; finished stages are reused.

    Raises:
        InputError: a study that costs much has not been given run=true, a cell failed, or none of the chosen metrics is
            computed from the student's tokens.
    """
    chosen = [metric for metric in _student_metrics(config) if metric.needs == "tokens"]
    if not chosen:
        raise InputError(f"metric={config.metric}: measured here are metrics of stored tokens alone: metric=tokens")
    students = [config.student, *(configured(name) for name in config.others)]
    if len(students) < 2:
        raise InputError("a mismatch is between students: give others=[NAME] besides student=NAME")
    configs = [replace(config, student=student) for student in students]
    own = [Setting(asked.student.name, dtype_of(asked.student, asked.scoring)) for asked in configs]
    accuracies = {asked.student.name: _accuracies(asked) for asked in configs}
    trajectories, scores = {}, {}
    for asked, setting in zip(configs, own, strict=True):
        for dtype in dict.fromkeys([setting.dtype, *(dtype.value for dtype in config.dtypes)]):
            scored = scoring.score(replace(asked, scoring=replace(asked.scoring, dtype=Dtype(dtype))))
            assert scored is not None  # there is one process
            here = Setting(asked.student.name, dtype)
            trajectories[here], scores[here] = scored.trajectories, scored.datasets
    for metric in chosen:
        yield _cross(metric, own, trajectories, scores, accuracies)


def _student_metrics(config: MismatchConfig) -> list[Metric]:
    """The chosen metrics that depend on the student; others are the same under every student."""
    chosen = [metric for metric in select(config.compared) if metric.per_student]
    if not chosen:
        raise InputError(
            f"metric={config.metric} is the same for every student, so that there is no mismatch: metric=all"
        )
    return chosen


def configured(name: str) -> StudentConfig:
    """A student by the name of its configuration, or a folder or hub name."""
    path = ROOT / "configs" / "student" / f"{name}.yaml"
    given: Any = OmegaConf.load(path) if path.is_file() else OPEN_GROUPS["student"](name)
    return cast(StudentConfig, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(StudentConfig), given)))


def _accuracies(config: MismatchConfig) -> pl.DataFrame:
    """teacher, accuracy: means over generations."""
    refuse_or_go(config)
    learned = study.learn(config, teacher_data.load(config.teachers, config.scoring, config.paths))
    learned.runs.refuse_failed()
    trained = learned.performance(resamples=config.bootstrap.resamples).filter(pl.col("teacher") != BASE)
    return trained.group_by("teacher", maintain_order=True).agg(pl.col("accuracy").mean())


def _cross(
    metric: Metric,
    own: Sequence[Setting],
    trajectories: Mapping[Setting, pl.DataFrame],
    scores: Mapping[Setting, pl.DataFrame],
    accuracies: Mapping[str, pl.DataFrame],
) -> Crossed:
    teachers = accuracies[own[0].student]["teacher"].to_list()
    chosen = (pl.col("metric") == metric.name) & (pl.col("preset") == "")

    def by_teacher(frame: pl.DataFrame, column: str) -> list[float]:
        means = dict(frame.group_by("teacher").agg(pl.col(column).mean()).iter_rows())
        return [means[teacher] for teacher in teachers]

    key = ["teacher", "generation", "trajectory"]
    single = {s: frame.filter(chosen).select(*key, "value") for s, frame in trajectories.items()}

    def distance(one: Setting, other: Setting) -> float:
        both = single[one].join(single[other], on=key).drop_nulls()
        return 1 - float(correlate(both["value"].to_numpy(), both["value_right"].to_numpy(), "spearman"))

    return Crossed(
        metric,
        list(scores),
        own,
        metric.expected_sign * np.array([by_teacher(frame.filter(chosen), "value") for frame in scores.values()]),
        np.array([by_teacher(accuracies[setting.student], "accuracy") for setting in own]),
        np.array([[distance(setting, target) for target in own] for setting in scores]),
    )
