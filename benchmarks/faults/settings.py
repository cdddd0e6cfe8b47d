"""Bad overrides of every command, generated from the schemas of its configuration: each must be refused in one line."""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.app.entry import settings_of
from experiments.app.shared_configs import ROOT
from rsr.errors import InputError

CONFIGS = ROOT / "configs"
# Lists that say of themselves what an empty one means: all, or none.
MAY_BE_EMPTY = {"teachers", "generations", "selections", "fewer", "others"}
MAY_BE_EMPTY |= {"rank_power", "surprisal_power", "r_max", "filter_share", "sample_size"}
LARGE = 99_999_999_999
REFUSED, TAKEN = "refused", "taken"


def commands() -> list[str]:
    """Names of the commands that have a configuration; their modules are imported, which registers the schemas."""
    names = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    for name in names:
        importlib.import_module(f"experiments.{name}")
    return names


def schema_of(command: str) -> type[Any]:
    """The dataclass of a command's configuration."""
    node = ConfigStore.instance().load(f"{command}_schema.yaml").node
    return OmegaConf.get_type(node) or type(node)


def bad_overrides(schema: type[Any], name: str = "") -> Iterator[str]:
    """Overrides that no command may take, by the types of its settings."""
    hints = get_type_hints(schema)
    for field in fields(schema):
        path = f"{name}.{field.name}".removeprefix(".")
        yield from _bad(path, field.name, _bare(hints[field.name]))
    if name:
        yield f"{name}.no_such_setting=1"


def _bare(hint: Any) -> Any:
    """A type without its None."""
    if get_origin(hint) in (Union, UnionType):
        (hint,) = [one for one in get_args(hint) if one is not type(None)]
    return hint


def _bad(path: str, name: str, hint: Any) -> Iterator[str]:
    if is_dataclass(hint) and isinstance(hint, type):
        yield from bad_overrides(hint, path)
    elif hint is bool:
        yield f"{path}=perhaps"
    elif hint is int:
        yield from (f"{path}={value}" for value in (-1, LARGE, "nan", "1.5", "text"))
    elif hint is float:
        yield from (f"{path}={value}" for value in (-1, "nan", "inf", "text"))
    elif isinstance(hint, type) and issubclass(hint, Enum):
        yield f"{path}=nonsense"
    elif get_origin(hint) is list:
        (of,) = get_args(hint)
        yield f"{path}=text"
        if name not in MAY_BE_EMPTY:
            yield f"{path}=[]"
        if of in (int, float):
            yield from (f"{path}=[{value}]" for value in (-1, "nan", "text"))
            if of is int:
                yield f"{path}=[{LARGE}]"


def outcome(command: str, override: str) -> str:
    """Whether an override is refused in one line, taken, or ends in a traceback (its error)."""
    student = [] if "student: ???" not in (CONFIGS / f"{command}.yaml").read_text() else ["student=miniature"]
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            settings_of(compose(command, overrides=[*student, override]), schema_of(command))
    except (InputError, HydraException, OmegaConfBaseException, AssertionError):  # the last is Hydra's
        return REFUSED
    except Exception as error:
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    return TAKEN


def overrides() -> list[tuple[str, str]]:
    """Every command with its bad overrides; one that several commands share is of the first."""
    first: dict[str, str] = {}
    for command in commands():
        for override in bad_overrides(schema_of(command)):
            first.setdefault(override, command)
    return [(command, override) for override, command in first.items()]


def tried(cases: Sequence[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """Command, override and outcome."""
    return [(command, override, outcome(command, override)) for command, override in cases]
