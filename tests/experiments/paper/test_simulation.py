import numpy as np
import pytest

from experiments.app.command_configs import SimulationConfig
from experiments.paper.simulation import NAMES, QUANTITIES, closed_set, preference, world


def test_exact_moments_are_those_of_many_samples():
    w = world(SimulationConfig())
    rng = np.random.default_rng(0)
    for source in NAMES:
        tokens = rng.choice(50, 400_000, p=w.sources[source])
        for of in QUANTITIES.values():
            values = of(w.rank, w.surprisal)
            mean, variance = w.moments(source, values)
            assert values[tokens].mean() == pytest.approx(mean, abs=5 * np.sqrt(variance / 400_000))


def test_preference_is_the_share_of_sampled_trajectories():
    config = SimulationConfig(shift=1, share=0.1, zipf=1.8)
    w, length, draws = world(config), 50, 4000
    values, rng = w.rank / w.surprisal, np.random.default_rng(1)
    means = {s: values[rng.choice(50, (draws, length), p=w.sources[s])].mean(axis=1) for s in NAMES}
    sampled = min((means["X_B"] < means[s]).mean() for s in NAMES if s != "X_B")
    assert preference(w, (1.0, 1.0), length) == pytest.approx(sampled, abs=0.05)


def test_closed_sets():
    """Tokens drawn evenly from k nearly equally likely ones."""
    k, rng = 10, np.random.default_rng(2)
    logits = 1e-6 * rng.normal(size=k)
    rank = 1 + (logits[None, :] > logits[:, None]).sum(axis=1)
    surprisal = np.log(np.exp(logits).sum()) - logits
    assert rank.mean() / surprisal.mean() == pytest.approx(closed_set(k), abs=1e-4)
