"""Every metric of the study, declared once: tables, directions and metric cards come from these declarations.

Installed packages may add metrics (`rsr.metrics.plugins`).
"""

# Tables show metrics in the order in which these modules declare them.
from rsr.metrics import teacher, judge, text, local_surprisal, influence, gradient, token  # noqa: F401, I001
from rsr.metrics import calibration, repetition, graded, step_heads, responses_alone  # noqa: F401
from rsr.metrics import activations, plugins  # noqa: F401
from rsr.metrics.base import GROUPS, METRICS, Metric, Parts, by_name, metric, select

__all__ = ["GROUPS", "METRICS", "Metric", "Parts", "by_name", "metric", "select"]

plugins.load()
