"""Mean local surprisal: steps, identities, a plain computation, batches."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rsr.data.messages import Message
from rsr.data.trajectories import Dataset, Trajectory
from rsr.errors import InputError
from rsr.features.extractor import extract_features
from rsr.features.local_surprisal import (
    BOUNDARY,
    LocalSettings,
    LocalSurprisal,
    step_lengths,
    step_starts,
)
from rsr.metrics.local_surprisal import avg_surprisal_local
from rsr.student import student as students
from rsr.tokens.engine import Scorer
from rsr.tokens.settings import Scoring
from tests.models import save

pytestmark = pytest.mark.full

TEXT = (
    "Let us add: 1 + 2 = 3. So it is 3.14, i.e. not 4! Is it?\n\n2. Hm, perhaps not.\nThe final answer is \\boxed{42}."
)


def steps(text, splitter="sentence"):
    starts = step_starts(text, splitter)
    return [text[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]


def test_sentences_start_before_the_space_and_short_pieces_join_the_next():
    assert steps(TEXT) == [
        "Let us add: 1 + 2 = 3.",
        " So it is 3.14, i.e. not 4!",
        " Is it?",
        "\n\n2. Hm, perhaps not.",
        "\nThe final answer is \\boxed{42}.",
    ]
    assert steps(TEXT, "newline") == [TEXT[:56], "\n\n2. Hm, perhaps not.", "\nThe final answer is \\boxed{42}."]
    assert steps(TEXT, "blank_line") == [TEXT[:56], TEXT[56:]]


@settings(max_examples=200, deadline=None)
@given(text=st.text("ab.!? \n", max_size=60), splitter=st.sampled_from(list(BOUNDARY)), seed=st.integers(0, 99))
def test_steps_partition_the_tokens(text, splitter, seed):
    parts = steps(text, splitter)
    assert "".join(parts) == text
    assert len(parts) == 1 or all(len("".join(part.split())) >= 4 for part in parts)
    characters = sorted(np.random.default_rng(seed).integers(0, len(text) + 1, 20).tolist())
    lengths = step_lengths(text, characters, splitter)
    assert lengths.sum() == 20 and (lengths > 0).all()


def test_settings_out_of_range_are_refused():
    with pytest.raises(InputError, match="window=-1"):
        LocalSettings(window=-1)
    with pytest.raises(InputError, match="unknown splitter 'word'"):
        LocalSettings(splitter="word")  # type: ignore[arg-type]


# --- under a student -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    student = students.load(save(tmp_path_factory.mktemp("student")), dtype="float32", device="cpu")
    student.model.double()
    return Scorer(student, Scoring())


def chat(*replies):
    messages = [m for r in replies for m in (Message("user", "What is 1 + 2?"), Message("assistant", r))]
    return Trajectory("t", "p", tuple(messages))


def local(scorer, trajectory, weight="token", **of):
    row = LocalSurprisal(scorer, LocalSettings(**of))(trajectory)
    return avg_surprisal_local(pl.DataFrame([row]), weight=weight).values[0]


def mean_surprisal(scorer, trajectory):
    tokens = scorer.score([scorer.student.renderer.render(trajectory.messages)])
    return tokens.mean(tokens.surprisal.astype(float))[0]


def test_one_step_is_mean_surprisal(scorer):
    one = chat("1 + 2 = 3, and that is all that there is to say")
    for weight in ("token", "step"):
        assert local(scorer, one, weight) == pytest.approx(mean_surprisal(scorer, one), rel=1e-6)


@pytest.mark.parametrize("replies", [(TEXT,), (TEXT * 2, TEXT)])
def test_a_window_over_all_steps_is_mean_surprisal(scorer, replies):
    whole = chat(*replies)
    assert local(scorer, whole, window=99) == pytest.approx(mean_surprisal(scorer, whole), rel=1e-6)
    assert abs(local(scorer, whole, window=0) - mean_surprisal(scorer, whole)) > 1e-3


@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("window", [0, 1, 2])
def test_it_agrees_with_a_pass_per_step(scorer, window, prompt):
    trajectory = chat(TEXT, TEXT)
    rendered = scorer.student.renderer.render(trajectory.messages)
    sums, lengths = [], []
    for turn in rendered.turns:
        of_turn = step_lengths(TEXT, turn.characters, "sentence")
        assert len(of_turn) == 5 and of_turn.sum() == turn.end - turn.start
        ends = turn.start + np.cumsum([0, *of_turn])
        for i, n in enumerate(of_turn):
            before = rendered.ids[0 if prompt else turn.start - 1 : turn.start]
            ids = torch.tensor([[*before, *rendered.ids[ends[max(0, i - window)] : ends[i + 1]]]])
            with torch.no_grad():
                logs = scorer.student.model(ids).logits.log_softmax(-1)
            sums.append(-sum(logs[0, p - 1, ids[0, p]].item() for p in range(ids.shape[1] - n, ids.shape[1])))
            lengths.append(n)
    of = dict(window=window, prompt=prompt)
    assert local(scorer, trajectory, **of) == pytest.approx(sum(sums) / sum(lengths), rel=1e-6)
    by_step = np.mean(np.array(sums) / np.array(lengths))
    assert local(scorer, trajectory, "step", **of) == pytest.approx(by_step, rel=1e-6)


def test_batches_do_not_matter(scorer):
    other = Scorer(scorer.student, replace(scorer.scoring, token_budget=1, head_chunk=999))
    assert local(other, chat(TEXT * 3)) == pytest.approx(local(scorer, chat(TEXT * 3)), rel=1e-6)


def test_it_costs_about_window_plus_one_passes(scorer):
    trajectory = chat(TEXT * 6)
    row = LocalSurprisal(scorer, LocalSettings(window=4))(trajectory)
    assert row["processed"] < 5 * row["tokens"] + 3 * len(row["lengths"])


def test_a_cut_trajectory_has_the_steps_that_are_left(scorer, tmp_path):
    whole = chat(TEXT)
    length = scorer.student.renderer.render(whole.messages).turns[0].start
    for kept in (0, 10):
        cut = Scorer(scorer.student, replace(scorer.scoring, max_length=length + kept))
        measured = extract_features(
            LocalSurprisal(cut, LocalSettings()), Dataset("t", "", (whole,)), tmp_path / str(kept), "s"
        )
        value = avg_surprisal_local(measured.rows).values[0]
        assert (measured.rows["tokens"][0], measured.rows["truncated"][0]) == (kept, True)
        assert np.isnan(value) if not kept else np.isfinite(value)
