"""Options that commands share."""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import click

from rsr.errors import InputError
from rsr.student.settings import BoundaryTokens, Dtype, HeadDtype, Rendering
from rsr.tokens.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

DATA = click.argument("data", nargs=-1, metavar="DATA...")
STUDENT = click.option("--student", metavar="MODEL", help="Model folder or hub name.")
SCORES = click.option(
    "--scores",
    metavar="FOLDER",
    help="Scores made before, instead of --student: their folder, or what `score --json` printed, - for standard input.",
)
OUTPUTS = click.option(
    "--outputs",
    type=click.Path(path_type=Path),
    default=Path("outputs"),
    show_default=True,
    help="Where scores are kept.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
METRIC = click.option("--metric", default="rsr", show_default=True, help="Metric to go by.")
PRESET = click.option("--preset", default="", help="Preset of the metric, such as 'r_max=50'.")
SAMPLE = click.option("--sample", type=click.IntRange(1), metavar="N", help="Only N problems of each dataset.")
ON_ERROR = click.option(
    "--on-error",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="Of a malformed record: stop, or leave it out and count it.",
)
FIELD = click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="OURS=THEIRS",
    help="Name of a field in the records, by ours, such as teacher=model or correct=is_right; repeatable.",
)

_DEFAULTS = Settings()
_SETTINGS = (
    click.option(
        "--dtype",
        type=click.Choice(get_args(Dtype)),
        default=_DEFAULTS.dtype,
        show_default=True,
        help="Of the weights; auto: bfloat16 where the device computes it in hardware, else float32.",
    ),
    click.option(
        "--head-dtype",
        type=click.Choice(get_args(HeadDtype)),
        default=_DEFAULTS.head_dtype,
        show_default=True,
        help="float32 computes the head in float32, which breaks ties of bfloat16.",
    ),
    click.option(
        "--expectations",
        is_flag=True,
        help="Keep the expected clipped rank too, which metrics such as calibrated_rsr need.",
    ),
    click.option(
        "--max-length",
        type=click.IntRange(1),
        metavar="TOKENS",
        help="Of a chat; longer ones are cut. [default: 32768, or the model's positions where it has fewer]",
    ),
    click.option("--beyond-positions", is_flag=True, help="Allow a --max-length beyond the model's positions."),
    click.option(
        "--template", metavar="NAME", help="Chat template: chatml, llama3 or a .jinja file. [default: its own]"
    ),
    click.option(
        "--template-variable",
        "template_variables",
        multiple=True,
        metavar="NAME=VALUE",
        help="Passed to the template; VALUE as in JSON, or text.",
    ),
    click.option(
        "--rendering",
        type=click.Choice(get_args(Rendering)),
        default=_DEFAULTS.rendering,
        show_default=True,
        help="Of chats of several turns: as training on the whole sees them, or every turn behind its own prefix.",
    ),
    click.option(
        "--boundary-tokens",
        type=click.Choice(get_args(BoundaryTokens)),
        default=_DEFAULTS.boundary_tokens,
        show_default=True,
        help="Tokens of a response that hold text of the template as well: leave them out, or score them.",
    ),
    click.option(
        "--device",
        help="Such as cuda:0 or cpu; auto spreads the weights over GPUs, memory and disk. [default: a GPU where there is one]",
    ),
    click.option(
        "--attention",
        help="Attention implementation of transformers. [default: sdpa where the model has it, else eager]",
    ),
    click.option(
        "--token-budget",
        type=click.IntRange(1),
        metavar="TOKENS",
        help="Padded tokens per forward pass. [default: what suits the device]",
    ),
    click.option("--revision", help="Of a model on the hub."),
    click.option("--trust-remote-code", is_flag=True, help="Run code that comes with the model."),
)


def settings_options(command: F) -> F:
    """The options of loading and scoring; a command gets them together, as `settings`."""

    @wraps(command)
    def with_settings(**given: Any) -> Any:
        own = {field.name: given.pop(field.name) for field in fields(Settings) if field.name in given}
        return command(settings=_settings(own), **given)

    for option in reversed(_SETTINGS):
        with_settings = option(with_settings)
    return cast(F, with_settings)


def _settings(options: dict[str, Any]) -> Settings:
    """Settings from options.

    Raises:
        UsageError: a template variable is not NAME=VALUE.
    """
    variables = {}
    for given in options.pop("template_variables"):
        name, equals, value = given.partition("=")
        if not (name and equals):
            raise click.UsageError(f"--template-variable {given!r} is not NAME=VALUE")
        variables[name] = _plain(value)
    return Settings(template_variables=variables, **options)


def _plain(text: str) -> Any:
    """true, false, null and numbers mean themselves, as in JSON; what is no JSON, or quoted, is text."""
    try:
        return json.loads(text.lower() if text.lower() in ("true", "false", "null") else text, parse_constant=str)
    except ValueError:
        return text


def fields_of(given: tuple[str, ...]) -> dict[str, str]:
    """Names of fields, by ours.

    Raises:
        UsageError: one is not OURS=THEIRS.
    """
    fields = {}
    for field in given:
        ours, equals, theirs = field.partition("=")
        if not (ours and equals and theirs):
            raise click.UsageError(f"--field {field!r} is not OURS=THEIRS")
        fields[ours] = theirs
    return fields


def names(given: str | None) -> list[str]:
    """Names with commas between."""
    return [name.strip() for name in given.split(",")] if given else []


def needs(data: tuple[str, ...], student: str | None) -> None:
    """Refuse a command without data or student.

    Raises:
        UsageError: one is missing.
    """
    if student is None:
        raise click.UsageError("Missing option '--student': a model folder or hub name.")
    if not data:
        raise click.UsageError("Missing argument 'DATA...': files or folders of trajectories.")


def scores_folder(given: str | Path) -> Path:
    """The folder of scores: named, or in what `rsr score --json` printed, in a file or on standard input ("-").

    Raises:
        InputError: it is not that.
    """
    path, piped = Path(given), str(given) == "-"
    if not piped and not (path.suffix == ".json" and path.is_file()):
        return path
    try:
        return Path(json.loads(sys.stdin.read() if piped else path.read_text(encoding="utf-8"))["folder"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{'standard input' if piped else path} is not what `rsr score --json` prints") from error


def check_writable(outputs: Path) -> None:
    """Refuse a place that cannot be written before a model is loaded for it.

    Raises:
        InputError: it cannot be made, or not be written.
    """
    from rsr.store.artefacts import writing

    with writing(outputs):
        outputs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=outputs):
            pass
