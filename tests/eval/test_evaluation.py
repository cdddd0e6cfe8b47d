"""Sampling and accuracy: what must not change an answer, and what is counted apart."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy import stats

from eval import benchmarks, performance, samples
from eval import model as models
from eval.batches import Batches
from eval.nucleus import NucleusSampling
from eval.sampling import noise
from eval.settings import Evaluation, Way
from rsr.data.messages import Message
from rsr.errors import InputError
from rsr.student import student as students
from tests.models import save

SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
IDENTITY = {"base": "tiny"}


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return students.load(save(tmp_path_factory.mktemp("models") / "tiny"), dtype="float32", device="cpu")


@pytest.fixture
def problems(tmp_path):
    def write(n=12, name="aime24", **changes):
        rows = [{"id": f"p{i}", "problem": f"What is {'1 + ' * i}1?", "answer": str(i + 1)} | changes for i in range(n)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return benchmarks.load(name, tmp_path)

    return write


def settings(**changes):
    defaults: dict[str, Any] = {"benchmarks": ["aime24"], "samples": 2, "max_new_tokens": 12, "temperature": 1.0}
    return Evaluation(**defaults | changes)


def answers(student, benchmark, evaluation, root: Path, batch_size=4):
    evaluation = replace(evaluation, batch_size=batch_size)
    chat = models.of_student(student)
    found = samples.find(root, "tiny", IDENTITY, benchmark.identity(), evaluation, Way.batches)
    sampler = Batches(student, chat.end_tokens, evaluation)
    return samples.read(samples.draw(found, chat, sampler, benchmark, evaluation))


# --- sampling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 0.95), (1.3, 0.5)])
def test_tokens_are_drawn_from_the_nucleus_with_its_probabilities(temperature, top_p):
    logits = torch.tensor([2.0, -1.0, 1.5, 0.0, 1.5, -3.0])
    probability = torch.softmax(logits.double() / temperature, 0).numpy()
    order = np.argsort(-probability, kind="stable")
    kept = order[: int(np.searchsorted(np.cumsum(probability[order]), top_p - 1e-12)) + 1]
    expected = np.zeros(6)
    expected[kept] = probability[kept] / probability[kept].sum()
    draws = 20_000
    drawn = np.stack([noise(["test", i], 1) for i in range(draws)])
    processor = NucleusSampling(temperature, top_p, drawn, prompt_length=3)
    chosen = processor(torch.zeros(draws, 3, dtype=torch.long), logits.expand(draws, 6)).argmax(dim=-1).numpy()
    found = np.bincount(chosen, minlength=6) / draws
    assert set(np.flatnonzero(found)) <= set(kept)
    assert found == pytest.approx(expected, abs=4 * np.sqrt(0.25 / draws))


def test_noise_belongs_to_its_key():
    assert np.array_equal(noise([0, "a", "p", 1], 5), noise([0, "a", "p", 1], 9)[:5])
    assert not np.array_equal(noise([0, "a", "p", 1], 5), noise([0, "a", "p", 2], 5))
    assert not np.array_equal(noise(["a", "bc"], 5), noise(["ab", "c"], 5))


@pytest.mark.full
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_batch_size_and_order_change_no_answer(student, problems, tmp_path, temperature):
    evaluation = settings(temperature=temperature, samples=1 if temperature == 0 else 3)
    first = answers(student, problems(), evaluation, tmp_path / "one", batch_size=1)
    assert answers(student, problems(), evaluation, tmp_path / "all", batch_size=100).equals(first)
    backwards = problems()
    backwards.documents.reverse()
    shuffled = list(reversed(range(len(backwards.documents))))
    backwards.task.dataset["test"] = backwards.task.dataset["test"].select(shuffled)
    other = answers(student, backwards, evaluation, tmp_path / "back", batch_size=5)
    assert other.sort("problem", "sample").equals(first.sort("problem", "sample"))


@pytest.mark.full
def test_samples_follow_from_the_seed(student, problems, tmp_path):
    first = answers(student, problems(), settings(), tmp_path / "a")
    assert answers(student, problems(), settings(), tmp_path / "b").equals(first)
    assert not answers(student, problems(), settings(seed=1), tmp_path / "c")["text"].equals(first["text"])
    texts = first.group_by("problem").agg(pl.col("text").n_unique())["text"]
    assert (texts > 1).mean() > 0.9


@pytest.mark.full
def test_samples_that_are_copies_are_refused(student, problems, tmp_path):
    with pytest.raises(InputError, match="are copies of one another"):
        answers(student, problems(), settings(temperature=1e-4), tmp_path)


@pytest.mark.full
def test_an_answer_cut_at_the_limit_is_truncated(student, problems, tmp_path):
    drawn = answers(student, problems(), settings(max_new_tokens=3), tmp_path)
    length = drawn["tokens"].list.len()
    assert ((length == 3) == (drawn["finish_reason"] == "length")).all()
    assert ((length < 3) == (drawn["finish_reason"] == "stop")).all()
    assert "length" in set(drawn["finish_reason"])


@pytest.mark.full
def test_the_prompt_is_that_of_the_one_renderer_with_its_system_message(student, problems):
    benchmark = problems()
    prompts = models.of_student(student).prompts(benchmark)
    for document in benchmark.documents:
        expected = student.renderer.prompt_ids([Message("system", SYSTEM), Message("user", document["problem"])])
        assert prompts[document["id"]] == tuple(expected)


@pytest.mark.full
def test_a_template_without_system_messages_is_an_error_not_a_shorter_prompt(problems, tmp_path):
    refusing = tmp_path / "refusing.jinja"
    refusing.write_text(
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    model = save(tmp_path / "tiny")
    student = students.load(model, dtype="float32", device="cpu", template=str(refusing))
    with pytest.raises(InputError, match="no system"):
        models.of_student(student).prompts(problems())


@pytest.mark.full
def test_killed_in_the_middle_it_goes_on_to_the_same_samples(student, problems, tmp_path):
    benchmark, evaluation = problems(), settings()
    unbroken = answers(student, benchmark, evaluation, tmp_path / "unbroken")
    chat = models.of_student(student)
    sampler = Batches(student, chat.end_tokens, replace(evaluation, batch_size=4))

    class Killed(Exception):
        pass

    class Dying(Batches):
        def answers(self, requests):
            for i, answer in enumerate(sampler.answers(requests)):
                if i == 9:
                    raise Killed
                yield answer

    dying = Dying(student, chat.end_tokens, evaluation)
    found = samples.find(tmp_path, "tiny", IDENTITY, benchmark.identity(), evaluation, Way.batches)
    with pytest.raises(Killed):
        samples.draw(found, chat, dying, benchmark, evaluation)
    with (found.path / samples.ANSWERS / "answers.jsonl").open("ab") as journal:
        journal.write(b"0123 {torn")
    counts = list[int]()
    drawn = samples.draw(found, chat, sampler, benchmark, evaluation, counts.append)
    assert counts == [9] + [1] * 15
    assert samples.read(drawn).equals(unbroken)


@pytest.mark.full
def test_answers_end_at_the_last_position(student, problems, tmp_path, monkeypatch):
    """Each prompt has the room that it leaves, whatever stands beside it in a batch."""
    lengths = [len(prompt) for prompt in models.of_student(student).prompts(problems()).values()]
    monkeypatch.setattr(student.model.config, "max_position_embeddings", max(lengths) + 4)
    evaluation = settings(max_new_tokens=12)
    drawn = answers(student, problems(), evaluation, tmp_path / "all", batch_size=100)
    assert answers(student, problems(), evaluation, tmp_path / "one", batch_size=1).equals(drawn)
    room = (max(lengths) + 4 - drawn["prompt_tokens"]).clip(upper_bound=12)
    assert ((drawn["tokens"].list.len() == room) == (drawn["finish_reason"] == "length")).all()
    assert room.min() == 4 and "length" in set(drawn.filter(room == 4)["finish_reason"])


@pytest.mark.full
def test_a_prompt_without_room_is_refused(student, problems, tmp_path, monkeypatch):
    longest = max(map(len, models.of_student(student).prompts(problems()).values()))
    monkeypatch.setattr(student.model.config, "max_position_embeddings", longest)
    with pytest.raises(InputError, match=f"a prompt of {longest} tokens leaves no room in the {longest} positions"):
        answers(student, problems(), settings(), tmp_path)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"samples": 0}, "samples=0 is too small"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"temperature": 0.0}, "gives the same answer every time"),
    ],
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(InputError, match=message):
        settings(**setting)


# --- benchmarks ----------------------------------------------------------------------------------------------------


def test_every_benchmark_has_a_card():
    cards = {path.stem: path.read_text() for path in benchmarks.TASKS.glob("*.md")}
    assert set(cards) == set(benchmarks.names())
    for name, card in cards.items():
        for said in ("Source", "Size", "Licence", "Should match", "Version"):
            assert f"**{said}**" in card, f"the card of {name} does not say {said}"


@pytest.mark.full
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "1", "problem": "?", "answer": ""}], "problem 1 has no text or no answer"),
        ([{"id": "1", "problem": "?", "answer": "1"}] * 2, "two problems have the same id"),
        (
            [{"id": "1", "prompt": "?", "answer": "1"}],
            "no column problem or Problem or question or Question; it has id",
        ),
    ],
)
def test_bad_benchmarks_are_refused(tmp_path, rows, message):
    (tmp_path / "amc23.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=message):
        benchmarks.load("amc23", tmp_path)


def test_what_is_no_benchmark_is_refused(tmp_path):
    with pytest.raises(InputError, match="no benchmark 'gsm'"):
        benchmarks.load("gsm")
    with pytest.raises(InputError, match="no such file"):
        benchmarks.load("math500", tmp_path)


@pytest.mark.full
def test_choices_of_gpqa_are_shuffled_the_same_way_every_time(tmp_path):
    from datasets import Dataset

    from eval.tasks.documents import multiple_choice

    rows = [
        {"Record ID": f"r{i}", "Question": f"Why {i}?", "Correct Answer": "because "}
        | {f"Incorrect Answer {j}": f"not {j}" for j in (1, 2, 3)}
        for i in range(40)
    ]
    first, again = (multiple_choice(Dataset.from_list(rows)).to_list() for _ in range(2))
    assert first == again
    assert all(f"({row['answer']}) because" in row["problem"].split("\n") for row in first)
    assert len({row["answer"] for row in first}) == 4


# --- accuracy ------------------------------------------------------------------------------------------------------


def test_accuracy_and_what_is_read_beside_it():
    rng = np.random.default_rng(0)
    outcomes = rng.choice(["correct", "wrong", "no answer"], 400)
    grades = graded(outcomes, tokens=rng.integers(1, 50, 400), finish_reason=rng.choice(["stop", "length"], 400))
    found = performance.performance(grades)
    assert found.accuracy == pytest.approx((outcomes == "correct").mean())
    assert found.unanswered == pytest.approx((outcomes == "no answer").mean())
    assert found.truncated == pytest.approx((grades["finish_reason"] == "length").mean())
    assert (found.problems, found.k, found.ungradable) == (100, 4, 0)
    # The bootstrap over problems has the standard error of a mean of 100 problem means.
    by_problem = (outcomes == "correct").reshape(100, 4).mean(axis=1)
    assert found.error == pytest.approx(by_problem.std() / 10, rel=0.05)
    assert found.low < found.accuracy < found.high
    shuffled = performance.performance(grades.sample(fraction=1.0, shuffle=True, seed=1).sort("problem"))
    assert shuffled.accuracy == pytest.approx(found.accuracy)


def test_what_has_no_verdict_is_neither_right_nor_wrong():
    outcomes = ["correct", "wrong", "timed out", "unparsable", "correct", "timed out", "timed out", "correct"]
    nothing = ["timed out", "unparsable", "timed out", "timed out"]
    found = performance.performance(graded([*outcomes, *nothing]))
    assert found.accuracy == pytest.approx((1 / 2 + 1) / 2)
    assert found.ungradable == pytest.approx(8 / 12)
    assert found.problems == 3


def graded(outcomes, **columns):
    """Grades of four samples a problem."""
    verdict = {"correct": True, "wrong": False, "no answer": False}
    n = len(outcomes)
    columns = {"tokens": [1] * n, "finish_reason": ["stop"] * n} | columns
    frame = {"problem": np.repeat(np.arange(n // 4), 4), "sample": np.tile(np.arange(4), n // 4), **columns}
    return pl.DataFrame(frame | {"outcome": outcomes, "correct": [verdict.get(outcome) for outcome in outcomes]})


def test_benchmarks_weigh_the_same_however_large():
    def all_alike(problems, right):
        return pl.DataFrame(
            {
                "problem": list(range(problems)),
                "tokens": [1] * problems,
                "finish_reason": ["stop"] * problems,
                "outcome": ["correct" if right else "wrong"] * problems,
                "correct": [right] * problems,
            }
        )

    both = performance.overall([all_alike(500, True), all_alike(30, False)])
    assert (both.accuracy, both.problems) == (0.5, 530)
    # No resample differs, so the ends are the exact ones, of SciPy's Clopper-Pearson interval.
    limits = [stats.binomtest(right, n).proportion_ci() for right, n in ((500, 500), (0, 30))]
    assert both.low == pytest.approx(np.mean([limit.low for limit in limits]))
    assert both.high == pytest.approx(np.mean([limit.high for limit in limits]))


@pytest.mark.parametrize("right", [False, True])
def test_none_of_few_right_is_not_known_to_be_none_of_all(right):
    """Where 2 % are right (or wrong), 0 of 30 problems are in half of the samples: the interval has to cover then, too."""
    rng, covered, trials = np.random.default_rng(0), 0, 300
    for _ in range(trials):
        outcomes = np.repeat(rng.choice(["wrong", "correct"], 30, p=[0.98, 0.02] if not right else [0.02, 0.98]), 4)
        found = performance.performance(graded(outcomes), resamples=200)
        covered += found.low <= (0.98 if right else 0.02) <= found.high
    assert covered / trials > 0.9
