"""Metrics that nothing here computes: what is known of a teacher, and the share of its answers that are right."""

from rsr.metrics.base import Metric, declare

TEACHER_PARAMS = declare(
    Metric(
        name="teacher_params",
        title="Teacher parameters",
        formula="number of parameters of the teacher",
        unit="1e9 parameters",
        direction="higher",
        levels=("dataset",),
        needs="teacher",
        per_student=False,
        source="Table 4",
    )
)

TEACHER_PERFORMANCE = declare(
    Metric(
        name="teacher_performance",
        title="Teacher performance",
        formula="accuracy of the teacher itself on the benchmarks",
        unit="share of problems",
        direction="higher",
        levels=("dataset",),
        needs="teacher",
        per_student=False,
        source="Table 4",
    )
)

VERIFIED_ACCURACY = declare(
    Metric(
        name="verified_accuracy",
        title="Verified accuracy",
        formula="share of trajectories whose final answer equals the reference",
        unit="share of trajectories",
        direction="higher",
        levels=("trajectory", "dataset"),
        needs="answers",
        per_student=False,
        source="Table 4",
    )
)
