"""vLLM in the place of the engine, with a stand-in for it over a real model: vLLM itself is not run."""

import json
import sys
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM

from experiments.app.shared_configs import (
    Engine,
    PathsConfig,
    ScoreConfig,
    ScoringConfig,
    StudentConfig,
    TeachersConfig,
)
from experiments.stages import scoring as configured
from experiments.stages import students as configured_students
from rsr.data.messages import Message
from rsr.data.trajectories import Dataset, Trajectory
from rsr.errors import InputError
from rsr.metrics.score_tables import tabulate
from rsr.student import pretrained
from rsr.student import student as students
from rsr.tokens.engine import NotFinite, Scorer
from rsr.tokens.score_dataset import score_dataset
from rsr.tokens.settings import Scoring
from rsr.tokens.token_store import shard_name
from rsr.tokens.vllm_engine import VllmScorer
from tests import vllm_stand_in as stand_in
from tests.models import save

WITHOUT_VALUE = {"avg_entropy", "rank_entropy_ratio", "lark_learnability", "calibrated_rsr", "avg_rank_indicator"}


def trajectory(i):
    reply = "1 + 2 = 3. Perhaps not. " * (i % 4 + 1) + "\\boxed{42}"
    return Trajectory(f"t{i}", f"p{i}", (Message("user", f"Problem {i}"), Message("assistant", reply)))


DATASET = Dataset("teacher", "gen1", tuple(trajectory(i) for i in range(6)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    for name, module in stand_in.modules().items():
        monkeypatch.setitem(sys.modules, name, module)


def own(folder, **settings):
    return Scorer(students.load(folder, dtype="float32", device="cpu"), Scoring(**settings))


def in_vllm(folder, **settings):
    return VllmScorer(folder, dtype="float32", **settings)


def statistics(store):
    tokens = [shard.tokens for shard in store]
    return (np.concatenate([getattr(t, n) for t in tokens]) for n in ("rank", "surprisal", "entropy"))


def test_stores_agree_and_what_vllm_does_not_give_is_missing(folder, tmp_path):
    one, other = (score_dataset(of(folder, max_length=500), DATASET, tmp_path) for of in (own, in_vllm))
    (rank, surprisal, entropy), (vllm_rank, vllm_surprisal, missing) = statistics(one), statistics(other)
    assert len(rank) > 100 and np.array_equal(vllm_rank, rank)
    np.testing.assert_allclose(vllm_surprisal, surprisal, atol=1e-5)
    assert np.isnan(missing).all() and not np.isnan(entropy).any()
    on_disk = pq.read_table(other.artefact.path / shard_name(0))["entropy"].combine_chunks().flatten()
    assert on_disk.null_count == len(on_disk) == len(missing)
    assert other.artefact.facts["computed_with"] == {"vllm": stand_in.__version__, "device": "cpu"}

    expected, table = (tabulate([s], tmp_path, "t").datasets.sort("metric", "preset") for s in (one, other))
    for ours, row in zip(expected.iter_rows(named=True), table.iter_rows(named=True), strict=True):
        if row["metric"] in WITHOUT_VALUE:
            assert row["value"] is row["low"] is row["error"] is None and (row["n"], row["missing"]) == (0, 6)
        else:
            assert row["value"] == pytest.approx(ours["value"], rel=1e-3) and row["missing"] == 0


def test_the_tie_rule_is_in_the_key_and_stores_of_two_rules_are_not_mixed(folder, tmp_path):
    one, other = (score_dataset(of(folder, max_length=500), DATASET, tmp_path) for of in (own, in_vllm))
    keys = [store.artefact.key["scoring"] for store in (one, other)]
    assert [key["tie_rule"] for key in keys] == ["strictly-larger-logits", "vllm-at-least-as-large"]
    assert one.artefact.path != other.artefact.path
    with pytest.raises(InputError, match=r"are not scored alike: .*strictly-larger.*vllm-at-least") as refused:
        tabulate([one, other], tmp_path, "both")
    assert "\n" not in str(refused.value)


def test_ties_raise_ranks_as_the_rule_says(folder, tmp_path):
    """With every logit twice, each token has one equal: no rank changes here, each is one higher there."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    weights: Any = model.get_input_embeddings().weight  # tied
    half = len(weights) // 2
    with torch.no_grad():
        weights[half : 2 * half] = weights[:half]
    model.save_pretrained(tmp_path / "tied")
    pretrained.load_tokenizer(folder).save_pretrained(tmp_path / "tied")
    scorers = [of(tmp_path / "tied", max_length=500) for of in (own, in_vllm)]
    chats = [scorers[0].student.renderer.render(t.messages) for t in DATASET.trajectories]
    ours, theirs = (scorer.score(chats) for scorer in scorers)
    targets = np.concatenate([np.array(chat.ids)[chat.positions()] for chat in chats])
    assert np.array_equal(theirs.rank, ours.rank + (targets < 2 * half))


def test_a_long_chat_is_cut_and_flagged_alike(folder, tmp_path):
    prompt = len(own(folder).student.renderer.render(DATASET.trajectories[0].messages[:1]).ids)
    stores = [score_dataset(of(folder, max_length=prompt + 30), DATASET, tmp_path) for of in (own, in_vllm)]
    (ours,), (theirs,) = stores
    assert any(ours.truncated) and ours.truncated == theirs.truncated and ours.chat_tokens == theirs.chat_tokens
    assert np.array_equal(ours.tokens.offsets, theirs.tokens.offsets)
    assert np.array_equal(ours.tokens.rank, theirs.tokens.rank)
    # vLLM insists on generating a token, so that a chat may take all positions but one.
    long = Dataset("long", "", (Trajectory("t", "p", (Message("user", "?"), Message("assistant", "1 + " * 2000))),))
    (cut,) = score_dataset(in_vllm(folder), long, tmp_path)
    assert cut.truncated == [True] and in_vllm(folder).max_length == 2047
    with pytest.raises(InputError, match="max_length 2048 is beyond the 2047 positions"):
        in_vllm(folder, max_length=2048)


def test_log_probabilities_that_are_not_there_are_refused(folder, monkeypatch):
    scorer = in_vllm(folder)
    chats = [scorer.student.renderer.render(t.messages) for t in DATASET.trajectories[:2]]
    assert scorer.score([]).lengths.size == 0
    real = stand_in.LLM._output
    at = chats[1].positions()[3]

    def broken(llm, ids):
        output = real(llm, ids)
        if ids == list(chats[1].ids):
            output.prompt_logprobs[at][ids[at]].logprob = float("nan")
        return output

    monkeypatch.setattr(stand_in.LLM, "_output", broken)
    with pytest.raises(NotFinite) as refused:
        scorer.score(chats)
    assert (refused.value.chat, refused.value.token) == (1, 3)

    def cached(llm, ids):
        output = real(llm, ids)
        del output.prompt_logprobs[1:17]
        return output

    monkeypatch.setattr(stand_in.LLM, "_output", cached)
    with pytest.raises(InputError, match="not as the version that this was written for"):
        scorer.score(chats)


def test_the_setting(folder, tmp_path, monkeypatch):
    """scoring.backend=vllm scores; scoring again starts no vLLM; what it has no place for is refused."""
    records = [{"messages": [{"role": m.role, "content": m.content} for m in t.messages]} for t in DATASET.trajectories]
    (tmp_path / "teacher.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    config = ScoreConfig(
        StudentConfig("tiny", str(folder)),
        TeachersConfig("data", str(tmp_path / "teacher.jsonl")),
        ScoringConfig(Engine.vllm),
        paths=PathsConfig(outputs=tmp_path / "outputs"),
    )
    scores = configured.score(config)
    assert scores is not None and scores.artefact.facts["scoring"]["tie_rule"] == "vllm-at-least-as-large"
    monkeypatch.setattr(stand_in.LLM, "__init__", lambda *a, **k: pytest.fail("vLLM was started"))
    again = configured.score(config)
    assert again is not None and again.artefact.path == scores.artefact.path

    with pytest.raises(InputError, match=r"gives token stores alone: this needs transformers"):
        configured_students.load(config.student, config.scoring, config.paths)
    unread: dict[str, Any] = {"attention": "eager", "device": "cpu", "token_budget": 7, "beyond_positions": True}
    for name, value in unread.items():
        config.scoring = ScoringConfig(Engine.vllm, **{name: value})
        with pytest.raises(InputError, match=f"scoring.backend=vllm has no scoring.{name}"):
            configured.score(config)
    monkeypatch.setitem(sys.modules, "vllm", None)
    config.scoring = ScoringConfig(Engine.vllm)
    with pytest.raises(InputError, match="install the extra vllm in an environment of its own"):
        configured.score(config)
