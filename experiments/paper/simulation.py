"""The paper's simulation (Table 3): distributions, exact expectations, samples, and where each rule prefers B."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments.app.command_configs import SimulationConfig
from rsr.stats.attainable import rounding_interval

Floats = NDArray[np.float64]


QUANTITIES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "probability": lambda r, s: np.exp(-s),
    "surprisal": lambda r, s: s,
    "rank": lambda r, s: r,
    "rsr_token": lambda r, s: r / s,
}


NAMES = ("X_A", "X_B", "X_C", "X_D")


GRID = {
    "zipf": (1.2, 1.5, 1.8, 2.3, 3.0),
    "share": (0.02, 0.05, 0.1, 0.2, 0.3, 0.4),
    "shift": (1, 5, 25),
}


RULES = {"rank alone": (1.0, 0.0), "surprisal alone": (0.0, -1.0), "rank / surprisal": (1.0, 1.0)}


@dataclass(frozen=True)
class World:
    """Distributions over the vocabulary, and ranks and surprisals of its tokens under the mixture."""

    sources: dict[str, Floats]
    rank: Floats
    surprisal: Floats

    def moments(self, source: str, values: Floats) -> tuple[float, float]:
        """Exact mean and variance of a token quantity when tokens come from a source."""
        mean = float(self.sources[source] @ values)
        return mean, float(self.sources[source] @ (values - mean) ** 2)


def world(config: SimulationConfig) -> World:
    """The mixture, its habits and the third distribution."""
    places = np.arange(config.vocabulary, dtype=np.float64)
    a: Floats = (places + 1) ** -config.zipf
    a = a / a.sum()
    b = np.roll(a, config.shift)
    c: Floats = (places < config.support) / float(config.support)
    z = (1 - config.share) * a + config.share * b
    return World(
        sources=dict(zip(NAMES, (a, b, c, z), strict=True)),
        rank=1.0 + (z[None, :] > z[:, None]).sum(axis=1),
        surprisal=-np.log(z),
    )


def compare(w: World, printed: dict[tuple[str, str], str], config: SimulationConfig) -> pl.DataFrame:
    """Exact expectation, sampled mean and printed value of each cell of Table 3."""
    rng = np.random.default_rng(config.seed)
    rows = []
    for source in NAMES:
        tokens = rng.choice(config.vocabulary, config.tokens, p=w.sources[source])
        for quantity, function in QUANTITIES.items():
            values = function(w.rank, w.surprisal)
            mean, variance = w.moments(source, values)
            error = float(np.sqrt(variance / config.tokens))
            low, high = rounding_interval(printed[source, quantity])
            # Distance of the print from the expectation, less what rounding explains.
            distance = max(low - mean, mean - high, 0.0)
            rows.append(
                {
                    "trajectory": source,
                    "quantity": quantity,
                    "exact": mean,
                    "sampled": float(values[tokens].mean()),
                    "sampling_error": error,
                    "printed": printed[source, quantity],
                    "errors_away": distance / error,
                }
            )
    return pl.DataFrame(rows)


def preference(w: World, rule: tuple[float, float], tokens: int) -> float:
    """Probability that a trajectory from B scores lower than the best of the others, by r^a / s^b per token.

    The scores of a trajectory are means over its tokens, taken as normal; the least of the pairwise probabilities.
    """
    from scipy.stats import norm

    values = w.rank ** rule[0] / w.surprisal ** rule[1]
    own, own_variance = w.moments("X_B", values)
    others = [w.moments(source, values) for source in NAMES if source != "X_B"]
    return min(float(norm.cdf((mean - own) / np.sqrt((variance + own_variance) / tokens))) for mean, variance in others)


def separation_grid(config: SimulationConfig) -> pl.DataFrame:
    """Where does each rule prefer B, over Zipf exponent, share and overlap?"""
    rows = []
    for zipf, share, shift in product(*GRID.values()):
        settings = {"zipf": zipf, "share": share, "shift": shift}
        w = world(SimulationConfig(**(vars(config) | settings)))
        row = settings | {name: preference(w, rule, config.length) for name, rule in RULES.items()}
        powers = [(a, b) for a in np.arange(0, 2.01, 0.25) for b in np.arange(0, 2.01, 0.25) if a or b]
        best = max(powers, key=lambda rule: preference(w, rule, config.length))
        rows.append(
            row
            | {"best rank power": best[0], "best surprisal power": best[1], "best": preference(w, best, config.length)}
        )
    return pl.DataFrame(rows)


def closed_set(k: int) -> float:
    """RSR of tokens drawn evenly from k that the student finds (nearly) equally likely: mean rank over ln k."""
    return (k + 1) / 2 / float(np.log(k))
