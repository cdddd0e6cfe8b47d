"""Token stores: resuming, identity, refusals."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import gpu
from rsr.data.messages import Message
from rsr.data.trajectories import Dataset, Trajectory, parse, read
from rsr.errors import InputError
from rsr.metrics import by_name
from rsr.metrics.aggregate import dataset_scores, trajectory_scores
from rsr.metrics.score_tables import of_metric
from rsr.store import artefacts
from rsr.student import pretrained
from rsr.student import student as students
from rsr.student.chat import Departures
from rsr.student.template import load_template
from rsr.tokens import score_dataset as stage
from rsr.tokens import token_store
from rsr.tokens.engine import Scorer, batches
from rsr.tokens.score_dataset import score_dataset
from rsr.tokens.settings import CHARACTERS, Scoring
from rsr.tokens.token_store import write_shard
from tests.clients import write
from tests.models import save, together

cut = stage._shards


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("student"))


@pytest.fixture
def scorer(folder):
    return Scorer(students.load(folder, name="tiny", dtype="float32", device="cpu"), Scoring())


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    def by_four(scorer, dataset):
        n = len(dataset.trajectories)
        return [range(i, min(i + 4, n)) for i in range(0, n, 4)]

    monkeypatch.setattr(stage, "_shards", by_four)


def trajectory(i, reply=None):
    reply = reply if reply is not None else "1 + 2 = 3. " * (i % 5 + 1) + "\\boxed{42}"
    return Trajectory(f"t{i}", f"p{i}", (Message("user", f"Problem {i}"), Message("assistant", reply)))


DATASET = Dataset("teacher", "gen1", tuple(trajectory(i) for i in range(10)))


def content(token_store):
    shards = list(token_store)
    arrays = [np.concatenate([getattr(s.tokens, n) for s in shards]) for n in ("rank", "surprisal", "entropy")]
    return [i for s in shards for i in s.ids], arrays


def same_content(one, other):
    assert one[0] == other[0]
    for a, b in zip(one[1], other[1], strict=True):
        assert np.array_equal(a, b)


def near(one, other):
    """Equal but for what batches of another shape round."""
    assert (one.rank != other.rank).mean() <= 0.01
    np.testing.assert_allclose(one.surprisal, other.surprisal, atol=2e-5)
    np.testing.assert_allclose(one.entropy, other.entropy, atol=2e-5)


def test_a_store_holds_what_the_engine_computes(scorer, tmp_path):
    token_store = score_dataset(scorer, DATASET, tmp_path)
    assert [len(s.ids) for s in token_store] == [4, 4, 2]
    rendered = [scorer.student.renderer.render(t.messages) for t in DATASET.trajectories]
    parts = [scorer.score(rendered[i : i + 4]) for i in (0, 4, 8)]
    ids, (rank, surprisal, entropy) = content(token_store)
    assert ids == [t.id for t in DATASET.trajectories]
    assert np.array_equal(rank, np.concatenate([p.rank for p in parts]))
    assert np.array_equal(surprisal, np.concatenate([p.surprisal for p in parts]))
    assert np.array_equal(entropy, np.concatenate([p.entropy for p in parts]))
    assert token_store.artefact.facts["counts"]["trajectories"] == 10


@pytest.mark.parametrize("rendering", ["whole", "turn"])
def test_a_store_holds_what_a_trajectory_repeats(folder, tmp_path, rendering):
    """In either rendering a reply that is given again is a repeat, and a first reply is none."""
    student = students.load(folder, name="tiny", dtype="float32", device="cpu", rendering=rendering)
    reply = "7 + 8 = 15, 9 + 6 = 15, so it is \\boxed{15}."
    again = (Message("user", "1?"), Message("assistant", reply), Message("user", "2?"), Message("assistant", reply))
    data = Dataset("teacher", "", (Trajectory("once", "p", again[:2]), Trajectory("twice", "p", again)))
    store = score_dataset(Scorer(student, Scoring()), data, tmp_path)
    (shard,) = store
    once = len(student.renderer.tokenizer(reply)["input_ids"])
    assert shard.tokens.repeated is not None
    assert shard.tokens.repeated.tolist() == [False] * once + [False] * once + [True] * once
    scores = trajectory_scores(store, [by_name("repetition"), by_name("rsr_without_repeats"), by_name("rsr")])
    assert scores.filter(metric="repetition")["value"].to_list() == [0, 0.5]
    without, rsr = (scores.filter(metric=name)["value"].to_list() for name in ("rsr_without_repeats", "rsr"))
    assert without == pytest.approx([rsr[0], rsr[0]], rel=1e-4) and rsr[1] != pytest.approx(rsr[0])


def test_expected_ranks_are_kept_by_choice_which_alone_has_a_key_of_its_own(scorer, tmp_path):
    plain = score_dataset(scorer, DATASET, tmp_path)
    asking = Scorer(scorer.student, Scoring(expectations=True))
    kept = score_dataset(asking, DATASET, tmp_path)
    assert kept.artefact.key["scoring"] == plain.artefact.key["scoring"] | {"expectations": True}
    assert (plain.artefact.facts["columns"], kept.artefact.facts["columns"]) == (
        ["repeated", "squares"],
        ["expected_rank", "repeated", "squares"],
    )
    tokens = asking.score([scorer.student.renderer.render(t.messages) for t in DATASET.trajectories])
    for name in ("squares", "expected_rank"):
        values = np.concatenate([getattr(shard.tokens, name) for shard in kept])
        np.testing.assert_allclose(values, getattr(tokens, name), rtol=1e-5)
    assert tokens.expected_rank is not None and tokens.squares is not None
    assert (tokens.expected_rank >= 1).all() and (tokens.squares > 0).all()
    assert all(shard.tokens.expected_rank is None for shard in plain)
    lark = trajectory_scores(plain, [by_name("lark_learnability")])["value"]
    assert lark.null_count() == 0
    assert trajectory_scores(plain, [by_name("calibrated_rsr")])["value"].null_count() == 10
    with pytest.raises(InputError, match=r"calibrated_rsr needs expected_rank: score with expectations=true"):
        by_name("calibrated_rsr")(next(iter(plain)).tokens)


def test_a_store_from_before_the_columns_is_read_and_says_what_it_lacks(scorer, tmp_path):
    store = score_dataset(scorer, DATASET, tmp_path)
    path = store.artefact.path / token_store.shard_name(0)
    shard = token_store.read_shard(store.artefact, 0)
    old = pq.read_table(path).drop_columns(["squares", "expected_rank", "repeated"])
    pq.write_table(old, path)
    before = {name: value for name, value in store.artefact.facts.items() if name != artefacts.FILES}
    store = replace(store, artefact=replace(store.artefact, manifest=before))  # there were no digests then
    assert np.array_equal(token_store.read_shard(store.artefact, 0).tokens.rank, shard.tokens.rank)
    scores = trajectory_scores(store, [by_name("rsr"), by_name("lark_learnability")])
    assert scores.filter(metric="rsr")["value"].null_count() == 0
    assert scores.filter(metric="lark_learnability")["value"].null_count() == 4
    assert trajectory_scores(store, [by_name("repetition")])["value"].null_count() == 4
    with pytest.raises(
        InputError, match=r"needs squares: its token store was made before .*: remove it and score anew"
    ):
        of_metric(scores.filter(pl.col("value").is_null()), "lark_learnability")


def test_scoring_again_computes_nothing(scorer, tmp_path, monkeypatch):
    first = score_dataset(scorer, DATASET, tmp_path)
    monkeypatch.setattr(Scorer, "score", lambda *a: pytest.fail("scored again"))
    again = score_dataset(scorer, replace(DATASET, teacher="another name"), tmp_path)
    assert again.artefact.path == first.artefact.path
    assert again.teacher == "another name"


def windows(monkeypatch, shards):
    monkeypatch.setattr(
        stage, "_window", lambda scorer, dataset, cut, processes: min(shards, -(-len(cut) // processes))
    )


@pytest.mark.parametrize(("window", "interrupted_at"), [(1, 0), (1, 1), (1, 2), (2, 1), (3, 0)])
def test_resuming_in_the_middle_gives_the_unbroken_content(scorer, tmp_path, monkeypatch, window, interrupted_at):
    windows(monkeypatch, window)
    unbroken = content(score_dataset(scorer, DATASET, tmp_path / "unbroken"))
    real, calls = Scorer.score, []

    def breaking(self, *arguments):
        calls.append(1)
        if len(calls) == interrupted_at + 1:
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(Scorer, "score", breaking)
    with pytest.raises(KeyboardInterrupt):
        score_dataset(scorer, DATASET, tmp_path / "broken")
    resumed = score_dataset(scorer, DATASET, tmp_path / "broken")
    assert len(calls) == 1 + -(-3 // window)  # the window in flight is all that was lost
    same_content(content(resumed), unbroken)


def test_a_window_of_which_some_shards_are_there_gives_the_unbroken_content(scorer, tmp_path, monkeypatch):
    windows(monkeypatch, 2)
    unbroken = content(score_dataset(scorer, DATASET, tmp_path / "unbroken"))
    (killed_while_completing(scorer, tmp_path / "killed", monkeypatch) / "shard-00001.parquet").unlink()
    written = []

    def write(artefact, index, shard):
        written.append(index)
        write_shard(artefact, index, shard)

    monkeypatch.setattr(stage, "write_shard", write)
    same_content(content(score_dataset(scorer, DATASET, tmp_path / "killed")), unbroken)
    assert written == [1]


@settings(max_examples=10, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=14), window=st.integers(1, 4), budget=st.integers(1, 900)
)
def test_shards_are_the_same_whatever_the_window(folder, tmp_path_factory, lengths, window, budget):
    data = replace(DATASET, trajectories=tuple(trajectory(i, "1 + 2 = 3. " * n + "x") for i, n in enumerate(lengths)))
    student = students.load(folder, name="tiny", dtype="float32", device="cpu")
    scorer, stores = Scorer(student, Scoring(token_budget=budget)), []
    for shards in (1, window):
        with pytest.MonkeyPatch.context() as patch:
            windows(patch, shards)
            stores.append(score_dataset(scorer, data, tmp_path_factory.mktemp("store")))
    for one, other in zip(*stores, strict=True):
        assert replace(one, tokens=None) == replace(other, tokens=None)
        assert np.array_equal(one.tokens.offsets, other.tokens.offsets)
        near(one.tokens, other.tokens)


def of_lengths(lengths):
    """A dataset whose trajectories are guessed to have so many tokens."""
    return replace(DATASET, trajectories=tuple(trajectory(i, "x" * CHARACTERS * n) for i, n in enumerate(lengths)))


def shards_of(data, max_length=32_768):
    return cut(SimpleNamespace(max_length=max_length), data)


def test_a_shard_is_a_share_of_its_dataset_within_bounds():
    def tokens(data):
        return [sum(t.characters // CHARACTERS for t in data.trajectories[s.start : s.stop]) for s in shards_of(data)]

    long_chats = of_lengths([8_000] * 12)
    assert [len(s) for s in shards_of(long_chats)] == [
        4,
        4,
        4,
    ]  # a kill loses a third, where 128 were a shard it lost all
    assert max(tokens(of_lengths([10] * 9_000))) <= stage.LEAST
    large = of_lengths([7_000] * 600)
    assert len(tokens(large)) >= stage.SHARE and max(tokens(large)) <= 600 * 7_000 // stage.SHARE + 10
    one = of_lengths([5, 200_000, 5])
    assert [len(s) for s in shards_of(one, 10**6)] == [1, 1, 1]
    assert [len(s) for s in shards_of(one, 16_000)] == [3]  # of a chat that is cut only what is scored counts
    assert shards_of(replace(DATASET, trajectories=())) == []


def test_shards_follow_from_content_alone(tmp_path):
    records = [
        {"messages": [m.as_dict() for m in t.messages]} for t in of_lengths([3_000, 40, 20_000] * 8).trajectories
    ]
    file = write(tmp_path / "a.jsonl", records)
    assert shards_of(read(file, "a")) == shards_of(parse(((str(i), r) for i, r in enumerate(records)), "b"))


def test_a_kill_within_a_small_dataset_of_long_chats_keeps_what_was_scored(scorer, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "_shards", cut)
    monkeypatch.setattr(stage, "LEAST", 2**10)
    data, real, scored = of_lengths([400] * 6), Scorer.score, []

    def breaking(self, chats, *rest):
        scored.append(len(chats))
        if len(scored) == 3:
            raise KeyboardInterrupt
        return real(self, chats, *rest)

    monkeypatch.setattr(Scorer, "score", breaking)
    with pytest.raises(KeyboardInterrupt):
        score_dataset(scorer, data, tmp_path)
    store = score_dataset(scorer, data, tmp_path)
    assert scored == [2, 2, 2, 2]  # the last two alone are scored again
    assert [len(shard.ids) for shard in store] == [2, 2, 2]


@pytest.mark.parametrize(
    ("lengths", "budget", "count", "in_shards"),
    [
        (gpu.WORK["135M"].lengths, 29_127, 5_000, 0.3),
        (gpu.WORK["1.5B"].lengths, 10_922, 5_000, 0.002),
        (gpu.WORK["7B"].lengths, 4_681, 5_000, 0.0),
        (gpu.WORK["135M"].lengths, 2_048, 5_000, 0.015),
    ],
)
def test_padding_stays_under_three_percent(lengths, budget, count, in_shards):
    drawn = replace(lengths, chats=count).draw()
    data, engine = of_lengths(drawn), SimpleNamespace(token_budget=budget, max_length=32_768)
    shards = shards_of(data)
    window = stage._window(engine, data, shards, 1)

    def padding(number):
        ends = [shards[i].start for i in range(0, len(shards), number)] + [count]
        parts = [drawn[a:b] for a, b in pairwise(ends)]
        padded = sum(len(g) * max(p[i] for i in g) for p in parts for g in batches(p, budget))
        return 1 - sum(drawn) / padded

    assert in_shards <= padding(1)
    assert padding(window) < 0.03


def test_memory_that_runs_out_is_recorded_and_changes_nothing(scorer, tmp_path):
    unbroken = content(score_dataset(scorer, DATASET, tmp_path / "one"))
    tight = Scorer(scorer.student, Scoring())

    def allocate(module, args, given):
        if len(given["input_ids"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    handle = tight.body.register_forward_pre_hook(allocate, with_kwargs=True)
    try:
        store = score_dataset(tight, DATASET, tmp_path / "two")
    finally:
        handle.remove()
    np.testing.assert_allclose(content(store)[1][1], unbroken[1][1], atol=2e-5)
    recorded = store.artefact.facts["computed_with"]
    assert recorded["token_budget_left"] == tight.least_budget < recorded["token_budget"]


def test_a_shard_that_cannot_be_written_ends_the_run(scorer, tmp_path, monkeypatch):
    def full(artefact, index, shard):
        raise InputError(f"{artefact.path / token_store.shard_name(index)}: no space left")

    monkeypatch.setattr("rsr.tokens.score_dataset.write_shard", full)
    with pytest.raises(InputError, match=r"shard-00000.parquet: no space left"):
        score_dataset(scorer, DATASET, tmp_path)


def test_processes_share_the_work_and_change_nothing(scorer, tmp_path):
    one = score_dataset(scorer, DATASET, tmp_path / "one")
    tokens = [0, 0]

    def run(process, barrier):
        def count(characters, of):
            tokens[process[0]] += of

        return score_dataset(scorer, DATASET, tmp_path / "two", process=process, barrier=barrier, progress=count)

    for shared in together(run):
        assert [shard.ids for shard in shared] == [
            [f"t{i}" for i in shard] for shard in (range(4), range(4, 8), (8, 9))
        ]
        for shard, alone in zip(shared, one, strict=True):
            near(shard.tokens, alone.tokens)
    assert all(tokens)


def test_other_settings_make_another_store(scorer, folder, tmp_path):
    half = Scorer(students.load(folder, name="tiny", dtype="bfloat16", device="cpu"), Scoring())
    shorter = Scorer(scorer.student, Scoring(max_length=64))
    other = replace(DATASET, trajectories=DATASET.trajectories[:9])
    stores = [
        score_dataset(one, data, tmp_path)
        for one, data in ((scorer, DATASET), (half, DATASET), (shorter, DATASET), (scorer, other))
    ]
    assert len({s.artefact.path for s in stores}) == 4
    batched = Scorer(scorer.student, Scoring(token_budget=64, head_chunk=999))
    assert score_dataset(batched, DATASET, tmp_path).artefact.path == stores[0].artefact.path


def test_a_folder_of_other_settings_is_refused_with_both_shown(scorer, tmp_path):
    path = score_dataset(scorer, DATASET, tmp_path).artefact.path
    manifest = artefacts.read_signed(path / "manifest.json")
    manifest["key"]["scoring"]["max_length"] = 77
    artefacts.write_signed(path / "manifest.json", manifest)
    with pytest.raises(
        InputError, match=r'made with other settings: scoring: saved .*"max_length": 77.*requested .*2048'
    ):
        score_dataset(scorer, DATASET, tmp_path)


def test_truncation_is_flagged_and_a_cut_away_response_is_null(scorer, tmp_path):
    prompt = len(scorer.student.renderer.prompt_ids(DATASET.trajectories[0].messages[:1]))
    cut = Scorer(scorer.student, Scoring(max_length=prompt))
    data = replace(
        DATASET,
        trajectories=tuple(
            replace(t, messages=(DATASET.trajectories[0].messages[0], *t.messages[1:])) for t in DATASET.trajectories
        ),
    )
    token_store = score_dataset(cut, data, tmp_path)
    counts = token_store.artefact.facts["counts"]
    assert (counts["truncated"], counts["without_response_tokens"], counts["response_tokens"]) == (10, 10, 0)
    rows = trajectory_scores(token_store)
    assert rows["value"].null_count() == len(rows)
    table = dataset_scores(rows)
    assert table["value"].null_count() == len(table)
    assert set(table["missing"]) == {10}


def test_what_cannot_be_rendered_is_refused_or_left_out_and_listed(folder, tmp_path, monkeypatch):
    rewriting = students.load(folder, name="tiny", dtype="float32", device="cpu")
    template = rewriting.renderer.template
    template.source = template.source.replace("message['content']", "message['content'] | replace('2.', 'two.')")
    scorer = Scorer(rewriting, Scoring())
    data = replace(DATASET, trajectories=(*DATASET.trajectories[:3], trajectory(3, "It is 2.")))
    with pytest.raises(
        InputError,
        match=r"teacher/gen1, trajectory t3: message 1: the chat template does not keep the response verbatim",
    ):
        score_dataset(scorer, data, tmp_path)
    token_store = score_dataset(scorer, data, tmp_path, on_error="skip")
    facts = token_store.artefact.facts
    assert facts["counts"]["left_out"] == 1
    assert facts["left_out"][0]["id"] == "t3"
    # What was left out under one policy is not passed over under the other, complete or not.
    with pytest.raises(InputError, match="teacher/gen1, trajectory t3"):
        score_dataset(scorer, data, tmp_path)
    killed_while_completing(scorer, tmp_path / "killed", monkeypatch, data, on_error="skip")
    with pytest.raises(InputError, match="teacher/gen1, trajectory t3"):
        score_dataset(scorer, data, tmp_path / "killed")


def test_where_the_chats_depart_from_the_trajectories_is_in_the_manifest(folder, tmp_path):
    student = students.load(folder, name="tiny", dtype="float32", device="cpu")
    student.renderer.template.source = student.renderer.template.source.replace("['content']", "['content'] | trim")
    data = replace(DATASET, trajectories=(*DATASET.trajectories[:3], trajectory(3, " It is 2. ")))
    facts = score_dataset(Scorer(student, Scoring()), data, tmp_path).artefact.facts
    assert facts["rendering"] == "whole" and facts["counts"]["rendering_dropped"] == 2
    assert any("drops 2 characters of responses" in note for note in facts["notes"])


def test_turns_of_a_rewriting_template_are_scored_as_they_are_met(folder, tmp_path):
    """Every turn has the statistics that it has alone, behind its own prefix; the keys of the renderings differ."""
    thought = "<think>\nHm.\n</think>\n\n"
    replies = [thought + "It is 3.", thought + "It is 42.", "Yes."]
    messages = [m for i, r in enumerate(replies) for m in (Message("user", f"Problem {i}"), Message("assistant", r))]
    data = Dataset("teacher", "gen1", (trajectory(0), Trajectory("c", "c", tuple(messages)), trajectory(1)))
    rewriting = load_template("chatml").replace(
        "message['content']", "(message['content'] if loop.last else message['content'].split('</think>')[-1].lstrip())"
    )
    (tmp_path / "rewriting.jinja").write_text(rewriting)
    stores, loaded = {}, dict[str, Any](dtype="float32", device="cpu", template=str(tmp_path / "rewriting.jinja"))
    for rendering in ("whole", "turn"):
        student = students.load(folder, name="tiny", rendering=rendering, **loaded)
        stores[rendering] = score_dataset(Scorer(student, Scoring()), data, tmp_path)
    assert stores["whole"].artefact.key["student"] | {"rendering": "turn"} == stores["turn"].artefact.key["student"]
    (shard,) = stores["turn"]
    own = shard.tokens.surprisal[shard.tokens.offsets[1] : shard.tokens.offsets[2]]
    alone = [Scorer(student, Scoring()).score([chat]).surprisal for chat in student.renderer.turns(messages)]
    assert np.allclose(own, np.concatenate(alone), atol=1e-4)
    assert stores["turn"].artefact.facts["counts"]["rendering_dropped"] == 0
    assert stores["whole"].artefact.facts["counts"]["rendering_dropped"] == 2 * len(thought)


def test_a_missing_shard_of_a_complete_store_is_named(scorer, tmp_path):
    token_store = score_dataset(scorer, DATASET, tmp_path)
    (token_store.artefact.path / "shard-00001.parquet").unlink()
    with pytest.raises(
        InputError, match=r"shard-00001\.parquet: cannot be read \(no such file\); remove .* to make it anew"
    ):
        trajectory_scores(token_store)


def test_logits_that_are_not_finite_name_the_trajectory(scorer, tmp_path):
    import torch

    with torch.no_grad():
        scorer.student.model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(
        InputError, match=r"teacher/gen1, trajectory t\d: the logits at response token 0 are not finite"
    ):
        score_dataset(scorer, DATASET, tmp_path)


def test_a_damaged_shard_is_named(scorer, tmp_path):
    store = score_dataset(scorer, DATASET, tmp_path)
    second = store.artefact.path / "shard-00001.parquet"
    whole = second.read_bytes()
    for at in (len(whole) // 3, len(whole) - 40):
        second.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        with pytest.raises(InputError, match=r"shard-00001\.parquet: cannot be read .*; remove .* to make it anew"):
            list(store)


def test_a_begun_shard_that_is_damaged_is_scored_anew(scorer, tmp_path, monkeypatch):
    right = content(score_dataset(scorer, DATASET, tmp_path / "whole"))
    partial = killed_while_completing(scorer, tmp_path / "killed", monkeypatch)
    (partial / "shard-00000.parquet").write_bytes(b"PAR1")
    shard = bytearray((partial / "shard-00001.parquet").read_bytes())
    shard[len(shard) // 3] ^= 1
    (partial / "shard-00001.parquet").write_bytes(shard)
    same_content(content(score_dataset(scorer, DATASET, tmp_path / "killed")), right)


def killed_while_completing(scorer, root, monkeypatch, data=DATASET, **settings):
    """The folder of a store that has all its shards and not its name."""
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            score_dataset(scorer, data, root, **settings)
    (partial,) = (root / "tokens").iterdir()
    return partial


def test_shards_round_trip(tmp_path):
    from rsr.tokens.tokens import Tokens

    tokens = Tokens(
        np.array([1, 4_000_000_000], np.uint32),
        np.array([0.5, 1e-9], np.float32),
        np.array([0, 11], np.float32),
        np.array([0, 0, 2, 2]),
    )
    departures = [Departures(), Departures(1, 2, 3, 4), Departures()]
    shard = token_store.Shard(
        ["a", "b", "c"],
        ["p", "q", "r"],
        ["x", "y", None],
        [1, 2, 3],
        [False, True, False],
        [None, None, "why"],
        departures,
        tokens,
    )
    artefact = artefacts.find_or_begin(tmp_path, "tokens", "x", {"a": 1})
    token_store.write_shard(artefact, 0, shard)
    back = token_store.read_shard(artefact, 0)
    assert (back.ids, back.problems, back.sha256, back.chat_tokens) == (
        shard.ids,
        shard.problems,
        shard.sha256,
        shard.chat_tokens,
    )
    assert (back.truncated, back.reasons, back.departures) == (shard.truncated, shard.reasons, departures)
    for name in ("rank", "surprisal", "entropy", "offsets"):
        assert np.array_equal(getattr(back.tokens, name), getattr(tokens, name))


def test_keys_without_one_spelling_are_refused():
    with pytest.raises(TypeError):
        artefacts.digest({"path": object()})
    with pytest.raises(ValueError, match="not JSON compliant"):
        artefacts.digest({"x": float("nan")})
    assert artefacts.digest({"a": 1, "b": 2}) == artefacts.digest({"b": 2, "a": 1})


WRITER = """
import os, sys
import numpy as np
from pathlib import Path
from rsr.store import artefacts
from rsr.tokens import token_store
from rsr.errors import InputError
from rsr.student.chat import Departures
from rsr.student.template import load_template
from rsr.tokens.tokens import Tokens
root = Path(sys.argv[1])
if len(sys.argv) > 2:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
else:
    os.setuid(65534)
try:
    artefact = artefacts.find_or_begin(root, "tokens", "x", {"a": 1})
    n = 200_000
    rng = np.random.default_rng(0)
    tokens = Tokens(rng.integers(1, 99, n).astype(np.uint32), *rng.random((2, n)).astype(np.float32), np.array([0, n]))
    token_store.write_shard(artefact, 0, token_store.Shard(["t"], ["p"], ["s"], [n], [False], [None], [Departures()], tokens))
except InputError as error:
    print(error)
"""


def write_as(tmp_path, *arguments):
    command = [sys.executable, "-c", WRITER, str(tmp_path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_read_only_folder_is_one_line(tmp_path):
    made = 3 if "PYTEST_XDIST_WORKER" in os.environ else 2  # folders above that pytest made
    for parent in [tmp_path, *tmp_path.parents[:made]]:
        parent.chmod(0o755)
    out = write_as(tmp_path)
    assert "cannot be written: Permission denied; what is finished is kept" in out
    assert out.count("\n") == 1


def test_a_full_disk_is_one_line_and_leaves_no_half_file(tmp_path):
    out = write_as(tmp_path, "limit")
    assert "cannot be written: " in out
    assert "File too large; what is finished is kept, the same command goes on" in out
    (partial,) = (tmp_path / "tokens").iterdir()
    assert [p.name for p in partial.iterdir()] == ["key.json"]


def test_a_token_that_the_embeddings_have_no_row_for_is_refused_or_left_out(folder, tmp_path):
    widened = shutil.copytree(folder, tmp_path / "widened")
    tokenizer = pretrained.load_tokenizer(widened)
    tokenizer.add_tokens(["Therefore"])  # and the model was not resized
    tokenizer.save_pretrained(widened)
    scorer = Scorer(students.load(widened, name="tiny", dtype="float32", device="cpu"), Scoring())
    assert len(list(score_dataset(scorer, DATASET, tmp_path))) == 3  # which never say it
    data = replace(DATASET, trajectories=(trajectory(0), trajectory(1, "Therefore 2.")))
    with pytest.raises(
        InputError, match=r"trajectory t1: the tokenizer writes 'Therefore' as token \d+, and the model has embeddings"
    ):
        score_dataset(scorer, data, tmp_path)
    assert score_dataset(scorer, data, tmp_path, on_error="skip").artefact.facts["counts"]["left_out"] == 1
