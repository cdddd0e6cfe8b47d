"""Scores under some settings crossed with the performance of some students."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.app.shared_configs import BootstrapConfig
from rsr.metrics import Metric
from rsr.stats.bootstrap import resampled_statistic
from rsr.stats.correlation import correlate
from rsr.stats.effect import Effect, of_draws

Floats = NDArray[np.float64]
STUDENT, DTYPE = "another student", "another dtype"


@dataclass(frozen=True)
class Setting:
    """What scores are computed under; printed scores have no dtype."""

    student: str
    dtype: str = ""

    @property
    def label(self) -> str:
        return f"{self.student}, {self.dtype}" if self.dtype else self.student


@dataclass(frozen=True)
class Crossed:
    """A metric's scores under every setting beside every student's accuracies, over the same teachers.

    Attributes:
        own: the setting of each student's own scores.
        scores: (settings, teachers), turned so that larger is meant to be better.
        accuracy: (students, teachers), percent.
        distance: (settings, students), 1 - Spearman between the scores of a setting and a student's own.
    """

    metric: Metric
    settings: Sequence[Setting]
    own: Sequence[Setting]
    scores: Floats
    accuracy: Floats
    distance: Floats

    @property
    def matrix(self) -> Floats:
        """Spearman of each setting's scores with each student's accuracy, shape (settings, students)."""
        return correlate(self.scores[:, None], self.accuracy[None], "spearman")

    def away(self, kind: str) -> NDArray[np.bool_]:
        """Where a setting differs from a student's own in the student, or in the dtype alone; shape (settings, students)."""
        same = np.array([[s.student == own.student for own in self.own] for s in self.settings])
        exact = np.array([[s == own for own in self.own] for s in self.settings])
        return ~same if kind == STUDENT else same & ~exact

    def loss(self, matrix: Floats) -> Floats:
        """What of its own coefficient a student loses under each setting; for matrices of any leading shape."""
        at = [list(self.settings).index(own) for own in self.own]
        own = matrix[..., at, np.arange(len(at))]
        return np.asarray(own[..., None, :] - matrix)


def losses(crossing: Crossed, bootstrap: BootstrapConfig) -> dict[str, Effect]:
    """Mean loss under another student and under another dtype, and the fall: loss per unit of distance (least squares through
    0). Teachers are drawn anew for all settings and students at once; distances stay.
    """

    def matrices(chosen: NDArray[np.int64]) -> Floats:
        scores, accuracy = crossing.scores[:, None, chosen], crossing.accuracy[None, :, chosen]
        return np.moveaxis(correlate(scores, accuracy, "spearman"), -1, 0)

    boot = resampled_statistic(matrices, crossing.scores.shape[1], bootstrap.resamples, bootstrap.seed)
    lost, drawn_lost = crossing.loss(crossing.matrix), crossing.loss(boot)
    effects = {}
    for kind in (STUDENT, DTYPE):
        if (mask := crossing.away(kind)).any():
            effects[kind] = of_draws(lost[mask].mean(), drawn_lost[:, mask].mean(axis=1))
    weight = crossing.distance / (crossing.distance**2).sum() if crossing.distance.any() else None
    if weight is not None:
        effects["fall"] = of_draws((lost * weight).sum(), (drawn_lost * weight).sum(axis=(1, 2)))
    return effects
