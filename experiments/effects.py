"""A statistic, how sure it is, and what could have been seen."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Effect:
    """A statistic with its 95 % interval.

    Attributes:
        detectable: the smallest effect that is told from 0 with 80 % power (two-sided, 5 %).
    """

    value: float
    low: float
    high: float
    detectable: float

    @property
    def told(self) -> bool:
        """Whether the interval leaves out 0."""
        return not self.low <= 0 <= self.high

    def text(self, digits: int = 2) -> str:
        return f"{self.value:+.{digits}f} [{self.low:+.{digits}f}, {self.high:+.{digits}f}]"

    def numbers(self) -> tuple[float, float, float, float]:
        """In the order of `experiments.findings.Finding`."""
        return self.value, self.low, self.high, self.detectable


def effect(value: float, drawn: NDArray[np.float64]) -> Effect:
    """A statistic with percentiles of its bootstrap; draws without a value (NaN) are left out."""
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    from scipy import stats

    power = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    return Effect(float(value), float(low), float(high), float(power * drawn.std(ddof=1)))
