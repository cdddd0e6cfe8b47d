"""The command `rsr select`, and the options of a selection."""

from dataclasses import fields
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import click

from rsr.cli import options
from rsr.cli.answers import Answers, answer_options
from rsr.cli.commands import scored
from rsr.cli.options import F, needs, settings_options
from rsr.tokens.settings import Settings

if TYPE_CHECKING:
    from rsr.data.discovery import Source
    from rsr.metrics.score_tables import Scores
    from rsr.selection.matching import Match
    from rsr.selection.rules import Rule
    from rsr.selection.training_set import TrainingSet
    from rsr.selection.weights import Weights

# Those of rsr.selection.formats, which help does not import.
FORMATS = ("records", "messages", "prompt-completion", "sharegpt", "alpaca")
FILES = (".json", ".jsonl", ".parquet")

WEIGHTS = ("lark",)  # those of rsr.selection.weights

_SELECTION = (
    options.METRIC,
    options.PRESET,
    click.option(
        "--weights",
        type=click.Choice(WEIGHTS),
        help="Choose by the gain of this method instead of a metric, and write a column `weight` for trainers (LARK, arXiv "
        "2605.30651: with --per-problem 3 and --correct only or ignore).",
    ),
    click.option("--teachers", metavar="NAME,...", help="Only answers of these teachers."),
    click.option("--without", metavar="NAME,...", help="No answers of these teachers."),
    click.option("--min-response-tokens", type=int, metavar="N", help="No responses shorter than N tokens."),
    click.option(
        "--max-response-tokens", type=int, metavar="N", help="No responses longer than N tokens, and none that are cut."
    ),
    click.option(
        "--correct",
        type=click.Choice(["first", "only", "ignore"]),
        default="first",
        show_default=True,
        help="Prefer answers known to be correct, take only those, or do not look.",
    ),
    answer_options,
    click.option(
        "--distinct", is_flag=True, help="Of near-duplicates (80 % of runs of five words alike) only the best."
    ),
    click.option(
        "--per-problem",
        default="1",
        show_default=True,
        metavar="N|all",
        help="Keep the best N answers to each problem.",
    ),
    click.option("--by-prompt", is_flag=True, help="All answers to one prompt are one problem, whatever their ids."),
    click.option("--quota", type=int, metavar="N", help="At most N of each teacher, or of each --group."),
    click.option("--group", metavar="FIELD", help="Field of the records that --quota is over."),
    click.option("--top", type=int, metavar="N", help="The best N of what is left."),
    click.option("--share", type=float, metavar="X", help="The best share of what is left, such as 0.5."),
    click.option("--tokens", type=int, metavar="N", help="The best of what is left, up to N response tokens."),
    click.option(
        "--match",
        metavar="KIND=FOLDER",
        help="Then as large as the set in FOLDER: equal in tokens, rows, teachers (rows of each) or tokens_and_teachers.",
    ),
    click.option(
        "--against", multiple=True, metavar="FILE", help="Evaluation set; leave out what overlaps with it (repeatable)."
    ),
)


def selection_options(command: F) -> F:
    """The options of a selection, in the order in which they are applied; a command gets those of the rule together, as `rule`."""

    @wraps(command)
    def with_rule(*, per_problem: str, **given: Any) -> Any:
        from rsr.selection.rules import Rule

        source = click.get_current_context().get_parameter_source("metric")
        if given["weights"] and source is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError(f"--weights {given['weights']} chooses by its own gain: leave out --metric.")
        own = {field.name: given.pop(field.name) for field in fields(Rule) if field.name in given}
        return command(**given, rule=Rule(**own, per_problem=_count(per_problem)))

    decorated: Any = with_rule
    for option in reversed(_SELECTION):
        decorated = option(decorated)
    return cast(F, decorated)


@click.command()
@options.DATA
@options.STUDENT
@options.SCORES
@click.option(
    "--output",
    "-o",
    required=True,
    metavar="FOLDER|FILE|-",
    help="Folder to write; a .json, .jsonl or .parquet file holds the records alone, - prints them as JSON Lines.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="records",
    show_default=True,
    help="The records unchanged, or each trajectory as it was scored in another format.",
)
@selection_options
@options.SAMPLE
@options.FIELD
@options.OUTPUTS
@options.ON_ERROR
@settings_options
@options.JSON
def select(data: tuple[str, ...], student: str | None, output: str, form: Any, as_json: bool, **given: Any) -> None:
    """Choose a training set by the student's scores.

    Best of N per problem, then a quota, then a size. Writes the records unchanged in the format of DATA (or in another --format), with
    settings for TRL and LLaMA-Factory that learn the responses alone, selected.csv, left_out.csv and a manifest.
    """
    _, _, chosen = selected(data, student, **given)
    from rsr.cli.show import show_training_set

    if output == "-":
        for part in chosen.content(form, ".jsonl"):
            click.echo(part, nl=False)
        show_training_set(chosen, None)
        return
    if Path(output).suffix in FILES:
        written = chosen.write_file(output, form)
    else:
        written = chosen.write(output, form, student=student)
    if as_json:
        from rsr.cli.output import print_json

        covered, problems = chosen.problems
        counts = {"selected": len(chosen.trajectories), "problems": problems, "covered": covered}
        print_json({"file": written} | counts)
    else:
        show_training_set(chosen, written)


def selected(
    data: tuple[str, ...],
    student: str | None,
    *,
    scores: str | None,
    metric: str,
    preset: str,
    weights: "Weights | None",
    teachers: str | None,
    without: str | None,
    rule: "Rule",
    answers: Answers,
    by_prompt: bool,
    group: str | None,
    match: str | None,
    against: tuple[str, ...],
    sample: int | None,
    fields: tuple[str, ...],
    outputs: Path,
    on_error: Any,
    settings: Settings,
) -> "tuple[Scores, list[Source], TrainingSet]":
    """The scores of data, made where they are not there yet, what was read, and what is chosen of it."""
    from rsr.metrics.base import by_name

    by_name(metric)
    matched = _match(match)
    from rsr.data import contamination, discovery
    from rsr.metrics import score_tables
    from rsr.selection import training_set
    from rsr.selection.candidates import of_teachers

    keep = partial(of_teachers, teachers=options.names(teachers), without=options.names(without))
    for file in against:
        contamination.check(Path(file))
    if scores is not None:
        if student:
            raise click.UsageError("--scores and --student say the same: give one.")
        needs(data, scores)
        table = score_tables.read(options.scores_folder(scores))
        read = keep(discovery.read(data, sample=sample, on_error=on_error, fields=options.fields_of(fields)))
    else:
        needs(data, student)
        table, read = scored(student, data, [metric], sample, outputs, on_error, settings, fields, keep)
    from rsr.cli.answers import reading

    with reading(answers, read, outputs) as correctness:
        chosen = training_set.select(
            table,
            read,
            rule,
            metric=metric,
            preset=preset,
            weights=weights,
            group=group,
            by_prompt=by_prompt,
            correctness=correctness,
            against=against,
        )
    return table, read, chosen if matched is None else chosen.matched(*matched)


def _match(given: str | None) -> "tuple[Match, str] | None":
    """What is to be equal, and the folder of the set that it is to be equal to."""
    if given is None:
        return None
    from rsr.selection.matching import Match

    kind, _, folder = given.partition("=")
    if kind not in get_args(Match) or not folder:
        raise click.UsageError(f"--match {given!r} is not KIND=FOLDER: KIND is one of {', '.join(get_args(Match))}.")
    return cast(Match, kind), folder


def _count(per_problem: str) -> int | None:
    if per_problem == "all":
        return None
    try:
        return int(per_problem)
    except ValueError:
        raise click.UsageError(f"--per-problem {per_problem!r} is neither a number nor 'all'.") from None
