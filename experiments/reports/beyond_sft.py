"""Accuracy before and after reinforcement: the order of teachers, and what predicts it."""

from dataclasses import replace

import polars as pl

from experiments.app.command_configs import BeyondSftConfig
from experiments.app.conclusions import Conclusion, conclude
from experiments.app.result_folder import folder_of, markdown_table
from experiments.stages.evaluation import BASE
from experiments.study.reinforcement import ReinforcedStudents
from experiments.study.study import StudyResult
from rsr.metrics import METRICS, select
from rsr.stats.correlation import Correlation, correlation
from rsr.stats.effect import interval_text
from rsr.views.plots import Panel, scatter

BEFORE, AFTER = "before", "after"


def report(config: BeyondSftConfig, taught: StudyResult, reinforced: ReinforcedStudents) -> None:
    """Write what came out."""
    table = accuracies(config, taught, reinforced)
    teachers = table.filter(pl.col("teacher") != BASE)
    conclusions = [survival(teachers, config)] if _ordered(teachers, BEFORE) else []
    conclusions += [
        prediction(teachers, name, config) for name in _scores(teachers) if _ordered(teachers, BEFORE, name)
    ]
    folder = folder_of(config, "beyond_sft")
    panels = [Panel("", "Accuracy after fine-tuning (%)", "Accuracy after GRPO (%)", *_points(teachers, BEFORE))]
    panels += [
        Panel("", METRICS[name].title, "Accuracy after GRPO (%)", *_points(teachers, name))
        for name in _scores(teachers)
    ]
    scatter(panels, folder / "order.png")
    conclude(
        folder,
        "Beyond fine-tuning: GRPO with the right answer as the reward",
        conclusions,
        [
            config.teachers.caveat or "",
            _table(table),
            "" if conclusions else "Fewer than three teachers, or accuracies that are all equal: there is no order.",
        ],
        {"accuracies.csv": table},
        reinforcement=config.reinforcement.identity(),
    )


def accuracies(config: BeyondSftConfig, taught: StudyResult, reinforced: ReinforcedStudents) -> pl.DataFrame:
    """One row per student, the base first: teacher (means over generations), accuracies before and after in percent with
    their intervals over problems, rewards, and scores of the teacher's dataset.
    """
    rewards = reinforced.rewards()
    parts = []
    for when, learned in ((BEFORE, taught), (AFTER, reinforced.trained)):
        performance = learned.performance(resamples=config.bootstrap.resamples, seed=config.bootstrap.seed)
        named = performance.select(
            "teacher", "generation", *(pl.col(c).alias(f"{c}_{when}") for c in ("accuracy", "low", "high"))
        )
        parts.append(named.rename({f"accuracy_{when}": when}))
    table = parts[0].join(parts[1], on=["teacher", "generation"]).join(rewards, on=["teacher", "generation"])
    assert taught.scores is not None
    names = [metric.name for metric in select(config.compared)]
    scores = taught.scores.filter(pl.col("metric").is_in(names), pl.col("preset") == "")
    wide = scores.pivot("metric", index=["teacher", "generation"], values="value")
    means = pl.all().exclude("teacher", "generation").mean()
    return (
        table.join(wide, on=["teacher", "generation"], how="left")
        .group_by("teacher", maintain_order=True)
        .agg(means)
        .sort(AFTER, descending=True)
    )


def _scores(table: pl.DataFrame) -> list[str]:
    return [name for name in table.columns if name in METRICS]


def _ordered(teachers: pl.DataFrame, *columns: str) -> bool:
    """Whether every teacher has a value, and they differ: in these columns and in the accuracy after GRPO."""
    values = teachers.select(*columns, AFTER)
    return len(values.drop_nulls()) == len(values) > 2 and all(values[name].n_unique() > 1 for name in values.columns)


def _points(table: pl.DataFrame, x: str) -> tuple[list[str], list[float], list[float]]:
    return table["teacher"].to_list(), table[x].to_list(), table[AFTER].to_list()


def survival(teachers: pl.DataFrame, config: BeyondSftConfig) -> Conclusion:
    """Spearman of accuracies before and after."""
    spearman = correlation(teachers[BEFORE], teachers[AFTER], "spearman", resamples=config.bootstrap.resamples)
    verdict = "keeps" if spearman.low > 0 else "is not shown to keep"
    spread = [f"{teachers[when].max() - teachers[when].min():.0f}" for when in (BEFORE, AFTER)]  # type: ignore[operator]
    answer = (
        f"GRPO {verdict} the order of the {spearman.n} teachers; accuracies lie {spread[0]} points apart "
        f"before and {spread[1]} after."
    )
    return _conclusion("Does the order of teachers survive reinforcement?", answer, spearman)


def prediction(teachers: pl.DataFrame, name: str, config: BeyondSftConfig) -> Conclusion:
    """Spearman of a score with the accuracies after reinforcement, beside that before."""
    metric = METRICS[name]
    before, after = (
        correlation(teachers[name], teachers[when], "spearman", resamples=config.bootstrap.resamples)
        for when in (BEFORE, AFTER)
    )
    right = after.value * metric.expected_sign > 0 and after.excludes_zero
    answer = (
        f"{metric.title} {'orders' if right else 'is not shown to order'} the teachers after GRPO; after fine-tuning it had "
        f"{before.text()}."
    )
    return _conclusion(f"Does {metric.title} predict the order after reinforcement?", answer, after)


def _conclusion(question: str, answer: str, spearman: Correlation) -> Conclusion:
    basis = f"n = {spearman.n} teachers, bootstrap over them; one run each"
    return Conclusion(question, answer, replace(spearman, basis=basis), "Spearman")


def _table(table: pl.DataFrame) -> str:
    names = _scores(table)
    header = [
        "taught by",
        "before [95 %]",
        "after [95 %]",
        "reward, first and last tenth",
        "answers without a verdict",
        "groups without a difference",
    ]
    rows = []
    for row in table.iter_rows(named=True):
        percent = [f"{row[w]:.1f} % {interval_text(row[f'low_{w}'], row[f'high_{w}'], '.1f')}" for w in (BEFORE, AFTER)]
        reward = ", ".join("none" if r is None else f"{r:.2f}" for r in (row["reward_first"], row["reward_last"]))
        scores = ["" if row[name] is None else f"{row[name]:.3f}" for name in names]
        rows.append(
            [row["teacher"], *percent, reward, *(f"{row[name]:.0%}" for name in ("ungradable", "idle")), *scores]
        )
    return markdown_table([*header, *(METRICS[name].title for name in names)], rows)
