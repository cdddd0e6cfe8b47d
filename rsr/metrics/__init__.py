"""Every metric of the study, declared once: tables, directions and metric cards come from these declarations."""

from rsr.metrics import baselines, token
from rsr.metrics.base import GROUPS, METRICS, Metric, Parts, by_name, metric, select

__all__ = ["GROUPS", "METRICS", "Metric", "Parts", "baselines", "by_name", "metric", "select", "token"]
