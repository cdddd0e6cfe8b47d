"""The tables, figures and record of a measured study."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from experiments.analysis import warnings
from experiments.app import result_folder, tracking
from experiments.app.entry import command_line
from experiments.app.shared_configs import CorrelationConfig
from experiments.paper.metric_table import Aggregates, Result, Table, compare
from experiments.reports.correlation import draw, grids, record
from experiments.stages import verification
from experiments.stages.evaluation import BASE
from experiments.study import aggregates
from experiments.study.study import StudyResult
from rsr.metrics import METRICS, Metric, select
from rsr.stats.effect import interval_text

DRAWN = ("rsr", "avg_surprisal", "avg_rank_clipped", "avg_token_length")
BESIDE = ("rsr", "avg_surprisal", "verified_accuracy")  # in the table of teachers


def report(study: StudyResult, config: CorrelationConfig, folder: Path) -> None:
    """Write and show everything a study has measured, of the cells that did not fail.

    Raises:
        InputError: results cannot be written.
    """
    if not study.grades:
        result_folder.publish(
            folder, "# No student was evaluated\n", {"runs.csv": study.runs.frame()}, source="measured"
        )
        return
    accuracies = study.performance(resamples=config.bootstrap.resamples, seed=config.bootstrap.seed).drop("seed")
    parts = ["# Scores and accuracies, measured", *_accuracies(accuracies, None, config)]
    tables = {"performance.csv": accuracies, "runs.csv": study.runs.frame()}
    if study.scores is not None and len(accuracies) > 1:
        verified = aggregates.verified(study, config)
        aggregated = aggregates.aggregates(study, accuracies, verified, config.student.name)
        teachers = aggregated.performance["teacher"].to_list()
        chosen, known = select(config.compared), aggregates.of_all_teachers(aggregated)
        metrics = [m for m in chosen if m.name in known]
        unknown = [m.title for m in chosen if m.name not in known]
        found_tables = [t for metric in metrics for t in aggregated.tables(metric, [config.student.name], teachers)]
        compared, flat = _with_an_order(found_tables)
        results = [r for table in compared for r in compare(table, None, config.bootstrap)]
        parts = ["# Scores and accuracies, measured", meaning(results)]
        parts += [config.teachers.caveat or "", *_accuracies(accuracies, aggregated, config)]
        parts += [*_correlations(results, metrics, aggregated, config), flat, _left_out(study)]
        parts += [f"Not measured of every teacher, and left out: {', '.join(unknown)}." if unknown else ""]
        parts += [*_generations(accuracies), verification.without_verdict(verified)]
        parts += [
            "## Diagnosis",
            result_folder.markdown_list(
                warnings.raised_by(compared, results, len(teachers)) or ["nothing conspicuous"]
            ),
        ]
        tables |= {
            "table.csv": pl.DataFrame([record(r, None) for r in results], infer_schema_length=None),
            "scores.csv": aggregated.scores,
        }
        if results:
            draw(folder, results, [t for t in compared if t.metric.name in DRAWN and not t.preset] or compared)
    parts += ["## Time", result_folder.markdown_list(_times(study, config))]
    parts += [f"Made by `{command_line()}`; commit and versions are in run.json, all digits in the .csv files."]
    tracking.prepare(config.tracking, config.paths.outputs)
    tracking.log(config.tracking, f"correlation {config.student.name}", tables)
    result_folder.publish(folder, "\n\n".join(part for part in parts if part) + "\n", tables, source="measured")


def _with_an_order(tables: Sequence[Table]) -> tuple[list[Table], str]:
    """The tables that have an order to correlate, and what is said of the others."""
    if any(len(table.teachers) < 3 for table in tables):
        return [], "Fewer than three teachers: there is no order to correlate scores with."
    if any(len(set(table.accuracy[0])) == 1 for table in tables):
        return [], "All students have the same accuracy: there is no order to correlate scores with."
    kept = [table for table in tables if len(set(table.scores[0])) > 1]
    flat = [table.metric.title for table in tables if len(set(table.scores[0])) == 1]
    return kept, f"The same for all teachers, and left out: {', '.join(flat)}." if flat else ""


def _left_out(study: StudyResult) -> str:
    teachers = aggregates.incomplete(study)
    return f"Left out of the correlations, since a cell of theirs failed: {', '.join(teachers)}." if teachers else ""


def meaning(results: Sequence[Result]) -> str:
    """What the coefficient of RSR says, in a sentence or two."""
    spearman = {r.label: r for r in results if r.coefficient == "spearman" and r.correlation}
    rsr = next((r for r in spearman.values() if r.metric is METRICS["rsr"] and not r.preset), None)
    if rsr is None or rsr.correlation is None:
        return ""
    c = rsr.correlation
    value = f"Spearman {c.text()}, n = {c.n} teachers"
    if not c.excludes_zero:
        said = f"**RSR does not tell these teachers apart**: {value}; the interval includes 0."
    elif c.value * rsr.metric.expected_sign > 0:
        said = f"**RSR orders these teachers as the paper says**, lower before better: {value}."
    else:
        said = f"**RSR prefers the worse of these teachers**: {value}."
    strongest = max(spearman.values(), key=lambda r: abs(r.correlation.value) if r.correlation else 0.0)
    if strongest is not rsr and strongest.correlation:
        s = strongest.correlation
        said += (
            f" The largest coefficient of the {len(spearman)} compared is {s.text()} of "
            f"{strongest.label}; it is the largest by choice after the fact."
        )
    return said


def _accuracies(accuracies: pl.DataFrame, aggregated: Aggregates | None, config: CorrelationConfig) -> list[str]:
    header = ["trained on", "accuracy [95 %]", "length", "truncated", "unanswered", "ungradable"]
    scores: dict[str, dict[str, float]] = {}
    if aggregated is not None:
        header += [METRICS[name].title for name in BESIDE]
        plain = aggregated.scores.filter(preset="")
        scores = {name: dict(plain.filter(metric=name).select("teacher", "value").iter_rows()) for name in BESIDE}
    by_accuracy = pl.concat(
        [
            accuracies.filter(teacher=BASE),
            accuracies.filter(pl.col("teacher") != BASE).sort("accuracy", descending=True),
        ]
    )
    rows = []
    for row in by_accuracy.iter_rows(named=True):
        name = (
            "nothing (the base student)"
            if row["teacher"] == BASE
            else f"{row['teacher']}/{row['generation']}".strip("/")
        )
        shares = [f"{row[column]:.1f} %" for column in ("truncated", "unanswered", "ungradable")]
        accuracy = f"{row['accuracy']:.1f} % {interval_text(row['low'], row['high'], '.1f')}"
        values = [scores[metric].get(row["teacher"]) for metric in scores]
        rows.append(
            [name, accuracy, f"{row['mean_length']:.0f}", *shares, *("" if v is None else f"{v:.3f}" for v in values)]
        )
    trained = aggregates.of_teachers(accuracies)["accuracy"].to_numpy()
    first = accuracies.row(0, named=True)
    lines = [
        f"Accuracy is Acc@{first['k']} over {first['problems']} problems of {first['benchmarks']}, its interval a bootstrap over "
        "problems; length in tokens."
    ]
    if len(trained) > 1:
        lines.append(f"Accuracies of trained students lie {trained.max() - trained.min():.1f} points apart.")
    return [
        f"## Accuracy after training {config.student.name}",
        result_folder.markdown_table(header, rows),
        " ".join(lines),
    ]


def _correlations(
    results: Sequence[Result], metrics: Sequence[Metric], aggregated: Aggregates, config: CorrelationConfig
) -> list[str]:
    if not results:
        return []
    parts = []
    for title, header, rows in grids(results):
        kept = [i for i, name in enumerate(header) if name != "printed"]
        parts += [
            f"## {title}",
            result_folder.markdown_table([header[i] for i in kept], [[row[i] for i in kept] for row in rows]),
        ]
    every = {r.label: r for r in results if r.coefficient == "spearman"}
    groups = {f"all {len(aggregated.performance)}": every}
    for name, teachers in aggregates.subsets(aggregated, config).items():
        subset_results = aggregates.over(teachers, metrics, aggregated, config)
        groups[f"{name} ({len(teachers)})"] = {r.label: r for r in subset_results}
    lines = [[label, *(_interval(group.get(label)) for group in groups.values())] for label in every]
    return [*parts, "## Spearman among some of the teachers", result_folder.markdown_table(["metric", *groups], lines)]


def _interval(r: Result | None) -> str:
    return r.correlation.text() if r and r.correlation else ""


def _generations(accuracies: pl.DataFrame) -> list[str]:
    lines = [
        f"{one} and {other}: Spearman {value:+.2f} between the accuracies of {n} teachers"
        for one, other, n, value in aggregates.stability(accuracies)
    ]
    return ["## The same order in another generation?", result_folder.markdown_list(lines)] if lines else []


def _times(study: StudyResult, config: CorrelationConfig) -> list[str]:
    lines = []
    for stage, runs in study.runs.frame().drop_nulls("seconds").group_by("stage", maintain_order=True):
        taken = runs["seconds"]
        lines.append(f"{stage[0]}: {taken.sum():.0f} s, summed over {len(taken)} cells")
    return lines
