"""The command line, `rsr`.

Exit status: 0 done, 1 bad input, 2 wrong usage, 130 interrupted, 143 terminated, 141 the reader of a pipe went away. What is wrong is said
in one line on standard error. Nothing heavy is imported before a command needs it.
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from rsr import __version__
from rsr.cli.commands import compare, inspect, rank, score
from rsr.cli.reporting import report
from rsr.cli.selecting import select
from rsr.errors import check_text, in_one_line, printable, show_any_text
from rsr.student import threads

BAD_INPUT, USAGE, INTERRUPTED, BROKEN_PIPE, TERMINATED = 1, 2, 130, 141, 143


class Terminated(KeyboardInterrupt):
    """A scheduler has asked this process to end; it ends as after Ctrl-C."""


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 done, 1 bad input, 2 wrong usage, 130 interrupted, 143 terminated (the same command goes on).",
)
@click.version_option(__version__, prog_name="rsr")
@click.pass_context
def cli(context: click.Context) -> None:
    """Which reasoning trajectories will teach a student model best?

    The Rank-Surprisal Ratio (RSR) asks the student itself: lower is better.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (score, rank, select, report, inspect, compare):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its status."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(arguments))


def _terminate(*_: Any) -> NoReturn:
    raise Terminated


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status."""
    threads.set_policy()
    show_any_text()
    typed = list(sys.argv[1:] if arguments is None else arguments)
    try:
        for argument in typed:
            check_text(argument)
        # Not `cli.main`, which would end a broken pipe its own way.
        with cli.make_context("rsr", typed) as context:
            cli.invoke(context)
        sys.stdout.flush()
        return 0
    except click.exceptions.Exit as ended:  # of --help and --version
        return ended.exit_code
    except click.ClickException as error:
        return _fail(USAGE, f"error: {error.format_message()}")
    except KeyboardInterrupt as ended:
        status, how = (TERMINATED, "terminated") if isinstance(ended, Terminated) else (INTERRUPTED, "interrupted")
        return _fail(status, f"{how}: what is finished is kept, the same command goes on")
    except BrokenPipeError:
        _close_output()
        return BROKEN_PIPE
    except Exception as error:
        if (said := in_one_line(error)) is None:
            raise
        if isinstance(error, OSError):
            _close_output()
        return _fail(BAD_INPUT, f"error: {said}")


def _fail(status: int, line: str) -> int:
    try:
        print(printable(" ".join(line.split())), file=sys.stderr, flush=True)
    except OSError:
        return status
    return status


def _close_output() -> None:
    """Keep the interpreter from writing to a closed pipe again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
