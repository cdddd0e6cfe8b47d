"""experiments/correlation.py as a user runs it."""

import json
import shutil

import polars as pl
import pytest

from experiments.analysis import warnings
from experiments.app.shared_configs import BootstrapConfig, PathsConfig
from experiments.paper.metric_table import Table, compare
from experiments.paper.published import read
from rsr.metrics import METRICS

pytestmark = pytest.mark.full


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(PathsConfig().published, tmp_path / "published")


def edit(path, old, new):
    text = path.read_text()
    assert old in text, old
    path.write_text(text.replace(old, new, 1))


def verdicts(folder):
    rows = pl.read_csv(folder / "table.csv", infer_schema=False).filter(pl.col("printed").is_not_null())
    key = ("student", "metric", "preset", "coefficient", "table")
    return {tuple(r[k] for k in key): r for r in rows.iter_rows(named=True)}


def test_one_student(run, tmp_path):
    result = run("correlation.py", "student=qwen3b", "paths.results=out")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    folder = tmp_path / "out" / "correlation" / "qwen3b"
    assert {p.name for p in folder.iterdir()} == {
        "table.csv",
        "table.md",
        "config.yaml",
        "scatter.png",
        "coefficients.png",
        "run.json",
    }
    rsr = verdicts(folder)["qwen3b", "rsr", "", "spearman", "4"]
    assert float(rsr["value"]) == pytest.approx(-0.815, abs=5e-4)
    assert float(rsr["low"]) < -0.815 < float(rsr["high"])
    assert rsr["verdict"] == "attainable"
    assert "not attainable: spearman of Teacher parameters for qwen3b, printed 0.26" in result.stdout
    record = json.loads((folder / "run.json").read_text())
    assert record["command"] == "python experiments/correlation.py student=qwen3b paths.results=out"
    assert "Diagnosis" in result.stdout and "RSR ↓" in (folder / "table.md").read_text()


def test_all_students_regenerate_tables_4_and_13(run, tmp_path):
    result = run("correlation.py", "student=all", "paths.results=out")
    assert result.returncode == 0, result.stderr
    cells = verdicts(tmp_path / "out" / "correlation" / "all")
    count = pl.DataFrame(list(cells.values())).group_by("table", "verdict").len()
    assert sorted(count.filter(table="13").select("verdict", "len").rows()) == [("attainable", 9), ("equal", 3)]
    assert sorted(count.filter(table="4").select("verdict", "len").rows()) == [
        ("attainable", 40),
        ("equal", 27),
        ("inputs not printed", 6),
        ("not attainable", 5),
    ]
    assert {key[1] for key, r in cells.items() if r["verdict"] == "not attainable"} == {"teacher_params"}
    average = cells["average", "rsr", "", "spearman", "13"]
    assert abs(float(average["value"])) == pytest.approx(0.8466, abs=1e-4)


def test_a_shifted_coefficient_flips_the_verdict(run, tmp_path, copy):
    edit(copy / "correlations.csv", "rsr,qwen3b,spearman,0.85,4", "rsr,qwen3b,spearman,0.75,4")
    run("correlation.py", "student=qwen3b", "metric=rsr", f"paths.published={copy}", "paths.results=out")
    cells = verdicts(tmp_path / "out" / "correlation" / "qwen3b-rsr")
    assert cells["qwen3b", "rsr", "", "spearman", "4"]["verdict"] == "not attainable"
    assert cells["qwen3b", "rsr", "", "spearman", "13"]["verdict"] == "attainable"


def test_an_altered_input_changes_the_recomputed_cell_alone(run, tmp_path, copy):
    edit(copy / "metrics.csv", "qwen3b,qwq-32b,rsr,2.860", "qwen3b,qwq-32b,rsr,4.860")
    run("correlation.py", "student=qwen3b", "metric=rsr", f"paths.published={copy}", "paths.results=out")
    cell = verdicts(tmp_path / "out" / "correlation" / "qwen3b-rsr")["qwen3b", "rsr", "", "spearman", "4"]
    assert (cell["printed"], cell["verdict"]) == ("0.85", "not attainable")
    assert float(cell["value"]) > -0.815 + 0.1


def test_grad_shows_both_gradient_baselines(run, tmp_path):
    result = run("correlation.py", "student=qwen7b", "metric=grad", "paths.results=out")
    assert result.returncode == 0, result.stderr
    cells = verdicts(tmp_path / "out" / "correlation" / "qwen7b-grad")
    assert {key[1] for key in cells} == {"g_norm", "grace"}
    assert "GRAD" in METRICS["g_norm"].note and "0.47" in METRICS["g_norm"].note


def test_a_sweep_runs_every_job_and_reports_the_failed_one(run, tmp_path):
    result = run("correlation.py", "-m", "student=qwen3b", "metric=nonsense,rsr", "paths.results=out")
    assert result.returncode == 1
    assert result.stderr.startswith("error: unknown metric 'nonsense'") and result.stderr.count("\n") == 1
    assert (tmp_path / "out" / "correlation" / "qwen3b-rsr" / "table.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["student=qwen5b"], 2, "Could not find 'student/qwen5b'"),
        (["studnet=qwen3b"], 2, "Could not override 'studnet'"),
        (["+speed=1"], 2, "Key 'speed' not in 'CorrelationConfig'"),
        (["+student.size=3"], 2, "Key 'size' not in 'StudentConfig' (key: student.size)"),
        (["student.model=???"], 2, "missing value: give student.model=..."),
        (["bootstrap.seed=soon"], 2, "bootstrap.seed=soon Value 'soon'"),
        (["source=rumour"], 2, "rumour"),
        (["metric=[rrs]"], 1, "unknown metric 'rrs': did you mean 'rsr'?"),
        (["metric=[]"], 1, "no metric is chosen"),
        (["metric=3"], 1, "metric=3 is neither a name nor a list of names"),
        (["bootstrap.resamples=0"], 1, "resamples=0 is too small"),
        (["paths.published=nowhere"], 1, "metrics.csv: no such file"),
        (["student.name=mine"], 1, "no results of student 'mine'"),
    ],
)
def test_bad_settings_get_one_line(run, arguments, status, message):
    result = run("correlation.py", *arguments, "paths.results=out")
    assert result.returncode == status
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert message in result.stderr


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("distillation.csv", "qwen3b,qwq-32b,33.0,1\n", "", "no accuracy for student 'qwen3b', but has its"),
        ("metrics.csv", "qwen3b,qwq-32b,rsr,2.860,,29\n", "", "'qwq-32b' has no rsr score for student 'qwen3b', but"),
        ("metrics.csv", "qwen3b,qwq-32b,rsr,2.860", "qwen3b,qwq-32b,rsr,low", "metrics.csv, line"),
        ("distillation.csv", "accuracy", "score", "no column 'accuracy'"),
    ],
)
def test_bad_results_get_one_line(run, copy, file, old, new, message):
    edit(copy / file, old, new)
    if file == "distillation.csv" and not new:
        edit(copy / "metrics.csv", "qwen3b,qwq-32b,post_training_performance,33.0,,29\n", "")
    result = run("correlation.py", "student=qwen3b", "metric=rsr", f"paths.published={copy}", "paths.results=out")
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert message in result.stderr


def test_tied_values_get_one_line(run, copy):
    path = copy / "metrics.csv"
    lines = [",".join([*r[:3], "3.0", *r[4:]]) if (r := line.split(","))[2] == "rsr" else line for line in path.open()]
    path.write_text("".join(lines))
    result = run("correlation.py", "student=qwen3b", "metric=rsr", f"paths.published={copy}", "paths.results=out")
    assert result.returncode == 1
    assert result.stderr == "error: rsr of student qwen3b: all scores are equal (3): there is no order to correlate\n"


# --- diagnosis: each signature is provoked -------------------------------------------------------------------------

TEACHERS = [f"teacher-{i}" for i in range(8)]


def table(scores, *, metric="rsr", error=0.01, teachers=TEACHERS):
    accuracy = [float(10 * i) for i in range(len(teachers))]
    return Table(METRICS[metric], "", ["student"], list(teachers), [list(scores)], [[error] * len(scores)], [accuracy])


def test_diagnosis_of_a_healthy_table_is_silent():
    healthy = table([8 - i for i in range(8)])
    results = compare(healthy, None, BootstrapConfig(resamples=200))
    assert [*warnings.of_scores(healthy), *warnings.of_signs(results), *warnings.of_count(8)] == []


def test_diagnosis_of_indistinguishable_scores():
    (finding,) = warnings.of_scores(table([3 + 0.001 * i for i in range(8)]))
    assert "look at the rank computation" in finding


def test_diagnosis_of_the_wrong_sign():
    (finding,) = warnings.of_signs(compare(table(range(8)), None, BootstrapConfig(resamples=200)))
    assert "wrong sign" in finding and "RSR: student +1.00 (interval excludes 0)" in finding
    assert "chat template" in finding


def test_diagnosis_of_surprisal_that_cannot_be():
    (finding,) = warnings.of_scores(table([0.0, *range(1, 8)], metric="avg_surprisal"))
    assert "avg_surprisal of teacher-0" in finding and "look at the numerics" in finding


def test_scores_that_are_not_finite_are_refused(copy):
    edit(copy / "metrics.csv", "qwen3b,qwq-32b,rsr,2.860", "qwen3b,qwq-32b,rsr,inf")
    with pytest.raises(ValueError, match="not a number"):
        read(copy)


def test_diagnosis_of_few_teachers():
    (finding,) = warnings.of_count(4)
    assert "the interval says it all" in finding
