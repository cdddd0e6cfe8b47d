"""Influence: kronfluence's own scores, the exact inverse Hessian, resuming, refusals."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import spearmanr

from rsr.data.messages import Message
from rsr.data.trajectories import Dataset, Trajectory
from rsr.errors import InputError
from rsr.features import influence
from rsr.features.extractor import extract_features
from rsr.features.gradients import streaming, summed_loss
from rsr.features.influence import Influence, InfluenceSettings, query_direction
from rsr.metrics import METRICS
from rsr.student import student as students
from rsr.tokens.engine import Scorer
from rsr.tokens.settings import Scoring
from tests.models import save

pytest.importorskip("kronfluence", reason="the extra `influence` is not installed")
pytestmark = pytest.mark.full
SHAPE: dict[str, Any] = dict(
    hidden_size=8, intermediate_size=6, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1
)
WORDS = [
    "Let",
    "us",
    "add",
    "perhaps",
    "not",
    "the",
    "final",
    "answer",
    "is",
    "42",
    "and",
    "3",
    "so",
    "that",
    "we",
    "check",
]


def dataset(name, n, seed):
    rng = np.random.default_rng(seed)
    return Dataset(
        name,
        "",
        tuple(
            Trajectory(
                f"{name}{i}",
                f"{name}{i}",
                (
                    Message("user", f"Problem {name}{i}"),
                    Message("assistant", " ".join(rng.choice(WORDS, rng.integers(3, 9)))),
                ),
            )
            for i in range(n)
        ),
    )


TRAIN, QUERIES = dataset("train", 24, 0), dataset("query", 6, 1)


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    folder = save(tmp_path_factory.mktemp("student"), tied=False, **SHAPE)
    return lambda: Scorer(students.load(folder, dtype="float32", device="cpu"), Scoring())


@pytest.fixture(scope="module")
def direction(load, tmp_path_factory):
    return query_direction(load, [TRAIN], QUERIES, InfluenceSettings(), tmp_path_factory.mktemp("out"))


def scores(load, direction):
    measure = Influence(load(), direction)
    return np.array([measure(t)["influence"] for t in TRAIN.trajectories])


def test_it_is_the_mean_of_kronfluences_own_scores(load, direction, tmp_path):
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task

    scorer = load()

    class Language(Task):  # type: ignore[misc]
        def compute_train_loss(self, batch, model, sample=False):
            return summed_loss(scorer, batch["ids"][0].tolist(), batch["positions"][0].tolist(), sample=sample)

        def compute_measurement(self, batch, model):
            return self.compute_train_loss(batch, model)

        def get_influence_tracked_modules(self):
            return direction.facts["modules"]

    def tensors(trajectory):
        rendered = scorer.student.renderer.render(trajectory.messages)
        return {"ids": torch.tensor(rendered.ids), "positions": torch.tensor(rendered.positions())}

    train, queries = ([tensors(t) for t in d.trajectories] for d in (TRAIN, QUERIES))
    analyzer = Analyzer(
        "own",
        prepare_model(scorer.student.model, Language()),
        Language(),
        cpu=True,
        disable_tqdm=True,
        output_dir=str(tmp_path),
    )
    args = FactorArguments("ekfac")
    torch.manual_seed(0)
    analyzer.fit_covariance_matrices("f", train, per_device_batch_size=1, factor_args=args)
    analyzer.perform_eigendecomposition("f", factor_args=args)
    torch.manual_seed(0)
    analyzer.fit_lambda_matrices("f", train, per_device_batch_size=1, factor_args=args)
    analyzer.compute_pairwise_scores(
        "s", "f", queries, train, per_device_query_batch_size=1, per_device_train_batch_size=1,
        score_args=ScoreArguments(damping_factor=None),
    )  # fmt: skip
    own = analyzer.load_pairwise_scores("s")["all_modules"].mean(0).numpy()
    np.testing.assert_allclose(scores(load, direction), own, rtol=1e-3, atol=1e-4 * np.abs(own).max())


def test_it_orders_trajectories_as_the_exact_inverse_hessian(load, direction, capsys):
    """The exact Gauss-Newton matrix of all MLP weights, damped as EK-FAC is, inverted in float64."""
    scorer = load()
    scorer.student.model.double().set_attn_implementation("eager")  # which has forward derivatives
    weights = {f"{n}.weight": scorer.student.model.get_submodule(n).weight for n in direction.facts["modules"]}

    def gradient(trajectory):
        rendered, found = scorer.student.renderer.render(trajectory.messages), dict[str, Any]()
        with streaming(scorer.student.model, weights, found.__setitem__):
            summed_loss(scorer, rendered.ids, rendered.positions()).backward()
        return torch.cat([found[n].flatten() for n in weights]).double()

    def logits(values, rendered):
        at = torch.tensor(rendered.positions()) - 1
        out = torch.func.functional_call(
            scorer.student.model, values, (torch.tensor([rendered.ids]),), {"use_cache": False}
        )
        return out.logits[0, at]

    size = sum(w.numel() for w in weights.values())
    hessian = torch.zeros(size, size, dtype=torch.float64)
    for t in TRAIN.trajectories:
        rendered = scorer.student.renderer.render(t.messages)
        of = torch.func.jacfwd(logits)({n: w.detach() for n, w in weights.items()}, rendered)
        jacobian = torch.cat([of[n].flatten(2) for n in weights], dim=-1)
        p = logits({}, rendered).softmax(-1).detach()
        centred = jacobian - (p[..., None] * jacobian).sum(1, keepdim=True)
        hessian += torch.einsum("tv,tvi,tvj->ij", p, centred, centred) / len(TRAIN.trajectories)
    hessian += 0.1 * hessian.diagonal().mean() * torch.eye(size)
    query = sum(gradient(t) for t in QUERIES.trajectories) / len(QUERIES.trajectories)
    solved = torch.linalg.solve(hessian, query)
    exact = [(gradient(t) @ solved).item() for t in TRAIN.trajectories]
    rank = spearmanr(scores(load, direction), exact).statistic
    with capsys.disabled():
        print(f"\nEK-FAC against the exact inverse Hessian of {size} weights: Spearman {rank:.3f}")
    assert rank > 0.8


def test_resumed_is_unbroken_and_found_again_nothing_is_fitted(load, direction, tmp_path, monkeypatch):
    monkeypatch.setattr(influence, "_divide", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        query_direction(load, [TRAIN], QUERIES, InfluenceSettings(), tmp_path)
    monkeypatch.undo()
    resumed = query_direction(load, [TRAIN], QUERIES, InfluenceSettings(), tmp_path)
    np.testing.assert_array_equal(scores(load, resumed), scores(load, direction))
    monkeypatch.setattr(influence, "_factors", lambda *a: pytest.fail("fitted again"))
    assert query_direction(load, [TRAIN], QUERIES, InfluenceSettings(), tmp_path).path == resumed.path


def test_a_query_influences_itself_well(load, tmp_path):
    """A trajectory that is the only query lowers its own loss: the curvature is positive definite."""
    query = replace(QUERIES, trajectories=QUERIES.trajectories[:1])
    measure = Influence(load(), query_direction(load, [TRAIN], query, InfluenceSettings(), tmp_path))
    assert measure(query.trajectories[0])["influence"] > 0


def test_queries_must_be_held_out(load, tmp_path):
    with pytest.raises(InputError, match="24 queries are among the scored problems, such as train0: hold them out"):
        query_direction(load, [TRAIN], TRAIN, InfluenceSettings(), tmp_path)
    with pytest.raises(InputError, match=r"no linear module fits '\*\.experts\.\*'; there are model\.layers"):
        query_direction(load, [TRAIN], QUERIES, InfluenceSettings(modules="*.experts.*"), tmp_path)


def test_as_a_metric(load, direction, tmp_path):
    rows = extract_features(Influence(load(), direction), TRAIN, tmp_path, "s").rows
    metric = METRICS["influence_score"]
    np.testing.assert_array_equal(metric(rows).values, scores(load, direction))
    np.testing.assert_allclose(metric(rows, "per token").values, metric(rows).values / rows["tokens"].to_numpy())
    empty = rows.with_columns(influence=pl.lit(None, pl.Float64))
    assert np.isnan(metric(empty).values).all()
