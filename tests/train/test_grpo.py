"""Reinforcement: the student sees the prompts of the one renderer, and is rewarded for right answers alone."""

import json
from dataclasses import replace

import pytest
import torch

from rsr.data import trajectories
from rsr.errors import InputError
from rsr.grading.grader import Kind
from rsr.store.artefacts import MANIFEST
from tests import models
from train.base import Base
from train.grpo import Task, reinforce, reinforced_key, shares, task_of
from train.settings import Reinforcement

SETTINGS = Reinforcement(steps=2, learning_rate=1e-2, prompts=2, samples=4, max_new_tokens=8, micro_batch=4)


def problems(n=4, **known):
    reply = {"role": "assistant", "content": "?"}
    records = [
        (f"record {i}", {"messages": [{"role": "user", "content": f"What is {i}?"}, reply], **known}) for i in range(n)
    ]
    return trajectories.parse(records, "teacher", "gen1")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = models.save(tmp_path_factory.mktemp("student"))
    return Base("tiny", str(folder))


def test_the_prompts_are_those_of_the_renderer(base):
    task = task_of(base.renderer, problems(answer="1"), None, Kind.mathematics)
    tokenizer = base.renderer.tokenizer
    for t, prompt in zip(problems().trajectories, task.prompts, strict=True):
        assert tokenizer(prompt, add_special_tokens=False)["input_ids"] == base.renderer.prompt_ids(t.messages[:1])
    with pytest.raises(InputError, match="no answer is known"):
        task_of(base.renderer, problems(), None, Kind.mathematics)


def test_every_setting_that_shapes_the_weights_is_in_the_key():
    task = Task(["p"], ["1"])
    key = reinforced_key({"base": 1}, task, SETTINGS)
    others = [
        reinforced_key({"base": 2}, task, SETTINGS),
        reinforced_key({"base": 1}, Task(["p"], ["2"]), SETTINGS),
        reinforced_key({"base": 1}, Task(["p"], ["1"], "x"), SETTINGS),
        reinforced_key({"base": 1}, task, Reinforcement(**vars(SETTINGS) | {"steps": 3})),
    ]
    assert all(key != other for other in others)
    assert key == reinforced_key({"base": 1}, task, Reinforcement(**vars(SETTINGS) | {"micro_batch": 8}))
    with pytest.raises(InputError, match="does not divide"):
        Reinforcement(prompts=3, samples=3, micro_batch=8)


@pytest.mark.full
def test_a_student_is_rewarded_for_right_answers_and_found_again(base, tmp_path, monkeypatch):
    """Right is what matches: with a pattern for one letter the reward is the share of answers that have it."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    seen = []
    generate = GRPOTrainer._generate_single_turn

    def spy(self, prompt_ids, *others):
        completions = generate(self, prompt_ids, *others)
        seen.append((prompt_ids, completions[0]))
        return completions

    monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", spy)
    task = task_of(base.renderer, problems(answer="e"), "(?s).*(e)", Kind.mathematics)

    def run():
        return reinforce(base, base.model, {"base": "tiny"}, task, SETTINGS, tmp_path, "tiny")

    made = run()
    prompts = {tuple(base.renderer.prompt_ids(t.messages[:1])) for t in problems().trajectories}
    assert {tuple(ids) for batch, _ in seen for ids in batch} <= prompts
    texts = [base.renderer.tokenizer.decode(ids) for _, batch in seen for ids in batch]
    logged = [entry["reward"] for entry in json.loads((made.path / "history.json").read_text()) if "reward" in entry]
    assert sum(logged) / len(logged) == pytest.approx(sum("e" in text for text in texts) / len(texts))
    assert 0 < sum(logged) < len(logged)
    before, after = (_weights(folder) for folder in (base.model, made.path / "model"))
    assert any(not before[name].equal(after[name]) for name in before)
    stamp = (made.path / MANIFEST).stat().st_mtime_ns
    assert run().path == made.path and (made.path / MANIFEST).stat().st_mtime_ns == stamp and len(texts) == 16


def test_what_has_no_verdict_is_apart_and_makes_no_difference():
    """A group of one verdict is compared with nothing, as one of equal verdicts."""
    verdicts = [True, None, None, False, False, None, None, True, False, None, None, None]
    assert shares(verdicts, samples=3) == {"ungradable": 7 / 12, "idle": 3 / 4}


@pytest.mark.full
@pytest.mark.parametrize("every", [False, True])
def test_an_answer_without_a_verdict_has_no_reward(base, tmp_path, monkeypatch, every):
    """Punctuation is an answer that Math-Verify makes nothing of; it counts neither as right nor as wrong."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    seen = []
    rewards_of = GRPOTrainer._calculate_rewards

    def spy(self, *arguments):
        seen.append(rewards_of(self, *arguments))
        return seen[-1]

    monkeypatch.setattr(GRPOTrainer, "_calculate_rewards", spy)
    gold, pattern = ("#", "(?s)(.+)") if every else ("e", "(?s).*([e!-/:-@])")
    task = task_of(base.renderer, problems(answer=gold), pattern, Kind.mathematics)
    made = reinforce(base, base.model, {"base": "tiny"}, task, SETTINGS, tmp_path, "tiny")
    rewards = torch.cat(seen)
    without = rewards.isnan()
    assert made.facts["ungradable"] == without.double().mean().item()
    if every:
        assert without.all() and made.facts["reward"] == {"first": None, "last": None} and made.facts["idle"] == 1
        before, after = (_weights(folder) for folder in (base.model, made.path / "model"))
        assert all(before[name].equal(after[name]) for name in before)  # nothing is learned
    else:
        assert without.any() and {*rewards[~without].tolist()} == {0, 1}
        assert made.facts["reward"]["first"] == pytest.approx(seen[0].nanmean().item())


@pytest.mark.full
def test_thinking_that_the_prompt_opens_and_nothing_closes_is_no_answer(base, tmp_path):
    task = task_of(base.renderer, problems(answer="e"), "(?s).*(e)", Kind.mathematics)
    thinking = replace(task, prompts=[f"{prompt}<think>\n" for prompt in task.prompts])
    made = reinforce(base, base.model, {"base": "tiny"}, thinking, SETTINGS, tmp_path, "tiny")
    assert made.facts["reward"] == {"first": 0, "last": 0} and made.facts["idle"] == 1


def _weights(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder).state_dict()
