"""How much a correlation depends on a teacher, on length and on the baseline it is held against."""

from collections.abc import Sequence

import numpy as np

from experiments.app.command_configs import RobustnessConfig
from experiments.paper.metric_table import Table
from rsr.metrics.token import rsr
from rsr.stats.correlation import correlate
from rsr.stats.paired import difference, leave_one_out, pairwise_accuracy, partial_spearman, regret


def _oriented(table: Table) -> np.ndarray:
    return table.metric.expected_sign * np.array(table.scores)


def statistics(table: Table, tables: Sequence[Table], config: RobustnessConfig) -> dict[str, object]:
    """Statistics of one metric, means over students."""
    x, y = _oriented(table), np.array(table.accuracy)
    base = next(t for t in tables if t.metric is rsr and not t.preset)
    length = next(np.log(t.scores) for t in tables if t.metric.name == "avg_token_length")
    left_out = [leave_one_out(a, b) for a, b in zip(x, y, strict=True)]
    paired = difference(_oriented(base), x, y, resamples=config.bootstrap.resamples)
    same = table is base
    return {
        "metric": f"{table.metric.title} ({table.preset})" if table.preset else table.metric.title,
        "spearman": float(correlate(x, y, "spearman").mean()),
        "kendall": float(correlate(x, y, "kendall").mean()),
        "pairs_right": np.mean([pairwise_accuracy(a, b) for a, b in zip(x, y, strict=True)]),
        "regret_1": np.mean([regret(a, b, 1) for a, b in zip(x, y, strict=True)]),
        "regret_2": np.mean([regret(a, b, 2) for a, b in zip(x, y, strict=True)]),
        "left_out_low": np.mean([low for low, _ in left_out]),
        "left_out_high": np.mean([high for _, high in left_out]),
        "given_log_length": None
        if table.metric.name == "avg_token_length"
        else np.mean([partial_spearman(a, b, c) for a, b, c in zip(x, y, length, strict=True)]),
        "rsr_less_this": None if same else paired.value,
        "difference_low": None if same else paired.low,
        "difference_high": None if same else paired.high,
        "p_dependent": None if same or len(x) > 1 else paired.p_value,
    }
