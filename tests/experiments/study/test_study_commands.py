"""The commands over printed numbers, and that results/ holds what they make."""

import re

import polars as pl
import pytest

from experiments.app.shared_configs import PathsConfig

pytestmark = pytest.mark.full

COMMANDS = {
    "tables": ["tables.py"],
    "correlation/all": ["correlation.py", "student=all"],
    "correlation/qwen3b": ["correlation.py", "student=qwen3b"],
    "robustness/all": ["robustness.py", "student=all"],
    "ablation/all": ["ablation.py", "student=all"],
    "distillation": ["distillation.py"],
    "teacher_selection": ["teacher_selection.py"],
    "trajectory_selection/all": ["trajectory_selection.py"],
    "simulation": ["simulation.py"],
    "sanity/all": ["sanity.py", "student=all"],
}


def numbers_and_words(path):
    text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("Made by"))
    number = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
    return [float(n) for n in number.findall(text)], number.sub("#", text)


@pytest.mark.parametrize(("folder", "command"), COMMANDS.items())
def test_results_are_those_that_the_command_makes(run, tmp_path, folder, command):
    result = run(*command, "paths.results=out")
    assert result.returncode == 0, result.stderr
    made = sorted(p for p in (tmp_path / "out" / folder).iterdir() if p.suffix in (".csv", ".md"))
    assert made
    for path in made:
        numbers, words = numbers_and_words(path)
        kept_numbers, kept_words = numbers_and_words(PathsConfig().results / folder / path.name)
        assert words == kept_words, path.name
        assert numbers == pytest.approx(kept_numbers, abs=2e-3, rel=1e-4), path.name


def test_counts_of_checked_cells(run, tmp_path):
    run("tables.py", "paths.results=out")
    cells = pl.read_csv(tmp_path / "out" / "tables" / "cells.csv", infer_schema=False)
    counts = dict(cells.group_by("verdict").len().iter_rows())
    assert counts["not attainable"] == 6
    assert counts["contradicted by another print"] == 9
    assert sum(counts.values()) == len(cells)


def test_measured_ablation_and_case_study(run, tmp_path):
    import json

    from tests.models import save

    model = save(tmp_path / "tiny")
    for teacher, reply in (
        ("a", "1 + 2 = 3. "),
        ("b", "Perhaps <script>alert(1)</script></textarea> "),
        ("c", "x y z "),
    ):
        (tmp_path / "data" / teacher).mkdir(parents=True)
        records = [
            {
                "messages": [
                    {"role": "user", "content": f"P{i}"},
                    {"role": "assistant", "content": reply * (i % 4 + 1) + "."},
                ]
            }
            for i in range(12)
        ]
        (tmp_path / "data" / teacher / "gen1.json").write_text(json.dumps(records))
    common = [f"student={model}", f"teachers={tmp_path / 'data'}", "paths.outputs=out", "paths.results=res"]
    result = run(
        "ablation.py", *common, "ablation.r_max=[10,null]", "ablation.sample_size=[5]", "scoring.dtype=float32"
    )
    assert result.returncode == 0, result.stderr
    table = pl.read_csv(tmp_path / "res" / "ablation" / "tiny-data" / "table.csv")
    assert {"r_max = 10", "no clipping", "5 trajectories", "Rank-entropy ratio"} <= set(table["variant"])
    assert table.filter(variant="RSR")["agreement"][0] == 1

    result = run("case_study.py", *common, "problem=3")
    assert result.returncode == 0, result.stderr
    body = (tmp_path / "res" / "case_study" / "tiny-data" / "body.html").read_text()
    assert "<script" not in body
    assert body.count('<pre class="tokens">') == 3
    outside = run("case_study.py", *common, "problem=99")
    assert outside.returncode == 1
    assert "problem=99: a/gen1 holds problems 0 to 11" in outside.stderr
