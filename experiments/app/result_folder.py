"""Result folders: tables as CSV and Markdown, figures, and a record of the run that made them."""

import json
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
from omegaconf import OmegaConf
from rich.console import Console
from rich.markdown import Markdown

from experiments.app.command_configs import RobustnessConfig
from experiments.app.entry import CONFIG, command_line, composed
from experiments.app.shared_configs import ROOT, PathsConfig, ScoreConfig, StudentConfig
from rsr.errors import InputError, printable
from rsr.store.artefacts import write_text, writing
from rsr.store.csv import write_csv

PLACES = ("model", "data")  # of what is given by its place; a name of configs/ stands for one
OF_RESULTS = ("student.model", "teachers.data", "student.source", "source")  # no two of these are in one folder
# What makes HTML of Markdown, and pictures and links, written out or by reference.
LEADS = re.compile(r"<(?=[A-Za-z/!?])|(?<=\])[(\[:]")
RECORDED = ("numpy", "scipy", "polars", "matplotlib", "hydra-core")


def folder_of(config: ScoreConfig | RobustnessConfig, name: str, *parts: str) -> Path:
    """Where an experiment's results go: named after the student, and the teachers where they are not the usual ones.

    Args:
        parts: what else tells results of the experiment apart.

    Raises:
        InputError: see `unmixed`.
    """
    usual = config.student.brings.get("teachers", "paper")
    teachers = [] if config.teachers.name == usual else [config.teachers.name]
    tracked = bool(config.teachers.teachers or config.teachers.recipe)
    return unmixed(
        root_of(config.student, config.paths, tracked) / name / "-".join([config.student.name, *teachers, *parts])
    )


def root_of(student: StudentConfig, paths: PathsConfig, tracked: bool = True) -> Path:
    """The folder of results: the checkout's for a student of `configs/`, `results` beside the outputs for a user's own.

    Args:
        tracked: whether the teachers are of a table or made on the spot; else the data are a user's own, too.
    """
    named = (ROOT / "configs" / "student" / f"{student.name}.yaml").is_file()
    given = paths.results != PathsConfig().results
    return paths.results if given or (named and tracked) else paths.outputs / "results"


def unmixed(folder: Path) -> Path:
    """A folder, which holds no results of another student or teachers of the same name.

    Raises:
        InputError: it does.
    """
    file, running = folder / f"{CONFIG}.yaml", composed()
    if running is None or not file.is_file():
        return folder
    before, now = OmegaConf.load(file), OmegaConf.create(running)
    for key in OF_RESULTS:
        group = key.partition(".")[0]
        named = (ROOT / "configs" / group / f"{OmegaConf.select(now, f'{group}.name')}.yaml").is_file()
        one, other = OmegaConf.select(before, key), OmegaConf.select(now, key)
        if one != other and not (named and key.endswith(PLACES)):
            raise InputError(
                f"{folder}: holds results of {key}={one}, these are of {other}: remove it, or give paths.results=FOLDER"
            )
    return folder


def provenance() -> dict[str, Any]:
    """The command, commit and versions behind a result."""
    return {
        "command": command_line(),
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in RECORDED},
    }


def _commit() -> str | None:
    """The checked-out commit, marked where tracked source differs from it; None outside a git checkout.

    Regenerated results are left out of the comparison: a result never shows itself as a change of the source.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!results")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + (" with uncommitted changes" if changed else "")


def publish(folder: Path, text: str, tables: Mapping[str, pl.DataFrame] | None = None, **facts: Any) -> None:
    """Write a result folder (table.md, the tables as CSV, run.json) and show the text.

    Raises:
        InputError: the folder cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in (tables or {}).items():
            write_csv(table, folder / name, digits=6)
        write_text(folder / "table.md", text := inert(text))
        write_record(folder, **facts)
    Console(width=120).print(Markdown(printable(text)))
    print(printable(f"Written to {folder}"))


def inert(markdown: str) -> str:
    """Markdown that shows the same and loads nothing, whatever names of teachers, metrics or folders stand in it."""
    return LEADS.sub(lambda found: f"&#{ord(found.group())};", markdown)


def write_record(folder: Path, **facts: Any) -> None:
    """Write run.json and, for `--repeat`, config.yaml beside the results of a run."""
    record = provenance() | facts
    (folder / "run.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if (config := composed()) is not None:
        (folder / f"{CONFIG}.yaml").write_text(config, encoding="utf-8")


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def markdown_list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)
