"""G-Norm and GRACE of given projections: plain computations, closed forms, scaling laws."""

import numpy as np
import polars as pl
import pytest

from rsr.metrics import METRICS
from rsr.metrics.gradient import effective_rank, g_norm, g_vendi, grace, too_few


def frame(z, problems, tokens=20, weights=1000):
    z = [None if row is None else list(map(float, row)) for row in z]
    columns = {"projection": z, "problem": problems, "tokens": [tokens] * len(z), "weights": [weights] * len(z)}
    return pl.DataFrame(columns, schema_overrides={"projection": pl.List(pl.Float64)})


def random(n=60, m=2, d=8, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n * m, d)) * rng.uniform(0.1, 3, d)
    return frame(z, [f"p{i // m:03d}" for i in range(n * m)], tokens=20), z


def test_g_norm_by_hand():
    f = frame([[3, 4], [0, 0], None], ["a", "b", "c"])
    assert g_norm(f).values[:2] == pytest.approx([5 * np.log(20), 0])
    assert np.isnan(g_norm(f).values[2])
    metric = METRICS["g_norm"]
    assert metric(f, "grace-paper").values[0] == pytest.approx(25 * np.log(20) ** 2 * 2 / 1000)
    assert metric(f, "grace-author-code").values[0] == pytest.approx(25 * 2 / 1000)


def test_a_response_of_one_token_has_a_length_scale():
    assert g_norm(frame([[3, 4]], ["a"], tokens=1)).values[0] == pytest.approx(5 * np.log(2))


def test_grace_agrees_with_a_plain_computation():
    f, z = random()
    h = z * np.log(20) * np.sqrt(8 / 1000)
    folds = np.array_split(np.random.default_rng(0).permutation(60), 10)
    scores = []
    for fold in folds:
        held = [i for i in range(120) if i // 2 in fold]
        rest = [i for i in range(120) if i // 2 not in fold]
        k = sum(np.outer(h[i], h[i]) / (h[i] @ h[i]) for i in rest) / len(rest) + 1e-3 / 8 * np.eye(8)
        cov = sum(np.outer(h[i], h[i]) for i in held) / len(held)
        scores.append(np.trace(np.linalg.inv(k) @ cov))
    assert grace(f).values == pytest.approx([np.mean(scores)], rel=1e-10)


@pytest.mark.parametrize("preset", METRICS["grace"].presets)
def test_scaling_laws(preset):
    f, z = random()
    scaled = frame(3 * z, f["problem"].to_list())
    assert METRICS["grace"](scaled, preset).values == pytest.approx(9 * METRICS["grace"](f, preset).values)
    assert g_norm(scaled).values == pytest.approx(3 * g_norm(f).values)


def test_g_vendi_is_the_number_of_directions():
    f, z = random()
    kernel = (unit := z / np.linalg.norm(z, axis=1, keepdims=True)) @ unit.T / len(z)
    values = np.clip(np.linalg.eigvalsh(kernel), 1e-300, None)
    assert g_vendi(f).values == pytest.approx([np.exp(-(values * np.log(values)).sum())])
    assert g_vendi(frame(np.eye(5) * 3, list("abcde"))).values == pytest.approx([5])
    assert g_vendi(frame([[1, 2], [3, 6], None], ["a", "b", "c"])).values == pytest.approx([1])
    assert np.isnan(g_vendi(frame([None], ["a"])).values).all()


def test_orthogonal_rows_have_a_closed_form():
    """Each problem's d rows are a basis of length a: K = (1 + nu) / d, so that GRACE is a^2 d / (1 + nu)."""
    d, a, nu = 6, 2.5, 1e-3
    rng = np.random.default_rng(1)
    z = np.concatenate([a * np.linalg.qr(rng.normal(size=(d, d)))[0] for _ in range(20)])
    f = frame(z, [f"p{i // d:02d}" for i in range(20 * d)])
    assert grace(f, length="none", per_parameter=False).values[0] == pytest.approx(a**2 * d / (1 + nu), rel=1e-12)
    # The authors' mix of eigenvalues leaves equal ones as they are.
    assert grace(f, length="none", split="random", per_parameter=False).values[0] == pytest.approx(a**2 * d, rel=1e-12)
    assert effective_rank(f) == pytest.approx(d)


@pytest.mark.parametrize("preset", METRICS["grace"].presets)
def test_the_order_of_rows_does_not_matter(preset):
    f, _ = random()
    shuffled = f.sample(fraction=1, shuffle=True, seed=3)
    assert METRICS["grace"](shuffled, preset).values == pytest.approx(METRICS["grace"](f, preset).values, rel=1e-12)


@pytest.mark.parametrize("preset", METRICS["grace"].presets)
def test_answers_to_a_problem_stay_on_one_side(preset):
    """A direction that only one problem takes is never in the rows that predict it: it costs 1 / smoothing."""
    rng = np.random.default_rng(2)
    z = np.zeros((60, 4))
    z[:, :3] = rng.normal(size=(60, 3))
    problems = [f"p{i // 3:02d}" for i in range(60)]
    alone = z.copy()
    alone[:3] = [0, 0, 0, 1]
    assert (
        METRICS["grace"](frame(alone, problems), preset).values[0]
        > 3 * METRICS["grace"](frame(z, problems), preset).values[0]
    )


def test_what_has_no_gradient_is_left_out():
    f, z = random()
    more = frame([*z, None, None], [*f["problem"], "p000", "new"])
    assert grace(more).values == pytest.approx(grace(f).values)


def test_one_problem_has_no_grace():
    f, _ = random(n=1, m=9)
    assert np.isnan(grace(f).values[0])
    assert np.isnan(grace(f.clear()).values[0])


def test_too_few_rows_are_said_aloud():
    few, _ = random(n=10, m=1)
    assert "8 dimensions from 9 rows of effective rank" in (too_few(few) or "")
    assert too_few(random()[0]) is None
