"""A judge over real HTTP decides on the answers that are not found; nobody is asked twice, and no verdict is no verdict."""

import json
import logging

import pytest

import rsr.cli
from rsr.data.trajectories import parse
from rsr.errors import InputError
from rsr.grading.answer_judge import AnswerJudge
from rsr.grading.correctness import correctness
from rsr.grading.endpoint import JudgeSettings
from rsr.tokens.settings import Settings
from tests.clients import write
from tests.judge_server import KEY
from tests.models import save


def chat(name, reply, answer="2", **facts):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": f"<<{name}>> What is 1 + 1?"},
        {"role": "assistant", "content": reply},
        {"role": "user", "content": "Thank you."},
    ]
    return {"messages": messages, "answer": answer, **facts}


def trajectories(*records):
    return parse([(str(i), record) for i, record in enumerate(records)], "teacher").trajectories


def judge(judge_server, folder, **of):
    return AnswerJudge(JudgeSettings(judge_server.url, "judge-32b", **(dict(attempts=2, timeout=1.0) | of)), folder)


def test_it_decides_what_is_not_found_and_nothing_else(judge_server, tmp_path):
    asked = trajectories(
        chat("wrong", r"\boxed{2}"),  # found, and so not asked
        chat("wrong", "It makes two.", correct=True),  # known
        chat("right", "It makes two.", answer=None),  # nothing to compare with
        chat("right", "<think>It makes two."),  # no answer yet
        chat("right", "</think> It makes two."),
        chat("wrong", "It makes three."),
        chat("none", "Let me see."),
        chat("right", "It makes \\boxed{?}."),  # which no parser reads
    )
    decided = correctness(asked, judge=judge(judge_server, tmp_path))
    assert decided == [True, True, None, None, True, False, None, True]
    assert correctness(asked) == [True, True, None, None, None, None, None, None]
    assert judge_server.calls == {"right": 2, "wrong": 1, "none": 1}


def test_what_is_sent(judge_server, tmp_path):
    judge(judge_server, tmp_path)(trajectories(chat("right", "<think>Hm: 3?</think>It makes two.", answer="2.0")))
    (body,) = judge_server.bodies
    sent = body["messages"][0]["content"]
    assert "<reference>\n2.0\n</reference>" in sent and "<response>\nIt makes two.\n</response>" in sent
    assert "<<right>> What is 1 + 1?" in sent
    assert not [word for word in ("Hm", "Thank you", "Be brief") if word in sent]  # what is no answer has no say
    assert body["response_format"]["json_schema"]["schema"]["properties"]["verdict"]["enum"] == [
        "right",
        "wrong",
        "none",
    ]
    assert judge_server.keys == {f"Bearer {KEY}"}


def test_nobody_is_asked_twice_whatever_else_is_asked(judge_server, tmp_path):
    first = trajectories(chat("right", "Two."), chat("wrong", "Three."))
    assert judge(judge_server, tmp_path)(first) == [True, False]
    more = trajectories(chat("none", "Hm."), chat("wrong", "Three."), chat("right", "Two."), chat("right", "Two."))
    again = judge(judge_server, tmp_path)
    assert again(more) == [None, False, True, True] and again.asked == 1
    assert judge_server.calls == {"right": 1, "wrong": 1, "none": 1}
    # Another reference, response, judge or template is another question.
    assert judge(judge_server, tmp_path)(trajectories(chat("right", "Two.", answer="3"))) == [True]
    assert judge(judge_server, tmp_path, max_tokens=9)(first) == [True, False]
    (tmp_path / "own.jinja").write_text("{{ problem }}{{ reference }}{{ response }}")
    assert judge(judge_server, tmp_path, template=str(tmp_path / "own.jinja"))(first) == [True, False]
    assert judge_server.calls == {"right": 4, "wrong": 3, "none": 1}


def test_no_verdict_is_unknown_and_asked_again_and_no_key_is_kept(judge_server, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    asked = trajectories(*(chat(name, "Two.") for name in ("right", "down", "prose", "unsure", "slow", "shaky")))
    first = judge(judge_server, tmp_path)
    assert first(asked) == [True, None, None, None, None, None]
    assert sorted(first.failed) == [
        "the answer holds no JSON object with verdict (asked 2 times)",
        "the answer holds no JSON object with verdict (asked 2 times)",  # `shaky` answers with another judgement
        "the answer's verdict is ['right'], not right, wrong or none (asked 2 times)",
        "the endpoint answered with status 500",
        "the endpoint gave no answer (APITimeoutError)",
    ]
    judge_server.mended = {"down", "prose", "unsure", "slow", "shaky"}
    second = judge(judge_server, tmp_path)
    assert second(asked) == [True] * 6 and second.asked == 5 and not second.failed
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path
    assert KEY not in caplog.text and caplog.text


def test_a_refusal_stops_and_loses_nothing(judge_server, tmp_path):
    asked = trajectories(*(chat(f"right{i}", "Two.") for i in range(3)), chat("refused_key", "Two."))
    judge_server.mended = {"right0", "right1", "right2"}
    with pytest.raises(InputError, match=r"status 401: is the model's name 'judge-32b' right, and OPENAI_API_KEY set"):
        judge(judge_server, tmp_path, concurrency=1)(asked)
    judge_server.mended |= {"refused_key"}
    again = judge(judge_server, tmp_path)
    assert again(asked) == [True] * 4 and again.asked == 1


def test_an_endpoint_that_answers_nothing_is_not_asked_for_ever(judge_server, tmp_path):
    asked = trajectories(*(chat("down", f"Two, {i} times.") for i in range(100)))
    with pytest.raises(
        InputError, match=r"v1: the judge answered none of the first 10 questions, the last: the endpoint"
    ):
        judge(judge_server, tmp_path, attempts=1, concurrency=2)(asked)
    assert judge_server.calls["down"] < 20
    # One answer among the first, and all are asked.
    some = judge(judge_server, tmp_path, attempts=1, concurrency=1)
    assert some(trajectories(chat("right", "Two.")) + asked) == [True] + [None] * 100 and len(some.failed) == 100


def test_an_endpoint_is_a_url(tmp_path):
    with pytest.raises(InputError, match="localhost:8000/v1: no URL of a judge: give one such as http://"):
        AnswerJudge(JudgeSettings("localhost:8000/v1", "judge-32b"), tmp_path)


def test_a_torn_record_is_asked_again(judge_server, tmp_path):
    first = trajectories(chat("right", "Two."), chat("wrong", "Three."))
    one = judge(judge_server, tmp_path, concurrency=1)
    one(first)
    one.file.write_bytes(one.file.read_bytes()[:-9])
    again = judge(judge_server, tmp_path)
    assert again(first) == [True, False] and again.asked == 1


@pytest.mark.full
def test_the_commands_ask_it_once(judge_server, tmp_path, monkeypatch, capfd):
    model = save(tmp_path / "models" / "tiny")
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data" / "a.jsonl", [chat(name, "It makes two.", id=name) for name in ("right", "wrong", "down")])
    write(tmp_path / "data" / "b.jsonl", [chat(name, r"\boxed{2}", id=name) for name in ("right", "wrong", "down")])
    options = [
        "data",
        "--student",
        model,
        "--dtype",
        "float32",
        "--judge",
        judge_server.url,
        "--judge-model",
        "judge-32b",
    ]

    def said(*arguments):
        assert rsr.cli.run([str(a) for a in arguments]) == 0
        return capfd.readouterr()

    ranked = said("rank", *options, "--json")
    assert json.loads(ranked.out)["verdicts"]["a"] == {"right": 1, "wrong": 1, "unknown": 1}
    assert (
        "the judge on 3 answers that were not found: 1 right, 1 wrong, 1 without a final answer or a verdict; 3 asked now"
        in ranked.err
    )
    assert "1 questions got no verdict, the first: the endpoint answered with status 500" in ranked.err
    judge_server.mended = {"down"}
    selected = said("select", *options, "--teachers", "a", "--correct", "only", "-o", "-")
    assert [json.loads(line)["id"] for line in selected.out.splitlines()] == ["down", "right"]
    assert "2 right, 1 wrong, 0 without a final answer or a verdict; 1 asked now" in selected.err
    reported = said("report", *options)
    assert "2 right, 1 wrong, 0 without a final answer or a verdict; 0 asked now" in reported.err
    assert "asked now" not in said("select", *options, "--correct", "ignore", "-o", "other").err
    chosen = rsr.select(
        rsr.score(model, "data", settings=Settings(dtype="float32")),
        "data",
        teachers=["a"],
        correct="only",
        judge=JudgeSettings(judge_server.url, "judge-32b"),
    )
    assert len(chosen.trajectories) == 2 and judge_server.calls == {"right": 1, "wrong": 1, "down": 5}


@pytest.mark.parametrize("given", [["--judge", "http://localhost:1/v1"], ["--judge-model", "judge-32b"]])
def test_an_endpoint_has_a_model(given, capfd):
    assert rsr.cli.run(["rank", "data", "--student", "student", *given]) == 2
    assert "--judge and --judge-model go together" in capfd.readouterr().err
