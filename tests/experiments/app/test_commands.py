"""What every command keeps: Ctrl-C is one line, and what its docstring shows can be typed."""

import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import experiments.score
import experiments.tables  # noqa: F401  registers its schema, as the other does
from experiments.app.entry import _brought, _open, _quoted
from experiments.app.shared_configs import ROOT

COMMANDS = sorted(path for path in (ROOT / "experiments").glob("*.py") if path.name != "__init__.py")
# What docstrings leave to the reader, and something of its kind.
PLACES = {"PATH_OR_HUB_NAME": "owner/name", "FOLDER": "./data", "FILE": "./data.jsonl", "NAME": "miniature"}


def shown(path):
    """The commands in a module's docstring, without their comments."""
    docstring = path.read_text(encoding="utf-8").split('"""')[1]
    lines = re.findall(r"^    (\S*(?:python|accelerate).*\.py.*)$", docstring, flags=re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


SHOWN = [(path, words) for path in COMMANDS for words in shown(path)]


def test_every_docstring_shows_a_command():
    assert {path for path, _ in SHOWN} == {*COMMANDS}


COMPOSED = [(path, words) for path, words in SHOWN if (ROOT / "configs" / f"{path.stem}.yaml").is_file()]


@pytest.mark.parametrize(("path", "words"), COMPOSED, ids=[" ".join(words[1:]) for _, words in COMPOSED])
def test_what_a_docstring_shows_composes(path, words):
    name, at = path.stem, next(i for i, word in enumerate(words) if word.endswith(".py"))
    assert words[at] == f"experiments/{path.name}"
    given = [re.sub(r"\b[A-Z_]{4,}\b", lambda place: PLACES[place.group()], word) for word in words[at + 1 :]]
    options = [_open(word) for word in given if word != "-m"]
    __import__(f"experiments.{name}")  # which registers its schema
    choices = [word.split("=", 1) for word in options]
    jobs = [f"{key}={value if value.startswith('[') else value.split(',')[0]}" for key, value in choices]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        OmegaConf.to_object(compose(name, overrides=[*jobs, *_brought(jobs, name)]))
    assert "-m" in words or all(value.startswith("[") or "," not in value for _, value in choices)


@pytest.mark.parametrize("name", ["модель", "学生 [v2]", "a[b", "it's", "{x", "one, two", "plain"])
def test_any_name_is_a_value(name):
    """Hydra's grammar has no letters but those of ASCII, and takes brackets for its own."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        composed = compose("tables", overrides=[_quoted(f"paths.results={name}")])
    assert str(composed.paths.results) == name


def test_a_path_of_any_name_stands_for_a_student(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("модель", "gpt[v2]", "one, two"):
        (tmp_path / name).mkdir()
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            composed = compose("score", overrides=[_open(f"student={name}")])
        assert composed.student.model == name
    too_long = f"student={'x' * 300}"
    assert _open(too_long) == too_long


def test_a_comma_is_part_of_a_path_where_nothing_is_swept():
    assert _quoted("paths.outputs=one, two") == "paths.outputs='one, two'"
    assert _quoted("paths.outputs=one,two", sweeps=True) == "paths.outputs=one,two"
    assert _quoted("bootstrap.seed=1,2") == "bootstrap.seed=1,2"  # Hydra says how a sweep is asked for


def test_what_is_no_text_is_refused_in_one_line(tmp_path):
    command: list[str | bytes] = [sys.executable, str(ROOT / "experiments" / "tables.py"), b"paths.results=\xff"]
    ended = subprocess.run(command, capture_output=True, cwd=tmp_path)
    assert ended.returncode == 1 and ended.stderr.count(b"\n") == 1 and b"no UTF-8 text" in ended.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.full
@pytest.mark.parametrize(("by", "how"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_signal_is_one_line_while_modules_are_imported(tmp_path, by, how):
    command = [sys.executable, str(ROOT / "experiments" / "score.py"), "student=smollm2", f"paths.outputs={tmp_path}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=tmp_path)
    while "polars" not in Path(f"/proc/{process.pid}/maps").read_text():
        time.sleep(0.005)
    process.send_signal(by)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + by, f"{how}: what is finished is kept, the same command goes on\n")
