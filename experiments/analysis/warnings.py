"""What to look at first when scores and accuracies do not agree."""

from collections.abc import Sequence

import numpy as np

from experiments.paper.metric_table import Result, Table
from experiments.paper.published import AVERAGE
from rsr.metrics.token import avg_surprisal

FEW_TEACHERS = 5


def raised_by(tables: Sequence[Table], results: Sequence[Result], teachers: int) -> list[str]:
    """Every warning about a study of so many teachers."""
    return [*(message for table in tables for message in of_scores(table)), *of_signs(results), *of_count(teachers)]


def of_scores(table: Table) -> list[str]:
    """Scores closer to one another than their own error, and surprisals that cannot be."""
    messages = []
    for student, scores, errors in zip(table.students, table.scores, table.errors, strict=True):
        if np.std(scores) <= np.median(errors):
            messages.append(
                f"{table.metric.name} does not tell the teachers of {student} apart: its scores spread by "
                f"{np.std(scores):.3g} (standard deviation), the error of each is {np.median(errors):.3g}; look at the "
                "rank computation (1 + the number of strictly larger logits)"
            )
        zero = [t for t, score in zip(table.teachers, scores, strict=True) if score <= 0]
        if table.metric is avg_surprisal and zero:
            messages.append(
                f"{table.metric.name} of {', '.join(zero)} for {student} is not above 0; look at the numerics "
                "(log-sum-exp in float32, finite logits, a response mask that is not empty)"
            )
    return messages


def of_signs(results: Sequence[Result]) -> list[str]:
    """Metrics that prefer the worse teachers."""
    against: dict[str, list[str]] = {}
    for r in results:
        if r.coefficient != "spearman" or r.correlation is None or r.student == AVERAGE:
            continue
        if r.correlation.value * r.metric.expected_sign < 0:
            interval = " (interval excludes 0)" if r.correlation.excludes_zero else ""
            against.setdefault(r.label, []).append(f"{r.student} {r.correlation.value:+.2f}{interval}")
    if not against:
        return []
    metrics = "; ".join(f"{label}: {', '.join(students)}" for label, students in against.items())
    return [
        f"wrong sign, the worse teachers are preferred: {metrics}. If that is not what you expected, look at: scores of "
        "another student than the one trained, the direction of the metric, the chat template"
    ]


def of_count(teachers: int) -> list[str]:
    """Too few points for a coefficient to mean anything."""
    if teachers >= FEW_TEACHERS:
        return []
    return [f"only {teachers} teachers: a few points fall into any order by chance, the interval says it all"]
