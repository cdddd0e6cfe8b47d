"""experiments/score.py with metrics=... as a user runs it, with a tiny real model."""

import json
import re

import numpy as np
import polars as pl
import pytest

from rsr.metrics import METRICS
from rsr.metrics.feature_tables import MEASURABLE
from tests.experiments.stages.test_score_command import write_teacher
from tests.judge_server import Judge
from tests.models import save

pytestmark = pytest.mark.full
OF_DATASETS = {m.name for m in METRICS.values() if "trajectory" not in m.levels}
MEASURED = {m.name for m in METRICS.values() if m.needs in ("tokens", *MEASURABLE)}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def arguments(tmp_path, model):
    write_teacher(tmp_path / "data", "qwq", 6)
    write_teacher(tmp_path / "data", "gpt-4o", 6, reply="Perhaps, perhaps. Therefore I check. ")
    data = [f"teachers={tmp_path / 'data'}", "paths.outputs=out", "scoring.dtype=float32", "gradients.dimensions=4"]
    return [f"student={model}", *data]


def tables(outputs):
    """The tables with baselines, beside which those of token metrics may lie."""
    (folder,) = (p.parent for p in (outputs / "scores").glob("*/manifest.json") if "baselines" in p.read_text())
    return pl.read_parquet(folder / "trajectories.parquet"), pl.read_parquet(folder / "datasets.parquet")


def manifests(outputs):
    return {p.parent.parent.name: json.loads(p.read_text()) for p in outputs.rglob("manifest.json")}


def test_every_metric_that_can_be_had_is_in_the_tables(run, tmp_path, arguments):
    result = run("score.py", *arguments, "metrics=all", "scoring.expectations=true")
    assert result.returncode == 0, result.stderr
    trajectories, datasets = tables(tmp_path / "out")
    assert set(datasets["metric"]) == MEASURED
    assert set(trajectories["metric"]) == MEASURED - OF_DATASETS
    for metric in MEASURED:
        assert set(datasets.filter(metric=metric)["preset"]) == set(METRICS[metric].presets)
    assert datasets["value"].null_count() == 0
    assert set(datasets.filter(metric="g_norm")["n"]) == {6} == set(datasets.filter(metric="grace")["n"])
    of_datasets = pl.col("metric").is_in(MEASURED & OF_DATASETS)
    assert datasets.filter(of_datasets)["low"].is_null().all()
    assert datasets.filter(~of_datasets)["low"].null_count() == 0
    for name in ("teacher_params", "verified_accuracy", "car", "car_judged", "llm_judged_quality", "influence_score"):
        assert f"{name} is left out: needs " in result.stdout
    assert "GRACE inverts a covariance of 4 dimensions from 5 rows of effective rank" in result.stdout

    facts = manifests(tmp_path / "out")
    (scores,) = (
        json.loads(p.read_text())
        for p in (tmp_path / "out" / "scores").glob("*/manifest.json")
        if "baselines" in p.read_text()
    )
    for stage in ("tokens", *MEASURABLE):
        assert facts[stage]["seconds"] > 0
        assert (facts[stage]["tokens_in_those_seconds"] > 0) == (stage != "text")
    assert set(scores["pool"]) == {"elaboration", "verification", "exploration", "granularity"}
    assert scores["skipped"]["llm_judged_quality"] == "needs judge.endpoint and judge.model"

    cost = run("cost.py", "paths.outputs=out", "paths.results=res")
    assert cost.returncode == 0, cost.stderr
    lines = (tmp_path / "res" / "cost" / "table.md").read_text().splitlines()
    ratios = {line.split(" | ")[1]: line.split(" | ")[-1].rstrip(" |") for line in lines if line.startswith("| tiny")}
    assert ratios["tokens with expected ranks: RSR, all token metrics and CAR"] == "1"
    assert float(ratios["text: Rule-based quality"]) > 0
    assert float(ratios["gradients: G-Norm, GRACE, G-Vendi"]) > 0

    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    again = run("score.py", *arguments, "metrics=all", "scoring.expectations=true")
    assert (again.returncode, again.stdout) == (0, result.stdout)
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == before


def test_values_are_those_of_the_trajectories_and_other_settings_have_their_own(run, tmp_path, arguments):
    assert run("score.py", *arguments, "metrics=grad").returncode == 0
    assert not (tmp_path / "out" / "tokens").exists()  # nobody asked for ranks
    trajectories, datasets = tables(tmp_path / "out")
    own = trajectories.filter(metric="g_norm", preset="", teacher="qwq")
    assert datasets.filter(metric="g_norm", preset="", teacher="qwq")["value"][0] == pytest.approx(own["value"].mean())
    assert run("score.py", *arguments, "metrics=g_norm", "gradients.parameters=lora_b").returncode == 0
    assert len(list((tmp_path / "out" / "gradients").iterdir())) == 4


def test_car_is_made_of_graded_answers_and_losses(run, tmp_path, arguments):
    path = tmp_path / "data" / "qwq" / "gen1.json"
    records = [record | {"answer": str(41 + i % 2)} for i, record in enumerate(json.loads(path.read_text()))]
    path.write_text(json.dumps(records))
    result = run("score.py", *arguments, "metrics=[car,avg_surprisal]")
    assert result.returncode == 0, result.stderr
    trajectories, datasets = tables(tmp_path / "out")
    losses = trajectories.filter(metric="avg_surprisal", teacher="qwq")["value"].to_numpy()
    right = np.arange(6) % 2
    for preset, beta in (("", 1), ("beta=3", 3)):
        own = {"metric": "car", "preset": preset, "teacher": "qwq"}
        assert trajectories.filter(**own)["value"].to_numpy() == pytest.approx(right / (1 + beta * losses))
        assert datasets.filter(**own)["value"][0] == pytest.approx(right.mean() / (1 + beta * losses.mean()))
    assert datasets.filter(metric="car", teacher="gpt-4o")["value"].is_null().all()  # no answer is known


def test_car_by_the_judge_is_made_of_judgements_and_losses(run, tmp_path, arguments):
    """A judgement that cannot be read is a missing value of its trajectory."""
    for teacher in ("qwq", "gpt-4o"):
        path = tmp_path / "data" / teacher / "gen1.json"
        path.write_text(
            path.read_text().replace("Problem 0", "Problem 0 <<prose>>").replace("Problem 1", "1 <<fenced>>")
        )
        path.write_text(re.sub(r"Problem (\d)\"", r'Problem \1 <<good>>"', path.read_text()))
    server = Judge()
    judge = [f"judge.endpoint={server.url}", "judge.model=judge", "judge.attempts=1"]
    result = run("score.py", *arguments, *judge, "metrics=[car_judged,avg_surprisal]")
    assert result.returncode == 0, result.stderr
    trajectories, datasets = tables(tmp_path / "out")
    losses = trajectories.filter(metric="avg_surprisal", teacher="qwq")["value"].to_numpy()
    rewards = np.array([np.nan, 0.4, *[0.7] * 4])
    own = {"metric": "car_judged", "preset": "", "teacher": "qwq"}
    assert trajectories.filter(**own)["value"].to_numpy() == pytest.approx(rewards / (1 + losses), nan_ok=True)
    assert datasets.filter(**own).select("n", "missing").row(0) == (5, 1)
    assert datasets.filter(**own)["value"][0] == pytest.approx(rewards[1:].mean() / (1 + losses[1:].mean()))
    assert "llm_judged_quality" not in datasets["metric"]
    server.shutdown()


def test_influence_of_a_reference_on_held_out_queries(run, tmp_path, model, arguments):
    pytest.importorskip("kronfluence", reason="the extra `influence` is not installed")
    write_teacher(tmp_path / "held-out", "queries", 2, reply="Held out. ")
    path = tmp_path / "held-out" / "queries" / "gen1.json"
    influence = ["metrics=influence_score", f"influence.reference={model}", f"influence.queries={path}"]
    refused = run("score.py", *arguments, *influence)
    assert "2 queries are among the scored problems" in refused.stderr
    path.write_text(path.read_text().replace("Problem", "Another"))
    result = run("score.py", *arguments, *influence)
    assert result.returncode == 0, result.stderr
    trajectories, datasets = tables(tmp_path / "out")
    assert trajectories["value"].null_count() == 0
    assert set(datasets["preset"]) == {"", "per token"}
    assert manifests(tmp_path / "out")["curvature"]["counts"] == {"examples": 12, "queries": 2}


def test_the_default_is_what_it_was(run, tmp_path, arguments):
    assert run("score.py", *arguments[:-1]).returncode == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {".locks", "tokens", "scores"}
    assert "baselines" not in manifests(tmp_path / "out")["scores"]["key"]


def test_what_the_teacher_table_does_not_say_is_null(run, tmp_path, arguments):
    table = "teachers.teachers=[{name: qwq, model: QwQ, params_billion: 32}, {name: gpt-4o, model: GPT}]"
    result = run("score.py", *arguments, table, "metrics=teacher")
    assert result.returncode == 0, result.stderr
    assert "no value" in result.stdout
    values = tables(tmp_path / "out")[1].select("metric", "teacher", "value").rows()
    assert sorted(values, key=str) == [
        ("teacher_params", "gpt-4o", None),
        ("teacher_params", "qwq", 32.0),
        ("teacher_performance", "gpt-4o", None),
        ("teacher_performance", "qwq", None),
    ]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("metrics=rsrr", "unknown metric 'rsrr': did you mean 'rsr'?"),
        ("metrics=[]", "no metric is chosen"),
        ("metrics=[rsr,verified_accuracy]", "verified_accuracy: needs graded answers"),
        ("metrics=endpoint", "llm_judged_quality: needs judge.endpoint and judge.model"),
        ("metrics=teacher_params", "teacher_params: needs a teacher table"),
        ("gradients.parameters=*.router.*", "no parameter fits '*.router.*'"),
        ("gradients.dimensions=0", "dimensions=0 is too small"),
    ],
)
def test_bad_input_gets_one_line(run, tmp_path, arguments, argument, message):
    chosen = [] if argument.startswith("metrics") else ["metrics=[g_norm,avg_surprisal_local]"]
    result = run("score.py", *arguments, *chosen, argument)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: ") and message in result.stderr
    assert not chosen or not (tmp_path / "out" / "tokens").exists()  # refused before anything long
