"""What every entry point shares: a typed configuration, and one clear line instead of a traceback."""

import hashlib
import os
import sys
from collections.abc import Callable
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, cast

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from experiments.app.shared_configs import ROOT, refuse_hidden, refuse_senseless
from rsr.errors import InputError, check_text, in_one_line, printable, show_any_text, without_keys
from rsr.store.locks import process_name
from rsr.student import threads

C = TypeVar("C")

REPEAT, CONFIG = "--repeat", "config"  # the option, and the name of the file that it reads
OF_FILES = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp")  # Hydra's options before a name
SWEEPS = {"-m", "--multirun"}
ENGINES = ("submitit", "ray")  # modules of what they raise when a job is killed or never starts

# Groups whose value may also be a folder, a file or a hub name, and the configuration that it then stands for.
OPEN_GROUPS: dict[str, Callable[[str], dict[str, Any]]] = {
    "student": lambda value: {"name": Path(value).name, "model": value},
    "teachers": lambda value: {"name": Path(value.removeprefix("hub:")).stem, "data": value},
}


def entry(
    config_name: str, schema: type[C], *, open_groups: bool = False
) -> Callable[[Callable[[C], None]], Callable[[], None]]:
    """Turn a function of a typed configuration into a command.

    The configuration is configs/<config_name>.yaml, checked against the dataclass `schema`. A bad configuration exits
    with status 2, bad input with status 1, each with one line on standard error. In a sweep (-m) the jobs after one
    with bad input still run. With `open_groups` a student or teachers may be given as a path or hub name. RSR_TRACEBACK=1 shows the traceback instead.
    """
    ConfigStore.instance().store(name=f"{config_name}_schema", node=schema)

    def decorate(run: Callable[[C], None]) -> Callable[[], None]:
        failures: list[int] = []
        here = process_name()

        def fail(error: Exception) -> None:
            if os.environ.get("RSR_TRACEBACK") == "1":
                raise error
            print(f"error: {printable(without_keys(_said(error) or str(error)))}", file=sys.stderr)
            failures.append(2 if isinstance(error, (HydraException, OmegaConfBaseException)) else 1)

        @hydra.main(version_base="1.3", config_path=str(ROOT / "configs"), config_name=config_name)
        def task(config: DictConfig) -> None:
            global _running
            _running = config_name, config
            sys.argv[:] = map(without_keys, sys.argv)  # which trackers record
            # Errors that the user can mend are not raised through Hydra, which would add lines of its own.
            try:
                run(settings_of(config, schema))
            except Exception as error:
                # An error in a launcher's job elsewhere Hydra takes back to the command.
                if _said(error) is None or process_name() != here:
                    raise
                fail(error)

        @wraps(run)
        def command() -> None:
            threads.set_policy()
            show_any_text()
            failures.clear()
            try:
                check_text(sys.argv[0])
                sys.argv[1:] = _as_hydra_reads(sys.argv[1:], config_name, open_groups=open_groups)
            except InputError as error:
                fail(error)
                sys.exit(max(failures))
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises what goes wrong before the task
            try:
                task()
            except Exception as raised:
                mended = _for_user(raised)
                if _said(mended) is None:
                    raise
                fail(mended)
            if failures:
                sys.exit(max(failures))

        return command

    return decorate


def _as_hydra_reads(typed: list[str], config_name: str, *, open_groups: bool) -> list[str]:
    """Arguments with what they repeat, open and bring along, quoted for Hydra.

    Raises:
        InputError: one is no UTF-8 text, or what is repeated or brought cannot be read.
    """
    for argument in typed:
        check_text(argument)
    arguments = _repeated(typed, config_name)
    if open_groups:
        arguments = [_open(argument) for argument in arguments]
    sweeps = not SWEEPS.isdisjoint(arguments)
    arguments = [_quoted(a, sweeps) if before not in OF_FILES else a for before, a in pairwise(["", *arguments])]
    arguments = [*_for_help(arguments, config_name), *arguments]
    # Beside the others: Hydra reads options of one stretch, before or after its flags.
    first = next((i for i, argument in enumerate(arguments) if _is_option(argument)), 0)
    return [*arguments[:first], *_brought(arguments, config_name), *arguments[first:]]


def _for_user(error: Exception) -> Exception:
    """What a launcher or Hydra raises where the user can mend it; any other error as it is."""
    if type(error).__module__.startswith(ENGINES):
        line = str(error).strip().partition("\n")[0]
        return InputError(f"a job ended before its time, the same command goes on: {line}")
    if isinstance(error, AssertionError) and _running is None:  # Hydra's own, of a part of what is null
        return InputError("an override is of a part of a setting that is null: give the whole of it")
    return error


def settings_of(config: DictConfig, schema: type[C]) -> C:
    """A composed configuration as its dataclass.

    Raises:
        InputError: a setting is out of its range.
        OmegaConfBaseException: one is unknown, missing or of another type.
    """
    # Merging into the bare schema refuses what `+key=value` has added to it.
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    refuse_hidden(plain)
    settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), plain))
    refuse_senseless(settings)
    return cast(C, settings)


def _open(argument: str) -> str:
    """Register the paths and hub names of an override as options of its group, under names that Hydra takes."""
    group, equals, values = argument.partition("=")
    if not equals or group not in OPEN_GROUPS:
        return argument

    def option(value: str) -> str:
        known = _is_there(ROOT / "configs" / group / f"{value}.yaml")
        if known or not ("/" in value or value.startswith("hub:") or _is_there(value)):
            return value
        readable = "".join(c if c.isascii() and c.isalnum() else "-" for c in value)
        name = f"given-{hashlib.sha256(value.encode()).hexdigest()[:8]}-{readable}"
        ConfigStore.instance().store(group=group, name=name, node=OPEN_GROUPS[group](value))
        return name

    given = [values] if _is_there(values) else values.split(",")  # a comma may be part of a name
    return f"{group}={','.join(map(option, given))}"


def _is_there(place: str | Path) -> bool:
    """Whether there is such a file or folder; what is too long for a name is none."""
    try:
        return Path(place).exists()
    except OSError:
        return False


def _quoted(argument: str, sweeps: bool = False) -> str:
    """An override whose value Hydra's grammar cannot read (letters of other alphabets, brackets that are open), as a quoted text;
    so is a path with a comma, where no comma can part the values of a sweep.
    """
    name, equals, value = argument.partition("=")
    if not _is_option(argument) or not equals:
        return argument
    try:
        choices = OverridesParser.create().parse_override(argument).is_sweep_override()
    except HydraException:
        choices = None
    if choices is None or (choices and not sweeps and (name.startswith("paths.") or _is_there(value))):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"{name}='{escaped}'"
    return argument


def _is_option(argument: str) -> bool:
    return "=" in argument and not argument.startswith("-")


def _brought(arguments: list[str], config_name: str) -> list[str]:
    """Options that the chosen student brings for groups of this command that are not given (`StudentConfig.brings`).

    Raises:
        InputError: the students of a sweep bring different ones.
    """
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    students = [ROOT / "configs" / "student" / f"{name}.yaml" for name in given.get("student", "").split(",")]
    brought = [dict(_yaml(path).get("brings") or {}) for path in students if _is_there(path)]
    defaults = _yaml(ROOT / "configs" / f"{config_name}.yaml").defaults
    groups = {str(group) for default in defaults if isinstance(default, DictConfig) for group in default}
    options = []
    for group in sorted(groups - set(given)):
        choices = {overrides.get(group) for overrides in brought}
        if len(choices) > 1:
            raise InputError(f"the students of this sweep have different {group}: choose one with {group}=...")
        options += [f"{group}={choice}" for choice in choices if choice]
    return options


def _for_help(arguments: list[str], config_name: str) -> list[str]:
    """A student for help, which shows a composed configuration, where one is to be chosen and none is."""
    defaults = OmegaConf.to_container(_yaml(ROOT / "configs" / f"{config_name}.yaml").defaults)
    asked = not {"-h", "--help"}.isdisjoint(arguments) and not any(a.startswith("student=") for a in arguments)
    return ["student=miniature"] if asked and {"student": "???"} in cast(list[Any], defaults) else []


def _yaml(path: Path) -> DictConfig:
    return cast(DictConfig, OmegaConf.load(path))


def _repeated(arguments: list[str], command: str) -> list[str]:
    """Arguments with `--repeat FOLDER` put in Hydra's terms: the configuration that a run left there.

    Raises:
        InputError: there is none, or another command's.
    """
    if REPEAT not in arguments:
        return arguments
    at = arguments.index(REPEAT)
    folder = Path(arguments[at + 1]) if at + 1 < len(arguments) else Path()
    file = folder / f"{CONFIG}.yaml"
    if not file.is_file():
        raise InputError(f"{file}: no such file; give {REPEAT} a folder in which a run left its {CONFIG}.yaml")
    try:
        text = file.read_text(encoding="utf-8")
        OmegaConf.create(text)
    except (OSError, ValueError, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{file}: cannot be read ({reason}): repeat another run, or write its settings anew"
        ) from error
    made_by = text.partition("\n")[0]
    if made_by != _header(command):
        raise InputError(f"{file} is of another command ({made_by.removeprefix('# ')}); repeat it with that one")
    return [*arguments[:at], "--config-dir", str(folder.resolve()), "--config-name", CONFIG, *arguments[at + 2 :]]


def _header(command: str) -> str:
    return f"# python experiments/{command}.py {REPEAT} FOLDER"


def composed() -> str | None:
    """The configuration that is running, as a file that `--repeat` takes; None where no command is.

    Default folders are left to the checkout, and keys in URLs are hidden.
    """
    if _running is None:
        return None
    command, composed = _running
    config = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(config, dict)
    paths = {name: str(path) for name, path in config.pop("paths", {}).items() if not Path(path).is_relative_to(ROOT)}
    defaults = {"defaults": [{"hydra": "default"}, "_self_"]}
    return f"{_header(command)}\n{without_keys(OmegaConf.to_yaml(defaults | config | ({'paths': paths} if paths else {})))}"


_running: tuple[str, DictConfig] | None = None  # the command of this process, and its configuration
_TYPED = list(sys.argv)  # before `_open` replaces paths


def command_line() -> str:
    """The command that is running, as one would type it at the top of a checkout."""
    script, *arguments = _TYPED
    name = os.path.relpath(Path(script).resolve(), ROOT)
    shown = map(without_keys, arguments)
    return " ".join(["python", name, *(f"'{a}'" if set(a) & set(' []{}()*?$&|;<>"') else a for a in shown)])


def _said(error: Exception) -> str | None:
    """The line for an error that the user can mend; None of a fault of this program."""
    if not isinstance(error, (HydraException, OmegaConfBaseException)):
        return in_one_line(error)
    if isinstance(error, MissingMandatoryValue):
        return f"missing value: give {getattr(error, 'full_key', None) or error}=..."
    cause: Any = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    key = getattr(cause, "full_key", None)
    lines = [line.strip() for line in f"{error}\n{cause}".splitlines()]
    noise = (
        "full_key",
        "object_type",
        "reference_type",
        "To append",
        "Set the environment",
        "Config search",
        "provider=",
    )
    kept = list(dict.fromkeys(line for line in lines if line and not line.startswith(noise)))
    return " ".join(kept) + (f" (key: {key})" if key and key not in " ".join(kept) else "")
