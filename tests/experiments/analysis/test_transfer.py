"""Scores crossed with performance: what a mismatch loses, and what cannot be told."""

import json

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from experiments.analysis.mismatch import configured
from experiments.analysis.transfer import DTYPE, STUDENT, Crossed, Setting, losses
from experiments.app.command_configs import MismatchConfig
from experiments.app.shared_configs import ROOT, BootstrapConfig
from experiments.paper.published import read
from rsr.metrics import METRICS

RISING, BOOTSTRAP = np.arange(8.0), BootstrapConfig(resamples=500)


def crossed(scores, accuracy, settings, own, distance):
    return Crossed(METRICS["rsr"], settings, own, np.array(scores), np.array(accuracy), np.array(distance))


def test_what_is_lost_under_another_student_and_another_dtype():
    """Each student's own scores order its teachers rightly, the other's just the wrong way round; the dtype changes nothing."""
    a, low, b = Setting("a", "float32"), Setting("a", "bfloat16"), Setting("b", "float32")
    of = crossed(
        [RISING, RISING + 0.1, -RISING], [RISING, -RISING], [a, low, b], [a, b], [[0.0, 2.0], [0.0, 2.0], [2.0, 0.0]]
    )
    assert of.matrix.tolist() == [[1, -1], [1, -1], [-1, 1]]
    found = losses(of, BOOTSTRAP)
    assert (found[STUDENT].value, found[DTYPE].value, found["fall"].value) == pytest.approx((2, 0, 1))
    assert found[STUDENT].excludes_zero and not found[DTYPE].excludes_zero


def test_scores_that_are_all_alike_lose_nothing():
    settings = [Setting("a"), Setting("b")]
    found = losses(crossed([RISING] * 2, [RISING, RISING**2], settings, settings, np.zeros((2, 2))), BOOTSTRAP)
    assert set(found) == {STUDENT} and found[STUDENT].value == found[STUDENT].high == 0


@pytest.mark.full
def test_the_matrix_from_print_is_a_plain_recomputation(run, tmp_path):
    done = run("mismatch.py", f"paths.results={tmp_path}", "bootstrap.resamples=100", "metric=[rsr,avg_surprisal]")
    assert done.returncode == 0, done.stderr
    cells = pl.read_csv(tmp_path / "mismatch" / "all" / "matrix.csv")
    prints = read(ROOT / "results" / "published")
    scores, accuracy = prints.scores().filter(metric="rsr", preset=""), prints.performance()
    for row in cells.filter(metric="rsr").iter_rows(named=True):
        both = scores.filter(student=row["student"]).join(accuracy.filter(student=row["performance_of"]), on="teacher")
        assert row["spearman"] == pytest.approx(-spearmanr(both["value"], both["accuracy"])[0], abs=1e-6)
    assert (
        len(cells) == 2 * 25 and len(json.loads((tmp_path / "mismatch" / "all" / "conclusions.json").read_text())) == 3
    )


def test_one_printed_student_is_refused(run, tmp_path):
    done = run("mismatch.py", "student=qwen3b", f"paths.results={tmp_path}")
    assert done.returncode == 1 and "compared all at once: student=all" in done.stderr
    assert not list(tmp_path.rglob("*"))


def test_other_students_go_by_name_or_folder():
    assert (
        configured("miniature_sticky").recipe == "miniature_sticky" and configured("some/folder").model == "some/folder"
    )
    assert MismatchConfig().dtypes
