"""Metrics of installed packages are metrics like the others, and one that cannot be loaded is said in a line."""

import os
import subprocess
import sys

import pytest

METRIC = """
import numpy as np
import rsr

@rsr.metric(name="largest_rank", title="Largest rank", formula="max of r", unit="ranks", direction="lower",
            levels=("trajectory", "dataset"), needs="tokens", per_student=True, source="a package")
def largest_rank(tokens):
    return rsr.Parts(np.maximum.reduceat(tokens.rank, tokens.offsets[:-1]).astype(float))
"""


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (METRIC, "none.json: holds no scores"),
        (
            "import missing_module",
            "the metrics of of-others (of_others) cannot be loaded: No module named 'missing_module'",
        ),
        (METRIC.replace("largest_rank", "rsr"), "a metric named 'rsr' is declared already"),
    ],
)
def test_the_command_line_knows_the_metrics_of_packages(module, said, tmp_path):
    (tmp_path / "of_others.py").write_text(module)
    package = tmp_path / "of_others-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: of-others\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[rsr.metrics]\nmine = of_others\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "rsr", "rank", "--scores", "none.json", "--metric", "largest_rank"]
    told = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, cwd=tmp_path)
    assert told.returncode == 1
    assert told.stderr.count("\n") == 1
    assert said in told.stderr
