"""The command `rsr report`."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from rsr.cli import options
from rsr.cli.options import settings_options
from rsr.cli.selecting import selected, selection_options
from rsr.tokens.settings import Settings


@click.command(short_help="One page of the ranking and a selection.")
@options.DATA
@options.STUDENT
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True, metavar="FILE"
)
@selection_options
@options.SAMPLE
@options.FIELD
@options.OUTPUTS
@options.ON_ERROR
@settings_options
def report(data: tuple[str, ...], student: str | None, output: Path, settings: Settings, **given: Any) -> None:
    """One page of the ranking and a selection: which teacher, what is selected, and examples token by token.

    Takes the options of `rsr select`. The page is one file that asks nothing of any host.
    """
    scores, read, chosen = selected(data, student, scores=None, settings=settings, **given)
    from rsr.cli.terminal import say
    from rsr.selection.ranking import rank
    from rsr.store.artefacts import write_text, writing
    from rsr.student.student import load_renderer
    from rsr.views.page import page
    from rsr.views.report import Material, body

    renderer = load_renderer(
        str(student),
        **settings.of_chats,
        revision=settings.revision,
        trust_remote_code=settings.trust_remote_code,
        seeing=True,
    )
    ranking = rank(scores.trajectories, chosen.metric, chosen.preset)
    name = scores.trajectories["student"][0]
    content = body(Material(scores, read, ranking, chosen, renderer))
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        write_text(output, page(f"Which teacher for {name}?", content, shlex.join(["rsr", *sys.argv[1:]])))
    say(f"Written to {output}")
