"""Checks of printed cells: each verdict, provoked."""

import shutil

import pytest

from experiments.app.shared_configs import PathsConfig
from experiments.paper import consistency, published
from experiments.paper.consistency import CONTRADICTED, judged, means
from rsr.stats.attainable import cell, rounding_interval

FOLDER = PathsConfig().published


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(FOLDER, tmp_path / "published")


def edit(path, old, new):
    text = path.read_text()
    assert old in text, old
    path.write_text(text.replace(old, new, 1))


def by_cell(found):
    return {c.cell: c for c in found}


def test_verdicts_on_a_mean():
    inputs = [cell([rounding_interval(p)]) for p in ("1.0", "2.0")]
    ((low, high),) = means(inputs)
    assert (low, high) == pytest.approx((1.45, 1.55))
    assert judged("1", "c", "1.5", "", 1.5, means(inputs)).verdict == "equal"
    assert judged("1", "c", "1.54", "", 1.5, means(inputs)).verdict == "attainable"
    assert judged("1", "c", "1.57", "", 1.5, means(inputs)).verdict == "not attainable"
    assert judged("1", "c", "1.57", "", 1.5, means(inputs), repeat=True).verdict == CONTRADICTED


def test_contradicting_inputs_leave_the_gap_between_them_out():
    two = cell([rounding_interval("1.0"), rounding_interval("9.0")])
    spans = means([two])
    assert judged("1", "c", "5", "", 1.0, spans).verdict == "not attainable"
    assert judged("1", "c", "9", "", 1.0, spans).verdict == "attainable"


def test_an_altered_average_is_not_attainable(copy):
    before = by_cell(consistency.selection_averages(copy))["qwen14b, random, math_average"]
    assert before.verdict == "equal"
    edit(
        copy / "trajectory_selection.csv",
        "qwen14b,33-to-1,random,math_average,70.2,20",
        "qwen14b,33-to-1,random,math_average,70.9,20",
    )
    found = [c for c in consistency.selection_averages(copy) if c.cell == "qwen14b, random, math_average"]
    assert {c.verdict for c in found} == {"not attainable", CONTRADICTED}  # by the benchmarks, and by Table 6


def test_an_altered_repetition_is_a_contradiction(copy):
    edit(copy / "metrics.csv", "llama8b,qwq-32b,verified_accuracy,0.820", "llama8b,qwq-32b,verified_accuracy,0.840")
    found = [c for c in consistency.repeated_cells(published.read(copy)) if c.verdict == CONTRADICTED]
    assert "verified_accuracy, qwq-32b" in {c.cell for c in found if c.table == "26"}


def test_altered_shares_and_costs(copy):
    edit(
        copy / "selected_composition.csv",
        "qwen14b,33-to-1,share_percent:qwq-32b,67.3,17",
        "qwen14b,33-to-1,share_percent:qwq-32b,63.3,17",
    )
    edit(copy / "cost.csv", "g_norm,gpu_hours,6,10", "g_norm,gpu_hours,8,10")
    shares = by_cell(consistency.composition(copy, published.read(copy)))
    assert shares["shares of 11 teachers, qwen14b, 33-to-1"].verdict == "not attainable"
    assert shares["shares of 11 teachers, llama8b, 33-to-1"].verdict in ("equal", "attainable")
    assert by_cell(consistency.gpu_hours(copy))["GPU-hours, g_norm"].verdict == "not attainable"


def test_teacher_choices_follow_the_scores(copy):
    def first():
        return next(
            c
            for c in consistency.teacher_choices(copy, published.read(copy))
            if c.cell.startswith("rsr_min, qwen3b, top1")
        )

    assert (first().verdict, "qwen3-30b-thinking" in first().cell) == ("equal", True)
    edit(copy / "metrics.csv", "qwen3b,gpt-oss-20b,rsr_200_samples,4.095", "qwen3b,gpt-oss-20b,rsr_200_samples,0.1")
    assert (first().verdict, "gpt-oss-20b" in first().cell) == ("not attainable", True)


def test_tied_scores_may_choose_either():
    tied = [cell([rounding_interval(p)]) for p in ("1.0", "1.0", "2.0", "3.0", "4.0", "5.0")]
    assert consistency._may_be_chosen(tied, 0, descending=False) == list(consistency.CANDIDATES[:2])
    assert consistency._may_be_chosen(tied, 1, descending=False) == list(consistency.CANDIDATES[:2])
    assert consistency._may_be_chosen(tied, 0, descending=True) == [consistency.CANDIDATES[5]]
