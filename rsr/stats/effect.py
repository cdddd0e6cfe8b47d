"""A statistic, how sure it is, and what could have been seen."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsr.stats.bootstrap import percentile_interval, standard_error

POWER = 0.8  # with which an effect of the detectable size is told from none


@dataclass(frozen=True)
class Effect:
    """A statistic with its 95 % interval.

    Attributes:
        detectable: the smallest effect that is told from 0 with 80 % power (two-sided, 5 %).
        basis: what the interval is over, where it does not go without saying.
    """

    value: float
    low: float
    high: float
    detectable: float
    basis: str = ""

    @property
    def told(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    @property
    def verdict(self) -> str:
        """What a difference says of the first of two, in three words or so."""
        if not self.told:
            return "It cannot be told"
        return "Yes" if self.value > 0 else "No, it is worse"

    def text(self, digits: int = 2) -> str:
        return f"{self.value:+.{digits}f} [{self.low:+.{digits}f}, {self.high:+.{digits}f}]"


def of_draws(value: float, drawn: NDArray[np.float64]) -> Effect:
    """A statistic with percentiles of its bootstrap; draws without a value (NaN) are left out."""
    from scipy import stats

    low, high = percentile_interval(drawn)
    quantiles = stats.norm.ppf(0.975) + stats.norm.ppf(POWER)
    return Effect(float(value), low, high, float(quantiles) * standard_error(drawn))


def of_error(value: float, error: float, freedom: float, basis: str) -> Effect:
    """A statistic with Student's interval from its standard error and degrees of freedom."""
    from scipy import stats

    t = stats.t(freedom)
    half, detectable = error * t.ppf(0.975), error * (t.ppf(0.975) + t.ppf(POWER))
    return Effect(value, float(value - half), float(value + half), float(detectable), basis)
