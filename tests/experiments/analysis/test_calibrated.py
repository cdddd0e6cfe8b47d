"""The pre-registered comparison: scores and accuracies as they are defined, and both resampled together."""

import numpy as np
import polars as pl
import pytest

from experiments.analysis.calibrated import CALIBRATED, COMPARED, comparison
from experiments.app.shared_configs import BootstrapConfig
from rsr.errors import InputError
from rsr.stats.bootstrap import percentile_interval

TEACHERS = ("a", "b", "c", "d", "e")
PROBLEMS = 40


def scored(metric, level):
    """Ratios whose denominators differ, about a level for each teacher; one trajectory has no value."""
    rng = np.random.default_rng(len(metric))
    rows = []
    for teacher, mean in zip(TEACHERS, level, strict=True):
        for problem in range(PROBLEMS):
            below = float(rng.uniform(1, 3))
            above = below * (mean + float(rng.normal(0, 0.05)))
            missing = (teacher, problem) == ("a", 0)
            ratio = metric in (CALIBRATED, "rsr")
            rows.append(
                {
                    "student": "s",
                    "teacher": teacher,
                    "generation": "gen1",
                    "trajectory": f"{problem}",
                    "problem": f"{problem}",
                    "metric": metric,
                    "preset": "",
                    "value": None if missing else above / below,
                    "numerator": above if ratio and not missing else None,
                    "denominator": below if ratio and not missing else None,
                    "tokens": 10,
                }
            )
    return rows


def trajectories(*levels):
    return pl.DataFrame(
        [row for metric, level in zip(COMPARED, levels, strict=True) for row in scored(metric, level)],
        infer_schema_length=None,
    )


def answers(accuracy):
    """Of two seeds; and of the student before training, which is no teacher's."""
    rng = np.random.default_rng(0)
    rows = [
        {"teacher": teacher, "generation": "gen1", "seed": seed, "benchmark": "sums", "problem": f"{problem}"}
        | {"correct": float(rng.random() < share)}
        for teacher, share in zip((*TEACHERS, "base"), (*accuracy, 0.0), strict=True)
        for seed in (0, 1)
        for problem in range(30)
    ]
    return pl.DataFrame(rows)


def test_correlations_leads_and_intervals():
    """Calibrated RSR falls as accuracy rises, as it should; RSR rises, and learnability does, which is right of it."""
    accuracy, falling, rising = [0.1, 0.3, 0.5, 0.7, 0.9], [5.0, 4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0, 5.0]
    given, learned = trajectories(falling, rising, falling, rising), answers(accuracy)
    found = comparison(given, learned, BootstrapConfig(resamples=400))
    of_a = given.filter(metric=CALIBRATED, teacher="a").drop_nulls("value")
    row = found.table.row(by_predicate=pl.col("teacher") == "a", named=True)
    assert row[CALIBRATED] == pytest.approx(of_a["numerator"].sum() / of_a["denominator"].sum())
    mean = learned.filter(teacher="a")["correct"].to_numpy().mean()
    assert row["accuracy"] == pytest.approx(100 * mean)
    for resampled in found.resampled:
        values = [resampled.spearman[metric].value for metric in COMPARED]
        assert values == pytest.approx([-1, 1, -1, 1])
        assert [resampled.lead[metric].value for metric in COMPARED[1:]] == pytest.approx([2, 0, 0])
        assert resampled.lead["rsr"].low > 0 and not resampled.lead["lark_learnability"].excludes_zero
    assert [resampled.unit for resampled in found.resampled] == ["problems", "teachers"]


def test_an_interval_of_three_is_wider():
    drawn = np.random.default_rng(0).normal(size=10_000)
    (low, high), (least, most) = percentile_interval(drawn), percentile_interval(drawn, comparisons=3)
    assert least < low and most > high
    assert np.mean((drawn > least) & (drawn < most)) == pytest.approx(1 - 0.05 / 3, abs=1e-3)


def test_scores_without_one_of_the_metrics_are_refused():
    without = trajectories(*[[1.0] * 5] * 4).with_columns(
        pl.when(pl.col("metric") != CALIBRATED).then("value").alias("value")
    )
    with pytest.raises(InputError, match="hold no value of calibrated_rsr, which needs expected_rank"):
        comparison(without, answers([0.5] * 5), BootstrapConfig(resamples=100))


def test_equal_accuracies_have_no_order_to_agree_with():
    found = comparison(
        trajectories(*[[1.0, 2.0, 3.0, 4.0, 5.0]] * 4), answers([0.0] * 5), BootstrapConfig(resamples=100)
    )
    assert found.resampled == [] and found.table["accuracy"].to_list() == [0] * 5
