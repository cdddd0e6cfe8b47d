"""Trajectories that are scored already: found by their content, whatever dataset they were scored in."""

from dataclasses import replace

import numpy as np
import pytest

from rsr.data.messages import Message
from rsr.data.trajectories import Dataset, Trajectory
from rsr.student import student as students
from rsr.tokens.engine import Scorer
from rsr.tokens.score_dataset import score_dataset
from rsr.tokens.settings import Scoring
from tests.models import save


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    folder = save(tmp_path_factory.mktemp("student"))
    return Scorer(students.load(folder, name="tiny", dtype="float32", device="cpu"), Scoring())


def trajectory(i):
    reply = "1 + 2 = 3. " * (i % 5 + 1) + "\\boxed{42}"
    return Trajectory(f"t{i}", f"p{i}", (Message("user", f"Problem {i}"), Message("assistant", reply)))


EIGHT = Dataset("teacher", "", tuple(trajectory(i) for i in range(8)))


@pytest.fixture
def scored(monkeypatch):
    """How many chats each call of the engine is given."""
    numbers, real = [], Scorer.score

    def counting(self, chats, *rest):
        numbers.append(len(chats))
        return real(self, chats, *rest)

    monkeypatch.setattr(Scorer, "score", counting)
    return numbers


def rows(store):
    (shard,) = store
    return {
        name: (
            shard.problems[i],
            shard.chat_tokens[i],
            shard.sha256[i],
            *map(tuple, _statistics(shard.tokens.part(i, i + 1))),
        )
        for i, name in enumerate(shard.ids)
    }


def _statistics(tokens):
    return tokens.rank, tokens.surprisal, tokens.entropy, tokens.squares


def test_a_part_of_scored_data_is_scored_by_nobody_again(scorer, tmp_path, scored):
    whole = rows(score_dataset(scorer, EIGHT, tmp_path))
    part = replace(EIGHT, trajectories=EIGHT.trajectories[5:1:-1])
    assert rows(score_dataset(scorer, part, tmp_path)) == {f"t{i}": whole[f"t{i}"] for i in (5, 4, 3, 2)}
    assert scored == [8]


def test_of_data_that_are_scored_in_part_the_rest_is(scorer, tmp_path, scored):
    first = rows(score_dataset(scorer, replace(EIGHT, trajectories=EIGHT.trajectories[::2]), tmp_path))
    done = []
    store = score_dataset(
        scorer, EIGHT, tmp_path, progress=lambda characters, tokens: done.append((characters, tokens))
    )
    assert scored == [4, 4]
    assert [*rows(store)] == [t.id for t in EIGHT.trajectories]
    assert first.items() <= rows(store).items()
    assert sum(characters for characters, _ in done) == sum(t.characters for t in EIGHT.trajectories)
    alone = score_dataset(scorer, EIGHT, tmp_path / "alone")
    for (shard,), (other,) in [(store, alone)]:
        np.testing.assert_allclose(shard.tokens.surprisal, other.tokens.surprisal, atol=2e-5)
        assert replace(shard, tokens=other.tokens) == other


def test_the_names_are_those_of_the_data_at_hand(scorer, tmp_path, scored):
    score_dataset(scorer, EIGHT, tmp_path)
    renamed = replace(
        EIGHT, trajectories=tuple(replace(t, id=f"x{t.id}", problem="other") for t in EIGHT.trajectories[:3])
    )
    assert {name: row[0] for name, row in rows(score_dataset(scorer, renamed, tmp_path)).items()} == {
        "xt0": "other",
        "xt1": "other",
        "xt2": "other",
    }
    assert scored == [8]


def test_other_settings_find_nothing(scorer, tmp_path, scored):
    score_dataset(scorer, EIGHT, tmp_path)
    score_dataset(Scorer(scorer.student, Scoring(max_length=500)), EIGHT, tmp_path)
    assert scored == [8, 8]


def test_what_is_damaged_is_scored_anew(scorer, tmp_path, scored):
    (path,) = score_dataset(scorer, EIGHT, tmp_path).artefact.path.glob("shard-*.parquet")
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    score_dataset(scorer, replace(EIGHT, trajectories=EIGHT.trajectories[:4]), tmp_path)
    assert scored == [8, 4]
