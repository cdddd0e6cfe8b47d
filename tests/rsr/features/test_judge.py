"""The judge over real HTTP: answers, broken answers, failures; nothing is scored 0 for failing, no key is kept."""

import json
import logging
import socket
import time

import numpy as np
import pytest

from rsr.data.messages import Message
from rsr.data.trajectories import Dataset, Trajectory
from rsr.errors import InputError
from rsr.features.extractor import Failed, extract_features
from rsr.features.judge import CRITERIA, Judge, read_answer
from rsr.grading.endpoint import JudgeSettings
from rsr.metrics import METRICS
from rsr.metrics.aggregate import dataset_scores, feature_scores
from rsr.metrics.judge import llm_judged_quality
from tests.experiments.stages.test_score_command import tables
from tests.judge_server import ANSWERS, KEY
from tests.models import save

pytestmark = pytest.mark.full


def trajectory(name, reply="1 + 2 = 3"):
    return Trajectory(name, name, (Message("user", f"<<{name}>> What is 1 + 2?"), Message("assistant", reply)))


def dataset(*names):
    return Dataset("teacher", "gen1", tuple(trajectory(name) for name in names))


def judge(judge_server, **of):
    return Judge(JudgeSettings(judge_server.url, "judge-32b", **(dict(attempts=2, timeout=1.0) | of)))


@pytest.mark.parametrize(("name", "score"), [("good", 0.7), ("fenced", 0.4), ("zero", 0.0)])
def test_answers_are_read(judge_server, name, score):
    row = judge(judge_server)(trajectory(name))
    assert row["score"] == score
    assert [row[c] for c in CRITERIA] == [0.9, 0.8, 0.7, 0.6, 0.5]
    assert row["processed"] == 100


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("broken", "no JSON object"),
        ("prose", "no JSON object"),
        ("empty", "no JSON object"),
        ("above", "score is 7, not between 0 and 1"),
        ("percent", "logical_rigor is 80, not between 0 and 1"),
        ("words", "score is no number"),
        ("true", "score is no number"),
        ("down", "status 500"),
        ("forbidden", "status 400"),
        ("slow", "APITimeoutError"),
        ("half", "APIConnectionError"),
        ("reset", "APIConnectionError"),
    ],
)
def test_what_is_no_judgement_fails_and_is_asked_for_again(judge_server, name, reason):
    with pytest.raises(Failed, match=reason) as failure:
        judge(judge_server)(trajectory(name))
    assert KEY not in str(failure.value)
    assert judge_server.calls[name] == (1 if name == "forbidden" else 2)  # the same request would be refused again


def test_a_refused_connection_fails(judge_server):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(Failed, match="APIConnectionError"):
        Judge(JudgeSettings(url, "judge-32b", attempts=2))(trajectory("good"))


@pytest.mark.parametrize(("name", "least"), [("busy", 1.0), ("shaky", 0.0)])
def test_passing_failures_pass(judge_server, name, least):
    began = time.perf_counter()
    assert judge(judge_server)(trajectory(name))["score"] == 0.7
    assert time.perf_counter() - began >= least  # as long as the server asked for
    assert judge_server.calls[name] == 2


def test_a_refused_key_stops_everything_without_showing_it(judge_server):
    with pytest.raises(
        InputError, match=r"refuses with status 401: is the model's name .judge-32b. right, and OPENAI_API_KEY set"
    ) as error:
        judge(judge_server)(trajectory("refused_key"))
    assert KEY not in str(error.value)


def test_what_is_sent(judge_server, tmp_path):
    extra = {"chat_template_kwargs": {"enable_thinking": False}}
    (tmp_path / "own.jinja").write_text("{{ problem }}|{{ solution }}|{{ criteria | length }}")
    judge(judge_server)(trajectory("good"))
    judge(judge_server, extra=extra, json_schema=False, template=str(tmp_path / "own.jinja"))(trajectory("good"))
    first, second = judge_server.bodies
    assert (first["model"], first["temperature"], first["max_tokens"]) == ("judge-32b", 0, 1024)
    assert first["response_format"]["json_schema"]["strict"] is True
    for part in (*CRITERIA, "<<good>> What is 1 + 2?", "1 + 2 = 3"):
        assert part in first["messages"][0]["content"]
    assert "response_format" not in second and second["chat_template_kwargs"] == {"enable_thinking": False}
    assert second["messages"][0]["content"] == "<<good>> What is 1 + 2?|1 + 2 = 3|5"
    assert judge_server.keys == {f"Bearer {KEY}"}


def test_a_long_solution_loses_its_middle_with_a_mark(judge_server):
    row = judge(judge_server, max_characters=200)(trajectory("good", "a" * 100 + "b" * 800 + "c" * 100))
    assert row["characters_cut"] == 800
    sent = judge_server.bodies[0]["messages"][0]["content"]
    assert "a" * 100 + "\n\n[... 800 characters left out here ...]\n\n" + "c" * 100 in sent and "b" * 9 not in sent


def test_every_example_of_the_prompt_is_readable():
    assert read_answer(ANSWERS["good"])["score"] == 0.7
    with pytest.raises(ValueError, match="no dimensional_evaluation"):
        read_answer('{"overall_score": 0.5}')


def test_failures_are_missing_and_counted_and_no_key_is_kept(judge_server, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    data = dataset("good", "down", "fenced", "above", "busy", "zero")
    measured = extract_features(judge(judge_server), data, tmp_path, "s")
    assert set(measured.failed) == {"down", "above"}
    values = llm_judged_quality(measured.rows).values
    np.testing.assert_array_equal(values, [0.7, np.nan, 0.4, np.nan, 0.7, 0.0])
    (row,) = dataset_scores(feature_scores([measured], [METRICS["llm_judged_quality"]])).filter(preset="").to_dicts()
    assert (row["value"], row["n"], row["missing"]) == (pytest.approx(0.45), 4, 2)

    judge_server.mended = {"down", "above"}
    calls = judge_server.calls.total()
    measured = extract_features(judge(judge_server), data, tmp_path, "s")
    assert judge_server.calls.total() == calls + 2  # what was paid for is not asked again
    assert measured.failed == {} and measured.artefact.manifest
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path
    assert KEY not in caplog.text and caplog.text


def test_an_interrupted_judge_asks_nobody_twice(judge_server, tmp_path):
    data = dataset(*[f"good{i}" for i in range(6)], "refused_key", *[f"later{i}" for i in range(6)])
    with pytest.raises(InputError, match="refuses with status 401"):
        extract_features(judge(judge_server, concurrency=1), data, tmp_path, "s")
    assert judge_server.calls.total() == 7
    judge_server.mended = {"refused_key"}
    measured = extract_features(judge(judge_server, concurrency=4), data, tmp_path, "s")
    assert judge_server.calls.total() == 14
    assert llm_judged_quality(measured.rows).values.tolist() == [0.7] * 13


def test_the_command(run, judge_server, tmp_path):
    model = save(tmp_path / "models" / "tiny")
    records = [
        {"id": name, "messages": [{"role": m.role, "content": m.content} for m in trajectory(name).messages]}
        for name in ("good", "down", "fenced")
    ]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.json").write_text(json.dumps(records))
    asked = [f"student={model}", f"teachers={tmp_path / 'data'}", "metrics=llm_judged_quality", "paths.outputs=out"]
    endpoint = [f"judge.endpoint={judge_server.url}", "judge.model=judge-32b", "judge.attempts=1"]
    missing = run("score.py", *asked)
    assert (missing.returncode, missing.stderr) == (
        1, "error: llm_judged_quality: needs judge.endpoint and judge.model\n"
    )  # fmt: skip
    result = run("score.py", *asked, *endpoint)
    assert result.returncode == 0, result.stderr
    assert "1 trajectories have no value, the first down: the endpoint answered with status 500" in result.stdout
    (row,) = tables(tmp_path / "out")[1].filter(preset="").to_dicts()
    assert (row["value"], row["n"], row["missing"]) == (pytest.approx(0.55), 2, 1)
    judge_server.mended = {"down"}
    again = run("score.py", *asked, *endpoint)
    assert again.returncode == 0 and "have no value" not in again.stdout
    assert judge_server.calls.total() == 4
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path
    assert KEY not in result.stdout + result.stderr + again.stdout + again.stderr


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", "SecurityError"),
        ("{{ answer }}", "UndefinedError: 'answer' is undefined"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{% if %}", "TemplateSyntaxError"),
    ],
)
def test_a_template_that_fails_is_refused_before_any_call(judge_server, tmp_path, template, reason):
    (tmp_path / "own.jinja").write_text(template)
    with pytest.raises(InputError, match=rf"own\.jinja: the judge's template fails: {reason}"):
        judge(judge_server, template=str(tmp_path / "own.jinja"))
    assert not judge_server.bodies
