"""Projected gradients: the sketch, closed forms, which parameters, independence of order and chunks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rsr.data.messages import Message
from rsr.data.trajectories import Dataset, Trajectory
from rsr.errors import InputError
from rsr.features import gradients
from rsr.features.extractor import extract_features
from rsr.features.gradients import LORA_SCALE, GradientSettings, ProjectedGradients, _places, _seed, lora_a, sketch
from rsr.metrics.gradient import g_norm
from rsr.student import student as students
from rsr.tokens.engine import Scorer
from rsr.tokens.settings import Scoring
from tests.models import save

pytestmark = pytest.mark.full

TRAJECTORY = Trajectory(
    "t", "p", (Message("user", "What is 1 + 2?"), Message("assistant", "Let us add: 1 + 2 = 3. \\boxed{3}"))
)


def scorer_of(folder, **scoring):
    student = students.load(folder, dtype="float32", device="cpu")
    student.model.double()
    return Scorer(student, Scoring(**scoring))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="module")
def scorer(folder):
    return scorer_of(folder)


def project(scorer, checkpointing=False, **settings):
    return np.array(
        ProjectedGradients(scorer, GradientSettings(**settings), checkpointing=checkpointing)(TRAJECTORY)["projection"]
    )


def plain_gradients(scorer, mask="response", parameters=None):
    """Gradients of the mean cross-entropy by the model's own forward, in float64."""
    model = scorer.student.model
    rendered = scorer.student.renderer.render(TRAJECTORY.messages)
    positions = torch.tensor(rendered.positions(mask))
    ids = torch.tensor([rendered.ids])
    parameters = parameters or dict(model.named_parameters())
    for p in parameters.values():
        p.requires_grad_(True)
    loss = torch.nn.functional.cross_entropy(model(ids).logits[0, positions - 1], ids[0, positions])
    found = torch.autograd.grad(loss, list(parameters.values()))
    for p in parameters.values():
        p.requires_grad_(False)
    return dict(zip(parameters, found, strict=True))


# --- the projection ------------------------------------------------------------------------------------------------


def splitmix64(position, seed):
    m = 2**64 - 1
    x = (position * 0x9E3779B97F4A7C15 + seed) & m
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & m
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & m
    return (x ^ (x >> 31)) & (2**63 - 1)


def test_places_are_those_of_the_hash():
    for seed in (0, 3, -(2**63), 2**63 - 1):
        found = _places(1000, 50, seed, 14, torch.device("cpu")).tolist()
        assert found == [(splitmix64(i, seed) >> 32) * 14 >> 31 for i in range(1000, 1050)]


def test_chunks_of_the_sketch_do_not_matter(monkeypatch):
    g = torch.randn(1000, dtype=torch.float64)
    whole = sketch(g, 5, 16)
    monkeypatch.setattr(gradients, "CHUNK", 7)
    torch.testing.assert_close(sketch(g, 5, 16), whole)


def test_the_sketch_keeps_norms_and_products():
    """Over seeds, the squared norm is right on average, with the spread of a projection to d dimensions."""
    rng = np.random.default_rng(0)
    a, b = (torch.tensor(rng.normal(size=300)) for _ in range(2))
    drawn = [(sketch(a, s, 64), sketch(b, s, 64)) for s in range(2000)]
    norms = np.array([(x @ x).item() for x, _ in drawn]) / (a @ a).item()
    products = np.array([(x @ y).item() for x, y in drawn])
    assert norms.mean() == pytest.approx(1, abs=4 * norms.std() / np.sqrt(2000))
    assert norms.std() == pytest.approx(np.sqrt(2 / 64), rel=0.15)
    assert products.mean() == pytest.approx((a @ b).item(), abs=4 * products.std() / np.sqrt(2000))


# --- the gradient --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", ["response", "response+eot"])
@pytest.mark.parametrize("tied", [True, False])
def test_it_is_the_projection_of_the_gradient_of_the_mean_loss(tmp_path, tied, mask):
    scorer = scorer_of(save(tmp_path / "model", tied=tied))
    of = plain_gradients(scorer, mask)
    expected = torch.stack([sketch(g.flatten(), _seed(0, name), 512) for name, g in of.items()]).sum(0)
    # The hidden states are float64, the loss float32 as in bfloat16 students.
    np.testing.assert_allclose(project(scorer, mask=mask), expected.numpy(), rtol=1e-4, atol=1e-5)
    measure = ProjectedGradients(scorer, GradientSettings())
    assert measure.weights == sum(p.numel() for p in scorer.student.model.parameters())  # tied ones once


def test_a_linear_model_has_a_closed_form(tmp_path):
    """For the head alone the gradient is the mean of (p - y) h^T."""
    scorer = scorer_of(save(tmp_path / "model", tied=False))
    model = scorer.student.model
    rendered = scorer.student.renderer.render(TRAJECTORY.messages)
    at = np.array(rendered.positions())
    with torch.no_grad():
        out = model(torch.tensor([rendered.ids]), output_hidden_states=True)
    h = out.hidden_states[-1][0].numpy()[at - 1]
    error = out.logits[0].softmax(-1).numpy()[at - 1]
    error[np.arange(len(at)), np.array(rendered.ids)[at]] -= 1
    gradient = (error.T @ h / len(at)).ravel()
    # The projection as a matrix: the sketch of each unit vector.
    place = _places(0, len(gradient), _seed(0, "lm_head.weight"), 2 * 64, torch.device("cpu")).numpy()
    expected = np.zeros(64)
    np.add.at(expected, place % 64, np.where(place < 64, 1, -1) * gradient)
    found = project(scorer, parameters="lm_head.weight", dimensions=64)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_lora_b_is_the_gradient_of_fresh_adapters(scorer):
    model = scorer.student.model
    name = "model.layers.1.mlp.up_proj"
    linear = model.get_submodule(name)
    a = lora_a(linear.in_features, _seed(0, f"{name}.weight")).double()
    b = torch.zeros(linear.out_features, len(a), dtype=torch.float64)
    handle = linear.register_forward_hook(lambda m, x, y: y + LORA_SCALE * x[0] @ a.T @ b.T)
    expected = plain_gradients(scorer, parameters={"b": b})["b"]
    handle.remove()
    measure = ProjectedGradients(scorer, GradientSettings(parameters="lora_b"))
    measure.chosen = {n: p for n, p in measure.chosen.items() if n == f"{name}.weight"}
    found = np.array(measure(TRAJECTORY)["projection"])
    projected = sketch(expected.flatten(), _seed(0, f"{name}.weight"), 512).numpy()
    np.testing.assert_allclose(found, projected, rtol=1e-4, atol=1e-6)
    assert measure.weights == b.numel()


def test_the_norm_is_nearly_that_of_the_gradient(scorer):
    exact = sum((g**2).sum() for g in plain_gradients(scorer).values()).sqrt().item()
    norms = [np.linalg.norm(project(scorer, seed=s)) for s in range(12)]
    assert np.mean(norms) == pytest.approx(exact, rel=0.05)


def test_it_depends_neither_on_the_order_of_parameters_nor_on_chunks(scorer, folder):
    whole = project(scorer)
    reverse = ProjectedGradients(scorer, GradientSettings())
    reverse.chosen = dict(reversed(reverse.chosen.items()))
    np.testing.assert_allclose(reverse(TRAJECTORY)["projection"], whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(project(scorer_of(folder, head_chunk=999)), whole, rtol=1e-4, atol=1e-5)
    assert np.abs(project(scorer, seed=1) - whole).max() > 1e-3


def test_checkpointing_computes_layers_twice_and_changes_nothing(scorer):
    calls = []
    layer = scorer.student.model.model.layers[0].self_attn.q_proj
    handle = layer.register_forward_hook(lambda *a: calls.append(layer.training))
    plain = project(scorer)
    again = project(scorer, checkpointing=True)
    handle.remove()
    assert calls == [False] * 3
    np.testing.assert_allclose(again, plain, rtol=1e-6, atol=1e-7)


def test_no_two_gradients_are_in_memory_and_the_student_is_left_as_it_was(scorer, monkeypatch):
    model, real = scorer.student.model, gradients.sketch

    def watching(*arguments):
        assert all(p.grad is None for p in model.parameters())
        return real(*arguments)

    monkeypatch.setattr(gradients, "sketch", watching)
    project(scorer)
    assert not any(p.requires_grad for p in model.parameters())
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())
    assert not model.training


def test_parameters_that_are_not_there_are_named(scorer):
    with pytest.raises(InputError, match=r"no parameter fits '\*\.router\.\*'; there are model\.embed_tokens\.weight"):
        ProjectedGradients(scorer, GradientSettings(parameters="*.router.*"))


def test_a_trajectory_without_response_has_no_gradient(scorer, tmp_path):
    start = scorer.student.renderer.render(TRAJECTORY.messages).turns[0].start
    cut = Scorer(scorer.student, replace(scorer.scoring, max_length=start))
    rows = extract_features(
        ProjectedGradients(cut, GradientSettings()), Dataset("t", "", (TRAJECTORY,)), tmp_path, "s"
    ).rows
    assert rows["projection"].null_count() == 1
    assert np.isnan(g_norm(rows).values[0])


def test_interrupted_and_resumed_is_unbroken(scorer, tmp_path, monkeypatch):
    monkeypatch.setattr(ProjectedGradients, "part", 2)
    many = Dataset("t", "", tuple(replace(TRAJECTORY, id=f"t{i}", problem=f"p{i}") for i in range(5)))
    measure, real, calls = ProjectedGradients(scorer, GradientSettings()), ProjectedGradients.__call__, []

    def breaking(self, trajectory):
        calls.append(trajectory.id)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, trajectory)

    unbroken = extract_features(measure, many, tmp_path / "unbroken", "s").rows
    monkeypatch.setattr(ProjectedGradients, "__call__", breaking)
    with pytest.raises(KeyboardInterrupt):
        extract_features(measure, many, tmp_path / "broken", "s")
    assert extract_features(measure, many, tmp_path / "broken", "s").rows.equals(unbroken)
    assert calls == ["t0", "t1", "t2", "t3", "t2", "t3", "t4"]


@pytest.mark.parametrize(
    ("trajectories", "dimensions"), [(5000, 512), (1138, 512), (1137, 256), (800, 256), (6, 2), (1, 1)]
)
def test_dimensions_are_filled_twice_over(trajectories, dimensions):
    from rsr.features.gradients import fitting_dimensions

    assert fitting_dimensions(trajectories) == dimensions
