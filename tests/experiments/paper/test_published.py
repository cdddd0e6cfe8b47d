"""Reading the paper's printed numbers."""

import shutil

import pytest

from experiments.app.shared_configs import PathsConfig
from experiments.paper import published
from rsr.errors import InputError

FOLDER = PathsConfig().published


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(FOLDER, tmp_path / "published")


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_aggregates_take_the_table_that_prints_the_whole_column():
    data = published.read(FOLDER)
    performance = {(r["student"], r["teacher"]): r["accuracy"] for r in data.performance().iter_rows(named=True)}
    assert len(performance) == 5 * 11
    assert performance["qwen7b", "deepseek-r1"] == 47.3  # Tables 2 and 7 print 47.8
    assert data.column("qwen7b", published.ACCURACY)["deepseek-r1"] == ((47.25, 47.35), (47.75, 47.85))
    scores = data.scores()
    assert scores.select("student", "teacher", "metric", "preset").is_unique().all()
    assert set(scores["artefact"].unique()) == {"table 25", "table 26", "table 27", "table 28", "table 29", "table "}
    rsr = scores.filter(metric="rsr", preset="", student="qwen14b", teacher="deepseek-r1").row(0, named=True)
    assert (rsr["value"], rsr["error"]) == (2.925, 0.0005)


def test_every_metric_that_is_printed_is_declared():
    from rsr.metrics import METRICS

    data = published.read(FOLDER)
    assert set(data.scores()["metric"]) <= set(METRICS)
    assert set(data.coefficients["metric"]) <= set(METRICS)


def test_an_altered_input_changes_the_score_and_not_the_printed_coefficient(copy):
    before = published.read(copy)
    edit(copy / "metrics.csv", "qwen3b,qwq-32b,rsr,2.860", "qwen3b,qwq-32b,rsr,4.860")
    after = published.read(copy)
    assert before.column("qwen3b", "rsr")["qwq-32b"] == ((2.8595, 2.8605),)
    assert after.column("qwen3b", "rsr")["qwq-32b"] == ((4.8595, 4.8605),)
    assert after.coefficients.equals(before.coefficients)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("metrics.csv", "12077.7", "12o77.7", r"metrics\.csv, line 2: printed is '12o77\.7', not a number"),
        ("metrics.csv", "0.911", "nan", r"metrics\.csv, line 13: printed is 'nan', not a number"),
        ("distillation.csv", "71.8", "", r"distillation\.csv, line 3: printed is '', not a number"),
        ("teachers.csv", ",671,", ",many,", r"teachers\.csv, line 3: value is 'many', not a number"),
        ("correlations.csv", "absolute_value", "rho", r"correlations\.csv: no column 'absolute_value'; it has metric"),
        ("metrics.csv", "student,", 'student,"', r"metrics\.csv: not a readable CSV file|metrics\.csv: no column"),
    ],
)
def test_malformed_files_are_refused_by_line(copy, file, old, new, message):
    edit(copy / file, old, new)
    with pytest.raises(InputError, match=message):
        published.read(copy)


def test_a_missing_or_empty_file_is_refused(copy):
    (copy / "ablations.csv").write_text("")
    with pytest.raises(InputError, match=r"ablations\.csv: not a readable CSV file"):
        published.read(copy)
    (copy / "ablations.csv").unlink()
    with pytest.raises(InputError, match=r"ablations\.csv: no such file; paths\.published=FOLDER"):
        published.read(copy)
