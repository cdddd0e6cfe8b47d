"""A run leaves its configuration beside its results, and a command repeats it."""

import json

import pytest

pytestmark = pytest.mark.full


def content(folder):
    """Every file but the record of the run, without the command line that tables name."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "run.json")
    return {
        path.relative_to(folder): b"".join(
            line for line in path.read_bytes().splitlines(True) if b"Made by" not in line
        )
        for path in files
    }


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("correlation.py", ["student=qwen3b", "bootstrap.resamples=300", "metric=[rsr,avg_surprisal]"]),
        ("simulation.py", ["zipf=1.5", "share=0.1"]),
    ],
)
def test_a_repeated_run_gives_the_same_files(run, tmp_path, script, options):
    first = run(script, *options, "paths.results=one")
    assert first.returncode == 0, first.stderr
    (config,) = (tmp_path / "one").rglob("config.yaml")
    (tmp_path / "one").rename(tmp_path / "kept")
    kept = tmp_path / "kept" / config.relative_to(tmp_path / "one").parent
    again = run(script, "--repeat", str(kept))
    assert again.returncode == 0, again.stderr
    assert content(tmp_path / "one") == content(tmp_path / "kept")
    record = json.loads(next((tmp_path / "one").rglob("run.json")).read_text())
    assert "--repeat" in record["command"]


def test_what_cannot_be_repeated_is_said_in_a_line(run, tmp_path):
    missing = run("tables.py", "--repeat", "nowhere")
    assert missing.returncode == 1 and missing.stderr.startswith("error: nowhere/config.yaml: no such file")
    assert run("simulation.py", "paths.results=one").returncode == 0
    other = run("tables.py", "--repeat", "one/simulation")
    assert other.returncode == 1 and "repeat it with that one" in other.stderr and len(other.stderr.splitlines()) == 1
    changed = run("simulation.py", "--repeat", "one/simulation", "zipff=2")
    assert changed.returncode == 2 and "zipff" in changed.stderr
