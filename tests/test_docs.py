"""The documentation builds without a warning, and every command in it runs."""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import rsr.cli
from experiments.app.shared_configs import ROOT
from experiments.community import check
from rsr import score
from rsr.errors import InputError
from rsr.metrics import METRICS
from tests.clients import PROMPT, chat, replies, teachers, write
from tests.models import save

# A fenced block, with the mark in the comment before it: run, run: checkout, or not run and why.
BLOCK = re.compile(r"(?:<!-- ([^\n]*) -->\n)?```(sh|python)\n(.*?)```", re.DOTALL)
# A row of the README's first table: metric, coefficient, published value, recomputed value and interval, verdict.
HEADLINE = re.compile(r"^\| ([^|]+), (\w+) \| ([\d.]+) \| (\S+) \[(\S+), (\S+)\] \| ([^|]+) \|", re.MULTILINE)
PAGES = sorted((ROOT / "docs").glob("*.md"))
SHOWN = {
    "api.md": ["import rsr\n"],
}  # not run: no effect


def blocks(path):
    return [(mark, language, code) for mark, language, code in BLOCK.findall(path.read_text())]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_block_is_marked(page):
    unmarked = [code for mark, _, code in blocks(page) if not mark]
    assert all(any(code.startswith(s) for s in SHOWN.get(page.name, [])) for code in unmarked), unmarked


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A folder as a reader of the documentation has it."""
    folder = tmp_path_factory.mktemp("reader")
    save(folder / "student")
    teachers(folder / "data")
    write(folder / "mine.jsonl", [chat(i, r) for i, r in enumerate(replies("mine", 3))])
    write(folder / "test.jsonl", [{"problem": PROMPT.format(i=1)}])
    return folder


@pytest.mark.full
@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda p: p.name)
def test_every_command_runs(page, reader, monkeypatch, capfd):
    for output in ("selected", "half", "from-one", "half-from-python", "checked", "new", "right", "for-trl"):
        shutil.rmtree(reader / output, ignore_errors=True)
    monkeypatch.chdir(reader)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    for mark, language, code in blocks(page):
        if mark == "run: checkout":
            subprocess.run(["bash", "-euo", "pipefail", "-c", code], cwd=ROOT, check=True)
        elif mark == "run" and language == "python":
            exec(compile(code, page.name, "exec"), {"__name__": "__main__"})
        elif mark == "run":
            for line in code.strip().splitlines():
                run_line(line)
        assert "Traceback" not in capfd.readouterr().err
    METRICS.pop("surprising_share", None)


def run_line(line):
    """`rsr`, with its output perhaps to a file, runs in this process, which has torch already; a pipeline in a shell."""
    words = shlex.split(line, comments=True)
    if words[0] == "rsr" and not set(line) & set("|$"):
        command, file = (words[:-2], words[-1]) if ">" in words else (words, os.devnull)
        with Path(file).open("w") as out, contextlib.redirect_stdout(out):
            assert rsr.cli.run(command[1:]) == 0, line
    else:
        subprocess.run(["bash", "-euo", "pipefail", "-c", line], check=True)


@pytest.mark.full
def test_the_documentation_builds_and_warnings_are_errors(tmp_path):
    mkdocs = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path)]
    built = subprocess.run(mkdocs, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    cards = (tmp_path / "metrics.html").read_text()
    assert all(f"<code>{name}</code>" in cards for name in METRICS)
    reference = (tmp_path / "cli.html").read_text()
    assert all(
        f"{verb}" in reference
        for verb in ("rsr score", "rsr rank", "rsr select", "rsr report", "rsr inspect", "rsr compare")
    )
    assert "by_prompt" in (tmp_path / "api.html").read_text()


# --- the README -------------------------------------------------------------------------------------------------------


def test_the_readme_names_every_room():
    tree = (ROOT / "README.md").read_text().split("## The tree")[1]
    rooms = [folder.name for top in ("rsr", "experiments") for folder in (ROOT / top).iterdir() if folder.is_dir()]
    assert [room for room in rooms if room != "__pycache__" and f"\n  {room}/ " not in tree] == []


def test_the_headline_table_has_the_numbers_of_the_results():
    results = pl.read_csv(ROOT / "results" / "correlation" / "all" / "table.csv").filter(student="average")
    titles = {metric.title: metric.name for metric in METRICS.values()}
    rows = HEADLINE.findall((ROOT / "README.md").read_text())
    assert len(rows) == 5
    for title, coefficient, published, value, low, high, verdict in rows:
        cells = results.filter(
            metric=titles[title], preset="", coefficient=coefficient.lower(), printed=float(published), verdict=verdict
        )
        recomputed = cells.select("value", "low", "high").row(0)
        assert recomputed == pytest.approx((float(value), float(low), float(high)), abs=0.0005)


# --- contributed tables ----------------------------------------------------------------------------------------------


@pytest.fixture
def contribution(reader, tmp_path):
    made = score(reader / "student", reader / "data", outputs=reader / "outputs").artefact.path
    folder = tmp_path / made.name
    folder.mkdir()
    for name in ("manifest.json", "datasets.csv"):
        shutil.copy(made / name, folder)
    (folder / "README.md").write_text("Made here.")
    return folder


@pytest.mark.full
def test_a_contribution_is_what_it_says(contribution):
    assert check(contribution) == 2 * sum(len(m.presets) for m in METRICS.values() if m.needs == "tokens")
    shown = (ROOT / "results" / "community").iterdir()
    assert all(check(folder) for folder in shown if folder.is_dir())


@pytest.mark.full
@pytest.mark.parametrize("wrong", ["key", "value", "row", "count", "name", "file", "stage"])
def test_a_contribution_that_was_changed_is_refused(contribution, wrong):
    table, manifest = contribution / "datasets.csv", contribution / "manifest.json"
    lines, facts = table.read_text().splitlines(), json.loads(manifest.read_text())
    if wrong == "key":
        facts["key"]["bootstrap"] = [1, 2]
    elif wrong == "stage":
        facts["key"]["stage"] = "tokens"
    elif wrong == "count":
        facts["datasets"][0]["counts"]["trajectories"] += 1
    elif wrong == "value":
        cells = lines[1].split(",")
        cells[5] = "99.5"
        lines[1] = ",".join(cells)
    elif wrong == "row":
        lines.pop()
    elif wrong == "file":
        (contribution / "weights.bin").write_bytes(b"")
    else:
        contribution = contribution.rename(contribution.with_name("better-00000000"))
        table, manifest = contribution / "datasets.csv", contribution / "manifest.json"
    table.write_text("\n".join(lines) + "\n")
    manifest.write_text(json.dumps(facts))
    with pytest.raises(InputError):
        check(contribution)
