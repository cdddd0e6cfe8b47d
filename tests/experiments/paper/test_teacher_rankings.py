"""Rankings of teachers that later work prints: what they are recomputed from, and altered ones."""

import shutil

import pytest

from experiments.app.shared_configs import PathsConfig
from experiments.paper.teacher_rankings import checks
from rsr.errors import InputError


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(PathsConfig().published, tmp_path / "published")


def edit(path, old, new):
    text = path.read_text()
    assert old in text, old
    path.write_text(text.replace(old, new, 1))


def found(folder, cell, source="WingchunSiu"):
    (check,) = (c for c in checks(folder) if c.cell == cell and c.table.startswith(source))
    return check


def test_an_order_fixes_a_coefficient_and_an_open_one_leaves_several(copy):
    """Kendall's tau-b of four teachers, two of whom are equal: (concordant - discordant) / sqrt(6 * 5)."""
    complete = found(copy, "8B n=200, egs_loop, kendall", "franziweindel")
    assert (complete.verdict, complete.value) == ("equal", pytest.approx(3 / 30**0.5))
    partial = found(copy, "judges 8B n=200, SCRF 91 Qwen3-32B, kendall", "franziweindel")
    assert partial.verdict == "attainable" and partial.low < -1 / 30**0.5 < partial.high
    edit(
        copy / "teacher_rankings.csv",
        "egs_loop,kendall,+0.91,DS > Q35 > GLM > CL",
        "egs_loop,kendall,+0.91,CL > Q35 > GLM > DS",
    )
    assert found(copy, "8B n=1000, egs_loop, kendall", "franziweindel").verdict == "not attainable"


def test_scores_fix_coefficients_whichever_direction_is_better(copy):
    kendall, share = (found(copy, f"445 tasks, rsr, {kind}") for kind in ("kendall", "pairwise"))
    assert (kendall.verdict, share.verdict) == ("equal", "equal")
    assert (kendall.value, share.value) == (pytest.approx(4 / 6), pytest.approx(5 / 6))
    edit(copy / "teacher_scores.csv", "445 tasks,rsr,lower,Kimi,2.5039", "445 tasks,rsr,lower,Kimi,3.9999")
    assert found(copy, "445 tasks, rsr, kendall").verdict == "not attainable"


def test_ratios_and_shares(copy):
    assert found(copy, "n=200, rsr of CL").verdict in ("equal", "attainable")
    edit(copy / "teacher_scores.csv", "rsr,mean rank,CL,1.799", "rsr,mean rank,CL,1.809")
    edit(copy / "teacher_scores.csv", "traj_length,winner share,DS,0.66", "traj_length,winner share,DS,0.69")
    assert found(copy, "n=200, rsr of CL").verdict == "not attainable"
    assert found(copy, "5.2, shares by traj_length").verdict == "not attainable"


def test_a_coefficient_of_nothing_is_refused(copy):
    edit(copy / "teacher_rankings.csv", "n=200,rsr,pairwise,0.80,,", "n=200,rsr,pairwise,0.80,DS > GLM > CL,")
    with pytest.raises(InputError, match="nothing gives 'pairwise' of WingchunSiu RSR_BOUNDARY_AUDIT"):
        checks(copy)
