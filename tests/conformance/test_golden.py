"""Parity with the reference implementation on every case of the reference material."""

import json

import numpy as np
import polars as pl
import pytest

from experiments.app.shared_configs import PathsConfig, StudentConfig
from experiments.stages.students import model_of
from rsr.data import trajectories
from rsr.metrics.token import clipped_rank, rsr
from rsr.student import student as students
from rsr.student.chat import ChatRenderer
from rsr.tokens.engine import Scorer
from rsr.tokens.settings import Scoring

pytestmark = pytest.mark.full
FLOAT32 = ["chatml-float32", "chatml-multiturn", "chatml-think-float32", "chatml-truncated-512", "othermarkup-float32"]


@pytest.fixture(scope="session")
def smollm2():
    return model_of(StudentConfig(name="smollm2", model=None, recipe="smollm2"), PathsConfig())


def scored(shared, smollm2, case, dtype):
    folder = shared / "golden" / case
    data = trajectories.read(folder / "input.json", case)
    expected = json.loads((folder / "dataset.json").read_text())
    template = folder / "chat_template.jinja"
    student = students.load(smollm2, dtype=dtype, device="cpu", template=str(template) if template.exists() else None)
    chats = [student.renderer.render(t.messages, expected["max_length"]) for t in data.trajectories]
    rows = {row["sample_id"]: row for row in pl.read_parquet(folder / "tokens.parquet").iter_rows(named=True)}
    golden = [rows[t.id] for t in data.trajectories]
    settings = Scoring(max_length=expected["max_length"], beyond_positions=True)
    return chats, Scorer(student, settings).score(chats), golden, expected


def dataset_rsr(tokens):
    parts = rsr(tokens)
    assert parts.denominator is not None
    return parts.numerator.sum() / parts.denominator.sum()


@pytest.mark.parametrize("case", FLOAT32)
def test_float32(shared, smollm2, case):
    chats, tokens, golden, expected = scored(shared, smollm2, case, "float32")
    assert [chat.positions() for chat in chats] == [row["position"] for row in golden]
    ranks = np.concatenate([row["rank_clipped_100"] for row in golden])
    differs = clipped_rank(tokens) != ranks
    assert differs.mean() <= 1e-4
    np.testing.assert_allclose(tokens.surprisal, np.concatenate([row["surprisal"] for row in golden]), atol=1e-4)
    assert dataset_rsr(tokens) == pytest.approx(expected["rank_surprisal_ratio"], rel=1e-4)
    samples = pl.read_ndjson(shared / "golden" / case / "samples.jsonl")["rank_surprisal_ratio"].to_numpy()
    whole = tokens.sum(differs.astype(float)) == 0
    np.testing.assert_allclose(rsr(tokens).values[whole], samples[whole], rtol=1e-4)


def test_bfloat16(shared, smollm2):
    chats, tokens, golden, expected = scored(shared, smollm2, "chatml-bfloat16", "bfloat16")
    assert [chat.positions() for chat in chats] == [row["position"] for row in golden]
    ranks = np.concatenate([row["rank_clipped_100"] for row in golden])
    assert (clipped_rank(tokens) == ranks).mean() >= 0.94
    assert dataset_rsr(tokens) == pytest.approx(expected["rank_surprisal_ratio"], rel=0.003)


def test_every_real_trajectory_is_rendered_verbatim(shared, smollm2):
    student = students.load_tokenizer(smollm2)
    renderer = ChatRenderer(student)
    for teacher, generation, file in trajectories.find(shared / "data" / "trajectories"):
        for t in trajectories.read(file, teacher, generation).trajectories:
            rendered = renderer.render(t.messages)
            spelt = student.decode([rendered.ids[p] for p in rendered.positions()])
            assert spelt == t.messages[-1].content, (file, t.id)
