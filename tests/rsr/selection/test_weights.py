"""LARK's gains and weights against its formulas in plain Python, and a weighed training set."""

import json
import math

import numpy as np
import polars as pl
import pytest

import rsr
from rsr.errors import InputError
from rsr.metrics import by_name
from rsr.selection.rules import CANDIDATES, Rule, choose
from rsr.selection.weights import gains, number_weighed, weights_of
from rsr.student import student as students
from tests.clients import teachers, write
from tests.models import save

BEST = 3


def plain_gains(losses, learnabilities):
    total = sum(losses)
    mean = sum(loss * rho for loss, rho in zip(losses, learnabilities, strict=True)) / total
    return [loss / total * (2 * rho - mean) for loss, rho in zip(losses, learnabilities, strict=True)]


def plain_weights(sizes, following):
    """By the gains of the chosen and the best one left out, as the source writes it: their sum is 1."""
    mean = sum(sizes) / len(sizes)
    return [(size - following) / (mean - following) / len(sizes) for size in sizes]


def candidates(values, problems):
    rows = [
        {"teacher": "t", "generation": "", "trajectory": str(i), "problem": problem, "group": "t", "value": value}
        | {"tokens": 9, "correct": None, "content": f"{i:03}", "cluster": None}
        for i, (value, problem) in enumerate(zip(values, problems, strict=True))
    ]
    return pl.DataFrame(rows, schema=CANDIDATES)


def weighed(values, problems):
    """Weight by place of each chosen candidate."""
    choice = choose(candidates(values, problems), "higher", Rule(correct="ignore", per_problem=BEST))
    return dict(zip(map(int, choice.chosen["trajectory"]), weights_of(choice, BEST), strict=True))


def test_gains_agree_with_a_plain_computation():
    rng = np.random.default_rng(0)
    loss, rho = rng.uniform(0.1, 3, 30), rng.uniform(0.1, 1, 30)
    problems = [f"p{i % 4}" for i in range(30)]
    expected = np.empty(30)
    for problem in set(problems):
        at = [i for i in range(30) if problems[i] == problem]
        expected[at] = plain_gains(loss[at], rho[at])
    table = pl.DataFrame({"problem": problems, "loss": loss, "learnability": rho})
    assert gains(table).to_list() == pytest.approx(expected.tolist(), rel=1e-12)


def test_an_answer_without_a_number_has_no_gain_and_changes_none():
    table = pl.DataFrame(
        {"problem": ["p"] * 4, "loss": [1.0, 2.0, None, 3.0], "learnability": [0.5, 0.25, None, float("nan")]}
    )
    found = gains(table).to_list()
    assert found[:2] == pytest.approx(plain_gains([1.0, 2.0], [0.5, 0.25])) and found[2:] == [None, None]


def test_weights_are_those_of_the_source_with_one_sum_for_every_problem():
    values = np.random.default_rng(1).normal(size=17).tolist()
    problems = ["a"] * 6 + ["b"] * 4 + ["c"] * 7
    found = weighed(values, problems)
    assert np.mean(list(found.values())) == pytest.approx(1)
    for problem in "abc":
        at = sorted((i for i in range(17) if problems[i] == problem), key=lambda i: -values[i])
        expected = plain_weights([values[i] for i in at[:BEST]], values[at[BEST]])
        assert [found[i] for i in at[:BEST]] == pytest.approx([BEST * w for w in expected])


def test_where_no_answer_is_left_out_the_next_lies_just_below_the_last():
    found = weighed([0.5, 0.2, 0.1, 7.0], ["a", "a", "a", "b"])
    expected = plain_weights([0.5, 0.2, 0.1], 0.1 - 1e-8)
    assert [found[i] for i in range(3)] == pytest.approx([2 * w for w in expected])
    assert found[3] == pytest.approx(2)  # alone, with the sum of its problem


def test_equal_gains_weigh_alike():
    assert weighed([0.5] * 5, ["a"] * 5).values() == pytest.approx([1] * 3)


@pytest.mark.parametrize("rule", [Rule(per_problem=3), Rule(correct="ignore", per_problem=None)])
def test_a_rule_that_does_not_take_the_largest_gains_is_refused(rule):
    with pytest.raises(InputError, match=r"--correct only|--per-problem 3"):
        number_weighed(rule, "lark")


# --- a training set ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return students.load(save(tmp_path_factory.mktemp("student")), dtype="float32", device="cpu")


def test_a_weighed_training_set_has_a_weight_in_every_record(student, tmp_path):
    data = teachers(tmp_path / "data", 5, suffix=".jsonl")
    scores = rsr.score(student, data, outputs=tmp_path / "out")
    chosen = rsr.select(scores, data, weights="lark", correct="ignore", per_problem=1)
    both = rsr.select(scores, data, weights="lark", correct="ignore", per_problem=2)
    numbers = {
        (row["teacher"], row["trajectory"], row["metric"]): row["value"]
        for row in scores.trajectories.filter(preset="").iter_rows(named=True)
    }
    for row in both.choice.chosen.iter_rows(named=True):
        loss, rho = (
            [numbers[teacher, row["trajectory"], name] for teacher in ("terse", "wordy")]
            for name in ("avg_surprisal", "lark_learnability")
        )
        gain = dict(zip(("terse", "wordy"), plain_gains(loss, rho), strict=True))
        assert row["value"] == pytest.approx(gain[row["teacher"]])
        if row["trajectory"] in chosen.choice.chosen.filter(teacher=row["teacher"])["trajectory"]:
            assert gain[row["teacher"]] == max(gain.values())
    file = both.write(tmp_path / "new")
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert [record["weight"] for record in records] == both.choice.chosen["weight"].to_list()
    assert math.fsum(record["weight"] for record in records) == pytest.approx(10)
    assert pl.read_csv(tmp_path / "new" / "selected.csv")["weight"].to_list() == pytest.approx(
        [record["weight"] for record in records]
    )
    assert json.loads((tmp_path / "new" / "manifest.json").read_text())["rule"]["weights"] == "lark"
    assert "weight" not in rsr.select(scores, data).records_as("records")[0]
    assert both.chosen_by == "LARK's gain" and by_name(both.metric).name == "lark_learnability"


def test_a_field_of_that_name_is_not_written_over(student, tmp_path):
    file = write(tmp_path / "t.jsonl", [{"problem": "1 + 1?", "solution": "It is 2.", "weight": 3}])
    scores = rsr.score(student, file, outputs=tmp_path / "out")
    chosen = rsr.select(scores, file, weights="lark", correct="ignore", per_problem=1)
    for form in ("records", "messages"):
        with pytest.raises(InputError, match=r"a 'weight' of its own already"):
            chosen.write(tmp_path / "new", form)
