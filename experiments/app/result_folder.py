"""Result folders: tables as CSV and Markdown, figures, and a record of the run that made them."""

import json
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.markdown import Markdown

from experiments.app.entry import CONFIG, command_line, composed
from experiments.app.shared_configs import ROOT, StudyConfig
from rsr.errors import printable
from rsr.store.artefacts import writing

RECORDED = ("numpy", "scipy", "polars", "matplotlib", "hydra-core")


def folder_of(config: StudyConfig, name: str) -> Path:
    """Where an experiment's results go: named after the student, and the teachers where they are not the usual ones."""
    usual = config.student.brings.get("teachers", "paper")
    teachers = [] if config.teachers.name == usual else [config.teachers.name]
    return config.paths.results / name / "-".join([config.student.name, *teachers])


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
            table.write_csv(folder / name, float_precision=6)
        (folder / "table.md").write_text(text, encoding="utf-8")
        write_record(folder, **facts)
    Console(width=120).print(Markdown(printable(text)))
    print(f"Written to {folder}")


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
