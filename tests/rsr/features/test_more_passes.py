"""ASLEC, IFD and SCAS: what one or two more forward passes measure, against direct computations in float64."""

import numpy as np
import polars as pl
import pytest
import torch

from rsr.data.messages import Message
from rsr.data.trajectories import Trajectory
from rsr.errors import InputError
from rsr.features.activations import Activations
from rsr.features.local_surprisal import step_lengths
from rsr.features.responses_alone import ResponsesAlone
from rsr.features.step_heads import HEAD, StepHeads
from rsr.metrics import METRICS
from rsr.metrics.activations import scas
from rsr.metrics.graded import car
from rsr.metrics.responses_alone import ifd
from rsr.metrics.step_heads import aslec_casl, aslec_drop
from rsr.student import student as students
from rsr.tokens.engine import Scorer
from rsr.tokens.settings import Scoring
from tests.models import save

pytestmark = pytest.mark.full

TEXT = "Let us add: 1 + 2 = 3. So it is 3.14, not 4! Is it?\n\nHm, perhaps not.\nThe final answer is \\boxed{42}."


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    student = students.load(save(tmp_path_factory.mktemp("student")), dtype="float32", device="cpu")
    student.model.double()
    return Scorer(student, Scoring())


def chat(*replies):
    messages = [m for r in replies for m in (Message("user", "What is 1 + 2?"), Message("assistant", r))]
    return Trajectory("t", "p", tuple(messages))


CHATS = [chat(TEXT), chat(TEXT * 2, TEXT), chat("1"), chat("It is 3. " * 5)]


def nats(scorer, ids):
    """Surprisal of each token behind those before it, by the model's own forward; none of the first."""
    with torch.no_grad():
        logs = scorer.student.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return np.array([np.nan, *(-logs[i - 1, token].item() for i, token in enumerate(ids) if i)])


def rendered(scorer, trajectory):
    return scorer.student.renderer.render(trajectory.messages)


def heads(whole):
    """Masks over the positions of a chat: of response tokens at the beginning of a step, and of the others."""
    head, rest = np.zeros(len(whole.ids), bool), np.zeros(len(whole.ids), bool)
    for turn in whole.turns:
        at = turn.start
        for length in step_lengths(turn.text, turn.characters, "sentence"):
            for i in range(length):
                (head if i < HEAD else rest)[at + i] = True
            at += length
    return head, rest


def test_aslec_drop_is_the_mean_without_the_first_two_tokens_of_each_step(scorer):
    rows = pl.DataFrame([StepHeads(scorer)(trajectory) for trajectory in CHATS])
    found = aslec_drop(rows).values
    for value, trajectory in zip(found, CHATS, strict=True):
        whole = rendered(scorer, trajectory)
        _, rest = heads(whole)
        expected = -nats(scorer, whole.ids)[rest].mean() if rest.any() else np.nan
        assert value == pytest.approx(expected, rel=1e-6, nan_ok=True)
    assert np.isnan(found[2])  # one token, the first of its step


def test_aslec_casl_takes_off_what_the_share_of_first_tokens_explains(scorer):
    more = [chat(f"{TEXT[: 17 + 11 * i]} {i}.", f"So {i}. " * i) for i in range(1, 7)]
    rows = pl.DataFrame([StepHeads(scorer)(trajectory) for trajectory in (*CHATS, *more)])
    explaining, means = [], []
    for trajectory in (*CHATS, *more):
        whole = rendered(scorer, trajectory)
        head, rest = heads(whole)
        logs = -nats(scorer, whole.ids)
        if not rest.any():
            continue
        explaining.append([logs[rest].mean(), logs[head].mean(), head.sum() / (head.sum() + rest.sum()), 1])
        means.append(logs[head | rest].mean())
    gamma = np.linalg.lstsq(np.array(explaining), np.array(means), rcond=None)[0][2]
    expected = np.array(means) - gamma * np.array(explaining)[:, 2]
    found = aslec_casl(rows).values
    assert np.isnan(found[2])
    assert np.delete(found, 2) == pytest.approx(expected, rel=1e-4)
    assert abs(gamma) > 1e-3


def test_ifd_is_the_loss_over_the_loss_behind_one_token(scorer):
    found = ifd(pl.DataFrame([ResponsesAlone(scorer)(trajectory) for trajectory in CHATS])).values
    for value, trajectory in zip(found, CHATS, strict=True):
        whole = rendered(scorer, trajectory)
        behind_all = nats(scorer, whole.ids)
        alone = sum(nats(scorer, whole.ids[t.start - 1 : t.end])[1:].sum() for t in whole.turns)
        assert value == pytest.approx(behind_all[whole.positions()].sum() / alone, rel=1e-6)


def test_scas_is_made_of_all_pairs_of_tokens(scorer):
    model, special = scorer.student.model, scorer.student.renderer.tokenizer.all_special_ids
    rows = pl.DataFrame([Activations(scorer)(trajectory) for trajectory in CHATS])
    for value, trajectory in zip(scas(rows).values, CHATS, strict=True):
        whole = rendered(scorer, trajectory)
        with torch.no_grad():
            hidden = model(torch.tensor([whole.ids]), output_hidden_states=True).hidden_states[-2]
            layer = model.model.layers[-1]
            positions = torch.arange(len(whole.ids))[None]
            rotary = model.model.rotary_emb(hidden, positions)
            mask = torch.full((len(whole.ids),) * 2, float("-inf"), dtype=torch.float64).triu(1)[None, None]
            attended = layer.self_attn(layer.input_layernorm(hidden), rotary, attention_mask=mask)[0]
            states = layer.mlp.up_proj(layer.post_attention_layernorm(hidden + attended))[0]
        unit = (states / states.norm(dim=-1, keepdim=True)).numpy()
        response = whole.positions()
        prompt = [i for i in range(response[-1]) if i not in response and whole.ids[i] not in special]
        losses = nats(scorer, whole.ids)
        a, q = losses[response].mean(), losses[[i for i in prompt if i]].mean()
        own = np.mean([unit[i] @ unit[j] for i in response for j in response])
        other = np.mean([unit[i] @ unit[j] for i in response for j in prompt])
        assert value == pytest.approx(0.5 * a**2 * own + 0.5 * a * q * other, rel=1e-5)


def test_a_student_without_such_a_layer_is_refused(scorer):
    plain = Scorer(scorer.student, Scoring())
    mlp = plain.student.model.model.layers
    kept = [layer.mlp for layer in mlp]
    for layer in mlp:
        layer.mlp = torch.nn.Identity()
    try:
        with pytest.raises(InputError, match=r"no mlp\.up_proj"):
            Activations(plain)
    finally:
        for layer, one in zip(mlp, kept, strict=True):
            layer.mlp = one


@pytest.mark.parametrize("extractor", [StepHeads, ResponsesAlone, Activations])
def test_a_response_that_is_cut_away_has_no_value(scorer, extractor):
    whole = chat(TEXT)
    cut = Scorer(scorer.student, Scoring(max_length=rendered(scorer, whole).turns[0].start))
    row = extractor(cut)(whole)
    frame = pl.DataFrame([{name: row.get(name) for name in ("tokens", *extractor.columns)}])
    named = [m for m in METRICS.values() if m.needs == extractor.stage]
    assert named and all(np.isnan(metric(frame).values).all() for metric in named)


def test_car_is_a_ratio_of_means_for_a_dataset():
    rows = pl.DataFrame({"reward": [True, False, None, True], "loss": [1.0, 2.0, 1.0, None]})
    found = car(rows)
    assert found.values[:2].tolist() == [0.5, 0.0] and np.isnan(found.values[2:]).all()
    assert METRICS["car"](rows, "beta=3").values[0] == 0.25
    assert found.denominator is not None
    assert found.numerator[:2].mean() / found.denominator[:2].mean() == pytest.approx(0.5 / (1 + 1.5))
