"""Contrasts of ways to train, and how conclusions are written."""

import json

import numpy as np
import polars as pl
import pytest

from experiments.app.conclusions import CONCLUSIONS, Conclusion, conclude, contrast, summary
from rsr.errors import InputError
from rsr.stats.effect import Effect

rng = np.random.default_rng(0)


def answers(accuracy, seeds, problems=200, benchmark="sums", spread=0.0):
    rows = []
    for seed in range(seeds):
        share = accuracy + spread * rng.standard_normal()
        right = rng.binomial(4, np.clip(share, 0, 1), problems) / 4
        rows += [(seed, benchmark, f"p{i}", float(c)) for i, c in enumerate(right)]
    return pl.DataFrame(rows, schema=["seed", "benchmark", "problem", "correct"], orient="row")


def test_a_way_does_not_differ_from_itself():
    way = answers(0.4, 3)
    found = contrast(way, way)
    assert found.value == 0 and found.low < 0 < found.high and found.low == -found.high


def test_ways_that_never_differ_are_not_known_to_be_one():
    found = contrast(answers(0.0, 1, 50), answers(0.0, 1, 50))
    assert found.low < -2 and found.high > 2 and found.minimum_detectable > 4
    assert np.isfinite(contrast(answers(0.0, 2, 1), answers(0.0, 2, 1)).minimum_detectable)


def test_it_changes_sign_with_the_order_of_ways_and_not_with_that_of_rows():
    one, other = answers(0.6, 3), answers(0.4, 2)
    there, back = contrast(one, other), contrast(other.sample(fraction=1, shuffle=True, seed=1), one)
    assert there.value == pytest.approx(-back.value) and there.low == pytest.approx(-back.high)
    assert there.minimum_detectable == pytest.approx(back.minimum_detectable)


def test_one_seed_says_what_its_interval_leaves_out():
    assert "not in the interval" in contrast(answers(0.6, 1), answers(0.4, 3)).basis


def test_problems_alone_are_the_paired_t_interval():
    one, other = answers(0.6, 1), answers(0.4, 1)
    found, from_scipy = (
        contrast(one, other),
        pytest.importorskip("scipy.stats").ttest_rel(one["correct"], other["correct"]),
    )
    low, high = from_scipy.confidence_interval()
    assert (found.low, found.high) == pytest.approx((100 * low, 100 * high))


def test_benchmarks_weigh_the_same():
    one = pl.concat([answers(1.0, 1, 300, "easy"), answers(0.0, 1, 10, "hard")])
    other = pl.concat([answers(0.0, 1, 300, "easy"), answers(0.0, 1, 10, "hard")])
    assert contrast(one, other).value == pytest.approx(50)


def test_intervals_cover_what_they_should():
    """Two ways of the same accuracy whose seeds differ: 95 of 100 intervals hold 0."""
    held = [
        (found := contrast(answers(0.5, 3, spread=0.05), answers(0.5, 3, spread=0.05))).low <= 0 <= found.high
        for _ in range(200)
    ]
    assert np.mean(held) > 0.9


def test_other_problems_are_no_comparison():
    with pytest.raises(AssertionError, match="problems differ"):
        contrast(answers(0.5, 1, 10), answers(0.5, 1, 11))


def test_conclusions_stand_first_and_kept_for_the_summary(tmp_path, capsys):
    conclusion = Conclusion("Does it?", "No.", Effect(-0.5, -1.0, 0.2, 0.9, "7 problems"))
    conclude(
        tmp_path / "f", "An experiment", [conclusion], ["## More", "text"], {"table.csv": pl.DataFrame({"a": [1]})}
    )
    text = (tmp_path / "f" / "table.md").read_text()
    assert text.index("Does it?") < text.index("## More")
    assert "-0.50 [-1.00, +0.20] points of accuracy" in text and "minimum detectable effect 0.90." in text
    (row,) = json.loads((tmp_path / "f" / CONCLUSIONS).read_text())
    assert row["answer"] == "No." and Conclusion.from_row(row) == conclusion
    assert "Does it?" in capsys.readouterr().out


def test_the_summary_has_every_conclusion_and_names_what_cannot_be_read(tmp_path):
    assert summary(tmp_path) == ""
    for name, low in (("a", -1.0), ("b/c", 0.1)):
        conclusion = Conclusion(f"Is {name}?", "So it is.", Effect(0.5, low, 1.0, 0.9, "11 teachers"), "Spearman")
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / CONCLUSIONS).write_text(json.dumps([conclusion.row()]))
    lines = summary(tmp_path).splitlines()
    assert len(lines) == 4 and lines[3].startswith("| b/c | Is b/c?")
    assert "+0.50 [+0.10, +1.00] Spearman | 0.90 | 11 teachers" in lines[3]
    (tmp_path / "a" / CONCLUSIONS).write_text("[{}]")
    with pytest.raises(InputError, match=r"a/conclusions\.json: no conclusions that can be read"):
        summary(tmp_path)
