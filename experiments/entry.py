"""What every entry point shares: a typed configuration, and one clear line instead of a traceback."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from experiments.config import ROOT
from rsr.errors import InputError

C = TypeVar("C")


def entry(config_name: str, schema: type[C]) -> Callable[[Callable[[C], None]], Callable[[], None]]:
    """Turn a function of a typed configuration into a command.

    The configuration is configs/<config_name>.yaml, checked against the dataclass `schema`. A bad configuration exits
    with status 2, bad input with status 1, each with one line on standard error. In a sweep (-m) the jobs after one
    with bad input still run. RSR_TRACEBACK=1 shows the traceback instead.
    """
    ConfigStore.instance().store(name=f"{config_name}_schema", node=schema)

    def decorate(run: Callable[[C], None]) -> Callable[[], None]:
        failures: list[int] = []

        def fail(error: Exception) -> None:
            if os.environ.get("RSR_TRACEBACK") == "1":
                raise error
            bad_input = isinstance(error, InputError)
            print(f"error: {error if bad_input else _one_line(error)}", file=sys.stderr)
            failures.append(1 if bad_input else 2)

        @hydra.main(version_base="1.3", config_path=str(ROOT / "configs"), config_name=config_name)
        def task(config: DictConfig) -> None:
            # Errors that the user can mend are not raised through Hydra, which would add lines of its own.
            try:
                # Merging into the bare schema refuses what `+key=value` has added to it.
                plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
                run(cast(C, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), plain))))
            except (InputError, OmegaConfBaseException) as error:
                fail(error)

        def command() -> None:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises what goes wrong before the task
            try:
                task()
            except (HydraException, OmegaConfBaseException) as error:
                fail(error)
            if failures:
                sys.exit(max(failures))

        return command

    return decorate


def command_line() -> str:
    """The command that is running, as one would type it at the top of a checkout."""
    script, *arguments = sys.argv
    name = os.path.relpath(Path(script).resolve(), ROOT)
    return " ".join(["python", name, *(f"'{a}'" if set(a) & set(' []{}()*?$&|;<>"') else a for a in arguments)])


def _one_line(error: Exception) -> str:
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
