"""The command `rsr select`."""

from pathlib import Path
from typing import Any

import click

from rsr.cli import options
from rsr.cli.commands import scored
from rsr.cli.options import needs, settings_options


@click.command()
@options.DATA
@options.STUDENT
@options.SCORES
@options.METRIC
@options.PRESET
@click.option("--output", "-o", required=True, metavar="FOLDER", help="Folder to write; - prints JSON Lines.")
@click.option(
    "--per-problem", default="1", show_default=True, metavar="N|all", help="Keep the best N answers to each problem."
)
@click.option("--by-prompt", is_flag=True, help="All answers to one prompt are one problem, whatever their ids.")
@click.option(
    "--correct",
    type=click.Choice(["first", "only", "ignore"]),
    default="first",
    show_default=True,
    help="Prefer answers known to be correct, take only those, or do not look.",
)
@click.option(
    "--answer",
    "answers",
    multiple=True,
    metavar="PLACE",
    help="Where a response says its answer: boxed, sentence, line, hashes, 'last number' or a regular expression; repeatable, the "
    "first that finds one counts. [default: boxed, sentence, line, hashes]",
)
@click.option("--quota", type=int, metavar="N", help="At most N of each teacher, or of each --group.")
@click.option("--group", metavar="FIELD", help="Field of the records that --quota is over.")
@click.option("--top", type=int, metavar="N", help="The best N of what is left.")
@click.option("--share", type=float, metavar="X", help="The best share of what is left, such as 0.5.")
@click.option("--tokens", type=int, metavar="N", help="The best of what is left, up to N response tokens.")
@click.option("--against", multiple=True, metavar="FILE", help="Evaluation set to look for overlap with (repeatable).")
@click.option("--as-messages", is_flag=True, help="Write messages as they were scored, not the records unchanged.")
@options.SAMPLE
@options.FIELD
@options.OUTPUTS
@options.ON_ERROR
@settings_options
@options.JSON
def select(
    data: tuple[str, ...],
    student: str | None,
    scores: str | None,
    metric: str,
    preset: str,
    output: str,
    per_problem: str,
    by_prompt: bool,
    correct: Any,
    answers: tuple[str, ...],
    quota: int | None,
    group: str | None,
    top: int | None,
    share: float | None,
    tokens: int | None,
    against: tuple[str, ...],
    as_messages: bool,
    sample: int | None,
    fields: tuple[str, ...],
    outputs: Path,
    on_error: Any,
    as_json: bool,
    **settings: Any,
) -> None:
    """Choose a training set by the student's scores.

    Best of N per problem, then a quota, then a size. Writes the records unchanged in the format of DATA, with
    dataset_info.json for LLaMA-Factory, selected.csv, left_out.csv and a manifest.
    """
    from rsr.metrics.base import by_name
    from rsr.selection.rules import Rule

    by_name(metric)
    rule = Rule(correct, _count(per_problem), quota, top, share, tokens)
    from rsr.data import contamination, discovery
    from rsr.grading.grader import USUAL
    from rsr.metrics import score_tables
    from rsr.selection import training_set

    for file in against:
        contamination.check(Path(file))
    if scores is not None:
        if student:
            raise click.UsageError("--scores and --student say the same: give one.")
        needs(data, scores)
        table, read = (
            score_tables.read(options.scores_folder(scores)),
            discovery.read(data, sample=sample, on_error=on_error, fields=options.fields_of(fields)),
        )
    else:
        needs(data, student)
        table, read = scored(student, data, sample, outputs, on_error, settings, fields)
    from rsr.cli.progress import answers_progress

    with answers_progress(read, rule) as graded:
        chosen = training_set.select(
            table,
            read,
            rule,
            metric=metric,
            preset=preset,
            group=group,
            by_prompt=by_prompt,
            graded=graded,
            answers=answers or USUAL,
        )
    chosen = chosen.against(against)
    if output == "-":
        from dataclasses import replace

        for part in replace(chosen, suffix=".jsonl").content(as_messages=as_messages):
            click.echo(part, nl=False)
        return
    written = chosen.write(output, as_messages=as_messages)
    if as_json:
        from rsr.cli.output import print_json

        print_json({"file": written, "manifest": Path(output) / "manifest.json", "selected": len(chosen.trajectories)})
    else:
        from rsr.cli.show import show_training_set

        show_training_set(chosen, written)


def _count(per_problem: str) -> int | None:
    if per_problem == "all":
        return None
    try:
        return int(per_problem)
    except ValueError:
        raise click.UsageError(f"--per-problem {per_problem!r} is neither a number nor 'all'.") from None
