"""Minimal examples of where RSR goes wrong, under a student of random weights and under one that is exactly known."""

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from experiments.analysis import failure_examples
from experiments.analysis.failures import Scored, TokenMeans, continued, scored
from experiments.app.command_configs import FailuresConfig
from experiments.app.shared_configs import BootstrapConfig, StudentConfig
from experiments.miniature import words
from experiments.paper.simulation import closed_set
from experiments.reports import failures
from rsr.metrics.calibration import calibrated_rsr, lark_learnability
from rsr.student import student as students
from rsr.tokens.engine import Scorer
from rsr.tokens.settings import Scoring
from rsr.tokens.tokens import Tokens

SMALL = FailuresConfig(
    student=StudentConfig(name="tiny"), examples=4, appended=[3, 6], bootstrap=BootstrapConfig(resamples=100)
)


@pytest.fixture(scope="module")
def scorer():
    """The miniature's vocabulary under random weights."""
    torch.manual_seed(0)
    shape: dict[str, Any] = dict(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, initializer_range=0.3
    )
    fast = words.tokenizer(words.vocabulary())
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(fast), max_position_embeddings=512, **shape)).eval()
    return Scorer(students.of_model(model, fast, name="tiny"), Scoring())


def test_the_miniature_pairs_differ_in_their_order_alone():
    """The same lines' sums, in order and last to first; each answer ends alike."""
    shown = failure_examples.miniature(20, 0)
    for (prompt, one), (same, other) in zip(shown.known.answers, shown.unknown.answers, strict=True):
        digits = ["".join(w for w in line.split() if w in words.DIGITS) for line in one.split(" . ") if "+" in line]
        backwards = [
            "".join(w for w in line.split() if w in words.DIGITS) for line in other.split(" . ") if "+" in line
        ]
        assert prompt == same and digits == backwards[::-1] and one.split()[-5:] == other.split()[-5:]


def test_the_english_pairs_differ_in_their_numbers_alone():
    shown = failure_examples.english(20, 0)
    blank = [
        [("".join("#" if c.isdigit() else c for c in r)) for _, r in s.answers] for s in (shown.known, shown.unknown)
    ]
    assert blank[0] == blank[1] and all(a != b for a, b in zip(shown.known.answers, shown.unknown.answers, strict=True))
    assert {len(sample.counted or ()) for sample in shown.closed} == {2, 4, 10, 26}


def test_a_student_that_knows_nothing_of_a_closed_set_has_the_closed_form():
    """Under equal probabilities of k tokens, told apart by a hair: ranks 1 to k, surprisal ln k."""
    k, rng = 10, np.random.default_rng(0)
    rank = rng.integers(1, k + 1, 4000).astype(np.uint32)
    surprisal = np.full(4000, np.log(k), np.float32)
    scored = Scored(Tokens(rank, surprisal, surprisal, np.arange(0, 4001, 100)), ["7"] * 4000)
    measured = scored.measured("digits", frozenset("7")).effect(SMALL.bootstrap)
    assert measured.low < closed_set(k) < measured.high and measured.value == pytest.approx(closed_set(k), rel=0.03)


def test_answers_without_a_counted_token_weigh_nothing():
    one, two = np.array([2.0, 0.0]), np.array([1.0, 0.0])
    assert TokenMeans("", one, two).value == 2


def test_where_expectations_are_kept_calibrated_rsr_stands_beside(scorer, tmp_path):
    other = Scorer(scorer.student, Scoring(expectations=True))
    shown = failure_examples.miniature(4, 0)
    found = failures.closed(other, shown, SMALL, tmp_path)
    sample = shown.closed[0]
    answers = scored(other, sample.answers)
    assert sample.counted is not None
    kept = answers.tokens.kept(np.array([text in sample.counted for text in answers.texts]))
    row = found.table.filter(pl.col("label").str.starts_with(sample.label)).row(0, named=True)
    ranks, surprisals = calibrated_rsr(kept)
    assert surprisals is not None
    assert row["calibrated_rsr"] == pytest.approx(ranks.mean() / surprisals.mean())
    assert row["lark_learnability"] == pytest.approx(lark_learnability(kept).values.mean())
    assert row["calibrated_rsr_low"] <= row["calibrated_rsr"] <= row["calibrated_rsr_high"]
    assert "Calibrated RSR" in "".join(found.parts)


@pytest.mark.full
@pytest.mark.parametrize("mechanism", [failures.digits, failures.fluent, failures.closed])
def test_every_mechanism_is_measured_told_and_drawn(scorer, mechanism, tmp_path):
    found = mechanism(scorer, failure_examples.miniature(4, 0), SMALL, tmp_path)
    assert (tmp_path / f"{found.name}.png").stat().st_size > 5000
    assert all(
        np.isfinite([c.effect.low, c.effect.value, c.effect.high, c.effect.minimum_detectable]).all()
        for c in found.conclusions
    )
    for row in found.table.iter_rows(named=True):
        assert row["low"] <= row["rsr"] <= row["high"]
        assert row["rsr"] == pytest.approx(row["rank"] / row["surprisal"])


@pytest.mark.full
def test_what_is_appended_changes_nothing_before_it(scorer):
    shown = failure_examples.miniature(4, 0)
    plain = scored(scorer, shown.known.answers)
    longer = scored(scorer, list(continued(scorer, shown, 6)))
    assert (longer.tokens.lengths == plain.tokens.lengths + 6).all()
    assert longer.first(plain.tokens.lengths).rank == pytest.approx(plain.measured("", None).rank)
    place = np.concatenate([np.arange(b - 6, b) for b in longer.tokens.offsets[1:]])
    assert (longer.tokens.rank[place] <= 2).all()  # the end-of-turn token, which was held back, may be likelier
