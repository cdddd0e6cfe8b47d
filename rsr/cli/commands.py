"""The commands. Each reads its options, calls a verb of `rsr.api`, and shows what it returns."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rsr.cli import options
from rsr.cli.answers import Answers, answer_options
from rsr.cli.options import needs, settings_options
from rsr.tokens.settings import Settings

if TYPE_CHECKING:
    from rsr.data.discovery import Source
    from rsr.data.trajectories import Dataset
    from rsr.metrics.score_tables import Scores
    from rsr.selection.ranking import By
    from rsr.selection.verdicts import Verdicts
    from rsr.tokens.score_dataset import Backend


@click.command()
@options.DATA
@options.STUDENT
@options.SAMPLE
@options.FIELD
@options.OUTPUTS
@options.ON_ERROR
@settings_options
@click.option(
    "--metrics",
    default="tokens",
    show_default=True,
    metavar="NAME,...",
    help="Metrics or groups: those of tokens come all together; text, steps, step_heads, responses_alone, activations and gradients are "
    "measured besides.",
)
@click.option(
    "--devices",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Share the work among N GPUs of this machine, or processes on a CPU, by Ray.",
)
@click.option("--dry-run", is_flag=True, help="Only say how many tokens, how long, how much memory and disk.")
@answer_options
@options.JSON
def score(
    data: tuple[str, ...],
    student: str | None,
    sample: int | None,
    fields: tuple[str, ...],
    outputs: Path,
    on_error: Any,
    metrics: str,
    devices: int,
    dry_run: bool,
    answers: Answers,
    as_json: bool,
    settings: Settings,
) -> None:
    """Score trajectories under a student, and count right answers where records say what is right.

    DATA are files or folders (teacher/generation.json) of chats in JSON, JSON Lines, Parquet or Arrow, or hub:OWNER/NAME on
    the hub; NAME=FILE names the teacher, - reads JSON Lines from standard input. Interrupted, the same command goes on.
    """
    needs(data, student)
    names = options.names(metrics)
    if dry_run:
        if devices > 1:
            raise click.UsageError("--dry-run tells of one device: leave out --devices.")
        from rsr.api import engine_of
        from rsr.cli.show import show_estimate
        from rsr.cli.terminal import say
        from rsr.tokens.dry_run import estimate

        read = read_first(student, data, sample, on_error, fields)
        scorer = engine_of(str(student), settings)
        say(
            "counting tokens, then scoring a few chats, a long one among them: on a CPU it may take minutes",
            stderr=True,
        )
        _show(estimate(scorer, [source.dataset for source in read], outputs), as_json, show_estimate)
        return
    scores, read = scored(
        student, data, names, sample, outputs, on_error, settings, fields, devices=devices, asked=True
    )
    verdicts = _verdicts(read, "dataset", answers, outputs) if _say_what_is_right(read) else {}
    if as_json:
        from rsr.cli.output import print_json
        from rsr.cli.terminal import say
        from rsr.metrics.score_tables import caveats

        say(*caveats(scores), stderr=True)
        print_json({"folder": scores.artefact.path, "datasets": scores.datasets, "verdicts": verdicts})
    else:
        from rsr.cli.terminal import show_scores

        show_scores(scores, names, verdicts)


@click.command(short_help="Order teachers (or datasets) for a student.")
@options.DATA
@options.STUDENT
@options.SCORES
@options.METRIC
@options.PRESET
@click.option(
    "--by",
    default="dataset",
    show_default=True,
    metavar="dataset|teacher|FIELD",
    help="Order generations, or teachers with their generations together; or generations within each value of a FIELD of the "
    "records, such as source, beside the order of all.",
)
@click.option("--resamples", type=click.IntRange(100), default=10_000, show_default=True, help="Of the bootstrap.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@answer_options
@options.SAMPLE
@options.FIELD
@options.OUTPUTS
@options.ON_ERROR
@settings_options
@options.JSON
def rank(
    data: tuple[str, ...],
    student: str | None,
    scores: str | None,
    metric: str,
    preset: str,
    by: Any,
    resamples: int,
    seed: int,
    answers: Answers,
    sample: int | None,
    fields: tuple[str, ...],
    outputs: Path,
    on_error: Any,
    as_json: bool,
    settings: Settings,
) -> None:
    """Order teachers (or datasets) for a student, and say how sure that order is.

    Scores DATA under the student first, where that was not done yet; with --scores it needs neither.
    """
    from rsr.metrics.base import by_name

    by_name(metric)
    by_field = by not in ("dataset", "teacher")
    if scores is not None:
        if student or (data and not by_field):
            raise click.UsageError("--scores says all: leave out --student and DATA.")
        from rsr.data import discovery
        from rsr.metrics import score_tables

        if by_field and not data:
            raise click.UsageError(f"--by {by}: fields are in the records: give DATA, too.")
        table = score_tables.read(options.scores_folder(scores))
        read = discovery.read(data, sample=sample, on_error=on_error, fields=options.fields_of(fields)) if data else []
    else:
        needs(data, student)
        from rsr.selection.groups import with_field

        keep = partial(with_field, field=by) if by_field else list
        table, read = scored(student, data, [metric], sample, outputs, on_error, settings, fields, keep)
    if by_field:
        from rsr.cli.show import show_groups
        from rsr.selection.groups import rank_by

        grouped = rank_by(table.trajectories, read, by, metric, preset, resamples=resamples, seed=seed)
        verdicts = _verdicts(read, "dataset", answers, outputs)
        _show(grouped, as_json, partial(show_groups, verdicts=verdicts), verdicts=verdicts)
        return
    from rsr.cli.show import show_ranking
    from rsr.selection.ranking import rank

    ranking = rank(table.trajectories, metric, preset, by=by, resamples=resamples, seed=seed)
    verdicts = _verdicts(read, by, answers, outputs)
    _show(ranking, as_json, partial(show_ranking, verdicts=verdicts), verdicts=verdicts)


@click.command(short_help="Look at one trajectory, token by token.")
@options.DATA
@options.STUDENT
@click.option(
    "--trajectory",
    default="0",
    show_default=True,
    metavar="ID",
    help="By id, or by place from 0; DATASET:ID where several datasets have it.",
)
@options.FIELD
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page instead.")
@click.option(
    "--tokens", type=click.IntRange(1), default=400, show_default=True, help="How many to show on the terminal."
)
@settings_options
@options.JSON
def inspect(
    data: tuple[str, ...],
    student: str | None,
    trajectory: str,
    fields: tuple[str, ...],
    html: Path | None,
    tokens: int,
    as_json: bool,
    settings: Settings,
) -> None:
    """Look at one trajectory: the rendered prompt, the mask, and every token's rank and surprisal."""
    needs(data, student)
    from rsr import api

    inspection = api.inspect(str(student), data, trajectory, fields=options.fields_of(fields), settings=settings)
    if html is not None:
        from rsr.cli.terminal import say
        from rsr.store.artefacts import write_text, writing

        with writing(html):
            write_text(html, inspection.to_html())
        say(f"Written to {html}", stderr=as_json)
    if as_json or html is None:
        from rsr.cli.show import show_inspection

        _show(inspection, as_json, lambda inspection: show_inspection(inspection, tokens))


@click.command(short_help="Compare two score sets.")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@options.JSON
def compare(first: Path, second: Path, as_json: bool) -> None:
    """Compare two score sets: how far do ranks, surprisals and orders agree?

    Each is a folder of scores (outputs/scores/...), what `rsr score --json` printed, or what the reference implementation
    writes: a .jsonl file of samples, or a folder of such files.
    """
    from rsr.metrics import score_sets

    sets = [score_sets.read(options.scores_folder(scores)) for scores in (first, second)]
    from rsr.cli.show import show_comparison
    from rsr.metrics import compare_scores

    _show(compare_scores.compare(*sets), as_json, show_comparison)


def _say_what_is_right(read: "Sequence[Source]") -> bool:
    """Whether any record says what the right answer is, or whether its own is right."""
    from rsr.grading.correctness import has_answer

    return any(t.correct is not None or has_answer(t) for source in read for t in source.dataset.trajectories)


def _verdicts(read: "Sequence[Source]", by: "By", answers: Answers, outputs: Path) -> "dict[str, Verdicts]":
    """The verdicts on the answers of what was read."""
    from rsr.cli.answers import reading
    from rsr.selection.verdicts import by_dataset

    with reading(answers, read, outputs) as correctness:
        return by_dataset(read, by, correctness)


def read_first(
    student: str | None, data: tuple[str, ...], sample: int | None, on_error: Any, fields: tuple[str, ...] = ()
) -> "list[Source]":
    """The sources; what is wrong with them shows before a model is loaded."""
    from rsr.data import discovery
    from rsr.student.pretrained import check

    check(str(student))
    read = discovery.read(data, sample=sample, on_error=on_error, fields=options.fields_of(fields))
    if len(read) == 1 and (named := discovery.perhaps_of_teachers(read[0])):
        from rsr.cli.terminal import say

        held = ", ".join(f"{field} ({values} values)" for field, values in named.items())
        told = f"{read[0].place} is taken as one teacher's; if a field of its records names several, --field teacher=NAME says so"
        say(f"note: {told}: they have {held}", stderr=True)
    return read


def scored(
    student: str | None,
    data: tuple[str, ...],
    metrics: Sequence[str],
    sample: int | None,
    outputs: Path,
    on_error: Any,
    settings: Settings,
    fields: tuple[str, ...] = (),
    keep: "Callable[[list[Source]], list[Source]]" = lambda read: read,
    *,
    devices: int = 1,
    asked: bool = False,
) -> "tuple[Scores, list[Source]]":
    """The scores of those sources that are to be kept, made where they are not there yet, and what was read.

    Args:
        asked: scoring is what was asked for, and its scores are shown. Where it is not, it is said before it starts, and what was
            left out of it is said here.
    """
    options.check_writable(outputs)
    from rsr.metrics.feature_tables import measurable

    others = measurable(metrics)
    read = keep(read_first(student, data, sample, on_error, fields))
    from rsr.api import label_of, score_sources, scorer_of
    from rsr.cli.progress import TokenProgress
    from rsr.cli.terminal import say
    from rsr.metrics.score_tables import caveats
    from rsr.stats.rounding import share
    from rsr.tokens.late_scorer import LateScorer

    scorer = scorer_of(str(student), settings)
    datasets = [source.dataset for source in read]
    _say_before(scorer, datasets, outputs, asked)
    with TokenProgress(datasets, passes=1 + len({metric.needs for metric in others})) as progress:
        scores = score_sources(
            scorer,
            read,
            outputs,
            metrics=metrics,
            label=label_of(data),
            on_error=on_error,
            devices=devices,
            progress=progress,
        )
    if isinstance(scorer, LateScorer) and not scorer.loaded and not progress.tokens:
        template = "its own template" if settings.template is None else f"template {settings.template}"
        say(
            f"found: {scorer.student.name} in {scorer.student.identity['dtype']} with {template}, nothing is scored anew",
            stderr=True,
        )
    elif progress.found and not others:
        say(
            f"found: {share(progress.found / progress.total)} of the text was scored before, the rest is scored anew",
            stderr=True,
        )
    if not asked:
        say(*caveats(scores), stderr=True)
    return scores, read


def _say_before(scorer: "Backend", datasets: "list[Dataset]", outputs: Path, asked: bool) -> None:
    """Say what is to be scored, and in which dtypes it is scored already."""
    from rsr.cli.terminal import say
    from rsr.tokens.score_dataset import is_scored, other_dtypes

    missing = [dataset for dataset in datasets if not is_scored(scorer, dataset, outputs)]
    if missing and not asked:
        said = f"{len(missing)} of {len(datasets)} datasets are not scored as a whole under {scorer.student.name}: that comes first"
        say(said, stderr=True)
    for dtype in sorted({dtype for dataset in missing for dtype in other_dtypes(scorer, dataset, outputs)}):
        say(f"note: {dtype} scores of this exist: --dtype {dtype} takes them", stderr=True)


def _show(value: Any, as_json: bool, show: Any, **beside: Any) -> None:
    """Show a value, or print it as JSON with what stands beside it."""
    if as_json:
        from rsr.cli.output import plain, print_json

        print_json({**plain(value), **plain(beside)})
    else:
        show(value)
