"""Training sets selected from several teachers are what a plain re-computation from the stored scores gives."""

import hashlib
import json
from dataclasses import replace
from itertools import permutations
from random import Random
from typing import Any

import polars as pl
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import experiments.trajectory_selection  # noqa: F401  registers its schema
from experiments.analysis.validation import by_chance
from experiments.app.command_configs import Matching, SelectionConfig, SelectionSetting
from experiments.app.shared_configs import ROOT
from experiments.stages import metric_scores, random_selection, teacher_data, training_sets
from experiments.stages.random_selection import GENERATION, RANDOM
from experiments.stages.training_sets import LARK, NONE
from rsr.data.messages import Message
from rsr.data.trajectories import Dataset, Trajectory
from rsr.errors import InputError
from rsr.metrics import by_name
from rsr.selection.rules import Rule
from rsr.store.artefacts import MANIFEST
from tests.models import save

METRICS = ["rsr", "avg_surprisal", "lark_learnability", "g_norm", "avg_token_length", "rule_based_quality"]
TEACHERS = ("a", "b", "c")


def text(teacher, generation, i):
    """Some are wrong, some equal another's, some are long."""
    rng = Random(f"{teacher}/{generation}/{i}" if i % 4 else f"{i}")
    body = " ".join(rng.choice(["check", "therefore", "so", "1 + 2 =", "perhaps"]) for _ in range(rng.randint(1, 12)))
    return f"{body} \\boxed{{{i if rng.random() < 0.6 else 99}}}"


def chats(teacher, generation, problems):
    def chat(i):
        return [{"role": "user", "content": f"P{i}"}, {"role": "assistant", "content": text(teacher, generation, i)}]

    return [{"id": f"p{i}", "answer": str(i), "messages": chat(i)} for i in problems]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Configuration, data and scores of three teachers in two generations; one teacher lacks a problem."""
    folder = tmp_path_factory.mktemp("selections")
    for teacher in TEACHERS:
        (folder / "data" / teacher).mkdir(parents=True)
        for generation in ("gen1", "gen2"):
            problems = range(1 if teacher == "c" else 0, 12)
            (folder / "data" / teacher / f"{generation}.json").write_text(
                json.dumps(chats(teacher, generation, problems))
            )
    given = [f"paths.outputs={folder / 'out'}", "bootstrap.resamples=100", "scoring.dtype=float32"]
    student = {"name": "tiny", "model": str(save(folder / "tiny"))}
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        composed = compose("trajectory_selection", overrides=given)
    composed.student = OmegaConf.merge(composed.student, student | {"source": "measured"})
    composed.teachers = OmegaConf.merge(
        composed.teachers, {"data": str(folder / "data"), "teachers": [], "fewer": ["a", "c"]}
    )
    config = OmegaConf.to_object(composed)
    assert isinstance(config, SelectionConfig)
    data = teacher_data.load(config.teachers, config.scoring, config.paths)
    return config, data, metric_scores.score(replace(config, metrics=METRICS))


def content(messages):
    as_json = json.dumps([[m.role, m.content] for m in messages], ensure_ascii=True)
    return hashlib.sha256(as_json.encode()).hexdigest()


def plainly(method, setting, data, scores):
    """Problem -> the text of its best candidate, by a loop over the stored scores."""
    rows = scores.trajectories.filter(metric=method, preset="").rows(named=True) if method != RANDOM else []
    value = {(r["teacher"], r["generation"], r["trajectory"]): r["value"] for r in rows}
    sign = 1 if method == RANDOM or by_name(method).direction == "lower" else -1
    best: dict[str, Any] = {}
    for dataset in data:
        if setting is SelectionSetting.one_generation and dataset.generation != "gen1":
            continue
        if setting is SelectionSetting.fewer_teachers and dataset.teacher == "b":
            continue
        for t in dataset.trajectories:
            response = t.messages[-1].content
            wrong = setting is SelectionSetting.correct_first and not response.endswith(f"\\boxed{{{t.answer}}}")
            key = (wrong, sign * value[dataset.teacher, dataset.generation, t.id], content(t.messages))
            best[t.problem] = min(best.get(t.problem, (key, response)), (key, response))
    return {problem: response for problem, (_, response) in best.items()}


@pytest.mark.full
@pytest.mark.parametrize("setting", SelectionSetting)
@pytest.mark.parametrize("method", METRICS)
def test_a_selection_is_the_plain_recomputation(study, method, setting):
    config, data, scores = study
    pool = training_sets.pool(setting, data, config.teachers.fewer)
    found = training_sets.select(method, pool, Rule(), scores, config)
    expected = plainly(method, setting, data, scores)
    assert {t.problem: t.messages[-1].content for t in found.dataset.trajectories} == expected
    assert sorted(expected) == [t.problem for t in found.dataset.trajectories]
    sizes = {
        SelectionSetting.all: "6",
        SelectionSetting.one_generation: "3",
        SelectionSetting.fewer_teachers: "4",
        SelectionSetting.correct_first: "6",
    }
    assert pool.label.startswith(f"{sizes[setting]}-to-1")


@pytest.mark.full
def test_a_selection_is_found_again_and_says_where_each_line_is_from(study):
    config, data, scores = study
    pool = training_sets.pool(SelectionSetting.all, data, [])
    first = training_sets.select("rsr", pool, Rule(), scores, config)
    written = (first.artefact.path / MANIFEST).stat().st_mtime_ns
    again = training_sets.select("rsr", pool, Rule(), scores, config)
    assert (
        again.dataset.digest() == first.dataset.digest()
        and (again.artefact.path / MANIFEST).stat().st_mtime_ns == written
    )
    lines = [json.loads(line) for line in (first.artefact.path / "set" / "train.jsonl").read_text().splitlines()]
    chosen = first.chosen.select("teacher", "generation", "trajectory").rows()
    assert [(r["teacher"], r["generation"], r["id"]) for r in lines] == chosen


@pytest.mark.full
def test_all_candidates_and_shares_of_the_problems(study):
    config, data, scores = study
    pool = training_sets.pool(SelectionSetting.one_generation, data, [])
    everything = training_sets.select(NONE, pool, Rule(), scores, config)
    assert len(everything.dataset.trajectories) == sum(len(d.trajectories) for d in data) / 2
    one = training_sets.Pool("share", data[:1])
    quarter = training_sets.select("rsr", one, Rule(share=0.25), scores, config)
    values = scores.trajectories.filter(metric="rsr", preset="", teacher="a", generation="gen1")
    assert {t.id for t in quarter.dataset.trajectories} == {*values.sort("value")["trajectory"][:3]}
    drawn = [
        training_sets.select(RANDOM, one, Rule(share=0.25), scores, config, seed=seed).dataset for seed in range(8)
    ]
    assert {len(d.trajectories) for d in drawn} == {3} and len({d.digest() for d in drawn}) > 4


@pytest.mark.full
@pytest.mark.parametrize("setting", [SelectionSetting.all, SelectionSetting.correct_first])
def test_lark_takes_up_to_three_answers_to_a_problem_and_weighs_them(study, setting):
    config, data, scores = study
    found = training_sets.select(LARK, training_sets.pool(setting, data, []), Rule(), scores, config)
    lines = [json.loads(line) for line in (found.artefact.path / "set" / "train.jsonl").read_text().splitlines()]
    assert [line["weight"] for line in lines] == pytest.approx(found.chosen["weight"].to_list())
    by_problem = found.chosen.group_by("problem").agg(pl.len(), pl.col("weight").sum())
    assert by_problem["len"].max() == 3 and len(found.dataset.trajectories) == len(lines)
    assert by_problem["weight"].to_list() == pytest.approx([len(lines) / len(by_problem)] * len(by_problem))
    assert setting is SelectionSetting.all or found.chosen["correct"].all()


def test_settings_that_come_to_the_same_are_one():
    data = some("abc")
    found = training_sets.pools(list(SelectionSetting), data, ["a", "c"])
    assert [of.label for of in found] == ["3-to-1", "2-to-1, fewer teachers", "3-to-1, correct first"]


@pytest.mark.full
def test_what_cannot_be_selected_is_said(study):
    config, data, scores = study
    with pytest.raises(InputError, match="names d: there are no data"):
        training_sets.pool(SelectionSetting.fewer_teachers, data, ["a", "d"])
    with pytest.raises(InputError, match="has fewer_teachers: name them"):
        training_sets.pool(SelectionSetting.fewer_teachers, data, [])
    with pytest.raises(InputError, match="grace, which has no score of a trajectory"):
        training_sets.scored(config, ["grace"])
    unknown = [replace(d, trajectories=tuple(replace(t, answer=None) for t in d.trajectories)) for d in data]
    with pytest.raises(InputError, match="no answer to any problem is known"):
        training_sets.select(
            "rsr", training_sets.pool(SelectionSetting.correct_first, unknown, []), Rule(), scores, config
        )


def some(names, problems=40):
    return [
        Dataset(
            name,
            "gen1",
            tuple(
                Trajectory(f"p{i}", f"p{i}", (Message("user", f"{i}"), Message("assistant", name)))
                for i in range(problems)
            ),
        )
        for name in names
    ]


@pytest.mark.full
@pytest.mark.parametrize("by", Matching)
def test_matched_selections_are_parts_of_one_size(study, by):
    config, data, scores = study
    pool = training_sets.pool(SelectionSetting.all, data, [])
    whole = [
        training_sets.select(method, pool, Rule(), scores, config) for method in (RANDOM, "rsr", "avg_token_length")
    ]
    parts = training_sets.matched(whole, by, config)
    sizes = {(len(part.chosen), part.chosen["tokens"].sum()) for part in parts}
    assert by is not Matching.rows or {rows for rows, _ in sizes} == {min(len(w.chosen) for w in whole)}
    for part, of in zip(parts, whole, strict=True):
        assert (part.method, part.whole, part.label) == (of.method, of, f"6-to-1, {training_sets.EQUAL[by]}")
        assert part.chosen.join(of.chosen, on=random_selection.KEYS, how="anti").is_empty()
        texts = {t.id: t.messages[-1].content for t in of.dataset.trajectories}
        assert [t.id for t in part.dataset.trajectories] == part.chosen["trajectory"].to_list()
        assert all(texts[t.id] == t.messages[-1].content for t in part.dataset.trajectories)
    again = training_sets.matched(whole, by, config)
    assert [part.artefact.id for part in again] == [part.artefact.id for part in parts]


def test_chance_draws_evenly_whatever_the_order_of_teachers():
    data = some("abcd", 400)
    drawn = random_selection.random(data)
    assert drawn.generation == GENERATION and random_selection.random(data[::-1]).digest() == drawn.digest()
    expected = [Random(f"0/{p}").choice("abcd") for p in sorted(f"p{i}" for i in range(400))]
    assert [t.messages[-1].content for t in drawn.trajectories] == expected
    assert all(60 < expected.count(name) < 140 for name in "abcd")
    assert random_selection.random(data, seed=1).digest() != drawn.digest()


def test_pairs_right_by_chance_are_counted_exactly():
    for n in (3, 5):
        right = [sum(o[i] < o[j] for i in range(n) for j in range(i + 1, n)) for o in permutations(range(n))]
        for k in range(n * (n - 1) // 2 + 1):
            assert by_chance(n, k) == pytest.approx(sum(r >= k for r in right) / len(right))
