"""Every metric of the study, declared once: tables, directions and metric cards come from these declarations."""

from rsr.metrics import baselines, token
from rsr.metrics.base import GROUPS, METRICS, Metric, by_name, select

__all__ = ["GROUPS", "METRICS", "Metric", "baselines", "by_name", "select", "token"]
