"""The order of datasets and how sure it is."""

import tracemalloc
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from rsr.errors import InputError
from rsr.metrics.aggregate import SCHEMA, dataset_scores
from rsr.metrics.score_tables import of_metric
from rsr.selection import conclusions
from rsr.selection.ranking import rank
from rsr.selection.verdicts import Verdicts


def table(rng, shifts, n=40, *, slope=0.0, lengths=None, repeating=None):
    """Trajectory scores of datasets whose RSR is `shifts` higher, and grows with log length by `slope`.

    Args:
        repeating: of each dataset, the least share of repeats; the RSR falls with the share. None knows of no repeats.
    """
    rows = []
    for d, (name, shift) in enumerate(shifts.items()):
        for p in range(n):
            tokens = int((lengths or [200] * len(shifts))[d] * np.exp(rng.normal(0, 0.3)))
            value = 3 + shift + slope * np.log(tokens / 200) + rng.normal(0, 0.2)
            repetition = None if repeating is None else repeating[d] + rng.uniform(0, 0.4)
            value -= repetition or 0
            common = {"teacher": name, "trajectory": str(p), "problem": str(p), "tokens": tokens}
            rows.append(common | {"metric": "rsr", "numerator": value * 0.9, "denominator": 0.9, "value": value})
            for metric, of in (("avg_surprisal", 0.9), ("avg_rank_clipped", value * 0.9), ("avg_token_length", tokens)):
                rows.append(common | {"metric": metric, "value": float(of)})
            rows += [common | {"metric": "repetition", "value": repetition}] if repeating else []
    fixed = {"student": "s", "generation": "", "preset": "", "truncated": False, "artefact": "x"}
    return pl.DataFrame([fixed | row for row in rows], schema=SCHEMA)


def test_values_are_those_of_the_score_table():
    scores = table(np.random.default_rng(0), {"a": 0.0, "b": 0.3})
    ranking = rank(scores)
    expected = dict(dataset_scores(scores).filter(metric="rsr").select("teacher", "value").iter_rows())
    assert {p.dataset: p.value for p in ranking.places} == pytest.approx(expected)
    assert [p.dataset for p in ranking.places] == ["a", "b"]


def test_a_metric_of_texts_knows_the_tokens_of_metrics_beside_it():
    scores = table(np.random.default_rng(0), {"a": 0.0, "b": 0.3})
    of_text = scores.filter(metric="rsr").with_columns(
        metric=pl.lit("rule_based_quality"), tokens=pl.lit(None, pl.Int64)
    )
    together = of_metric(pl.concat([scores, of_text]), "rule_based_quality")
    assert together["tokens"].to_list() == scores.filter(metric="rsr")["tokens"].to_list()
    assert of_metric(of_text, "rule_based_quality")["tokens"].null_count() == len(of_text)


def test_probabilities_are_consistent():
    ranking = rank(table(np.random.default_rng(1), {"a": 0.0, "b": 0.02, "c": 0.5}))
    wins = np.array(ranking.wins)
    np.testing.assert_allclose(wins + wins.T, 1)
    assert sum(p.best for p in ranking.places) == pytest.approx(1)
    assert ranking.places[-1].best == 0
    assert wins[0, 2] == 1


def test_memory_is_not_of_datasets_times_resamples():
    scores = table(np.random.default_rng(0), {f"d{i:03d}": 0.0 for i in range(100)}, n=2)
    peaks = []
    for resamples in (1_000, 10_000):
        tracemalloc.start()
        rank(scores, resamples=resamples)
        peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
    assert (
        peaks[1] < peaks[0] + 10
    )  # a block of resamples either way; sums of every dataset and resample would be 72 more


def test_equal_datasets_share_the_first_place():
    rng = np.random.default_rng(2)
    one = table(rng, {"a": 0.0})
    ranking = rank(pl.concat([one, one.with_columns(teacher=pl.lit("b"))]))
    assert [p.best for p in ranking.places] == [0.5, 0.5]
    assert ranking.to_settle is None


def test_the_estimate_of_what_settles_the_order_shrinks_with_problems():
    few = rank(table(np.random.default_rng(3), {"a": 0.0, "b": 0.03}, n=60))
    many = rank(table(np.random.default_rng(3), {"a": 0.0, "b": 0.3}, n=60))
    assert few.to_settle is not None and few.to_settle > 0
    assert many.to_settle == 0
    a, b = (p for p in few.places)
    # With so many problems in all the interval of the difference would just exclude 0: sd of a difference is .2 root 2.
    expected = (1.96 * 0.2 * np.sqrt(2) / (b.value - a.value)) ** 2
    assert few.problems + few.to_settle == pytest.approx(expected, rel=0.3)


def test_a_difference_that_nobody_would_settle_is_said_to_be_none():
    told = {
        settling: conclusions.reasons(
            replace(rank(table(np.random.default_rng(3), {"a": 0.0, "b": 0.03})), to_settle=settling)
        )[0]
        for settling in (conclusions.MOST, conclusions.MOST + 1)
    }
    assert "about 10,000 more problems" in told[conclusions.MOST]
    assert "as good as equal: more than 10,000 further problems" in told[conclusions.MOST + 1]


def test_problems_without_a_value_everywhere_are_left_out_and_counted():
    scores = table(np.random.default_rng(4), {"a": 0.0, "b": 0.1}, n=10)
    missing = (pl.col("teacher") == "a") & (pl.col("problem") == "0")
    ranking = rank(scores.with_columns(value=pl.when(missing).then(None).otherwise("value")))
    assert (ranking.problems, ranking.left_out) == (9, 1)
    with pytest.raises(InputError, match="0 of 20 problems have a value in all 2 datasets"):
        rank(scores.with_columns(problem=pl.col("teacher") + pl.col("problem")))


def test_length_explains_a_difference_that_is_only_length():
    rng = np.random.default_rng(5)
    only_length = rank(table(rng, {"a": 0.0, "b": 0.0}, n=200, slope=0.5, lengths=[150, 300]))
    besides = rank(table(rng, {"a": 0.0, "b": 0.5}, n=200, slope=0.5, lengths=[150, 300]))
    assert only_length.lengths[0].explained
    assert only_length.lengths[0].adjusted == pytest.approx(0, abs=0.1)
    assert not besides.lengths[0].explained
    assert besides.lengths[0].adjusted == pytest.approx(0.5, abs=0.1)
    assert only_length.repetitions == () and only_length.places[0].repetition is None
    assert conclusions.reasons(only_length)[-2:] == [
        "length may explain the lead of a over b: at equal length it cannot be told from 0",
        "whether repetition explains the order is not known: the scores do not say it",
    ]
    assert "length does not explain the lead of a over b: it is there at equal length, too" in conclusions.reasons(
        besides
    )


def test_repetition_explains_a_difference_that_is_only_repetition():
    loops = rank(table(np.random.default_rng(5), {"a": 0.0, "b": 0.0}, n=200, repeating=[0.4, 0.1]))
    besides = rank(table(np.random.default_rng(5), {"a": 0.0, "b": 0.5}, n=200, repeating=[0.4, 0.1]))
    (own,) = loops.repetitions
    assert own.explained and own.difference == pytest.approx(0.3, abs=0.1) and own.adjusted == pytest.approx(0, abs=0.1)
    assert [place.repetition for place in loops.places] == pytest.approx([0.6, 0.3], abs=0.02)
    assert conclusions.reasons(loops)[-1] == (
        "repetition may explain the lead of a over b: at equal repetition it cannot be told from 0 (the metric "
        "rsr_without_repeats leaves out what is repeated)"
    )
    assert besides.repetitions[0].stays
    assert conclusions.reasons(besides)[-1] == (
        "repetition does not explain the lead of a over b: it is there at equal repetition, too"
    )


def test_what_differs_by_the_same_everywhere_cannot_be_told_from_the_difference():
    scores = table(np.random.default_rng(5), {"a": 0.0, "b": 0.5}, repeating=[0.4, 0.1])
    same = pl.when(pl.col("metric") == "repetition").then(pl.when(pl.col("teacher") == "a").then(0.9).otherwise(0.0))
    (difference,) = rank(scores.with_columns(value=same.otherwise("value"))).repetitions
    assert np.isnan(difference.adjusted) and difference.explained


def test_baselines_choose_by_their_own_direction():
    ranking = rank(table(np.random.default_rng(6), {"a": 0.0, "b": 0.5}, n=100, lengths=[100, 400]))
    assert ranking.choices["avg_rank_clipped"] == "a"
    assert ranking.choices["avg_token_length"] == "b"  # longer is better, says length


def test_the_order_of_rows_changes_nothing():
    scores = table(np.random.default_rng(7), {"a": 0.0, "b": 0.05, "c": 0.1})
    assert rank(scores) == rank(scores.sample(fraction=1, shuffle=True, seed=1))


def test_generations_of_a_teacher_go_together():
    rng = np.random.default_rng(8)
    first, second = (table(rng, {"a": 0.0, "b": 0.3}).with_columns(generation=pl.lit(g)) for g in ("gen1", "gen2"))
    both = pl.concat([first, second])
    assert len(rank(both).places) == 4
    ranking = rank(both, by="teacher")
    assert [p.dataset for p in ranking.places] == ["a", "b"]
    own = both.filter(teacher="a", metric="rsr")
    assert ranking.places[0].value == pytest.approx(own["numerator"].sum() / own["denominator"].sum())
    repeating = both.filter(metric="rsr").with_columns(
        metric=pl.lit("repetition"), value=pl.when(pl.col("generation") == "gen1").then(0.2).otherwise(0.4)
    )
    assert rank(pl.concat([both, repeating]), by="teacher").places[0].repetition == pytest.approx(0.3)


@pytest.mark.parametrize(("n", "settled"), [(2, False), (4, False), (5, True), (60, True)])
def test_an_order_is_settled_on_some_problems_at_least(n, settled):
    ranking = rank(table(np.random.default_rng(9), {"a": 0.0, "b": 9.0}, n=n))
    assert ranking.places[1].told_apart == settled == (ranking.to_settle == 0)
    assert not ranking.places[0].told_apart
    advised = "30 or more make it firm" in conclusions.reasons(ranking)[0]
    assert advised == (n == 5)


def test_two_alike_are_seldom_told_apart_with_few_problems():
    apart = [
        rank(table(np.random.default_rng(seed), {"a": 0.0, "b": 0.0}, n=6), resamples=100).places[1].told_apart
        for seed in range(100)
    ]
    assert sum(apart) <= 12  # 5 are expected; more than 12 have a chance of 1 in 700


def test_what_repeats_least_is_no_reason_to_train_on_it():
    scores = table(np.random.default_rng(0), {"a": 0.0, "b": 0.0}, repeating=[0.0, 0.5])
    decision = conclusions.decision(rank(scores, "repetition"), {})
    assert decision.startswith("a comes first, and is no better to train on for that: repetition says")
    assert conclusions.decision(rank(scores), {}).startswith("train on ")


def test_among_equals_right_answers_and_length_decide():
    scores = table(np.random.default_rng(0), {"a": 0.0, "b": 0.001, "c": 3.0}, lengths=[200, 100, 50])
    ranking = rank(scores)
    first, other = (place.dataset for place in ranking.places[:2])
    verdicts = {first: Verdicts(30, 10), other: Verdicts(38, 2), "c": Verdicts(40)}
    decision = conclusions.decision(ranking, verdicts)
    assert decision.startswith(f"train on {first}, or on what cannot be told apart from it by this metric: {other}. ")
    assert f"Most right answers among these: {other} (38 of 40). Shortest responses among these: b (" in decision
    same = conclusions.decision(ranking, {first: Verdicts(30, 0, 10), other: Verdicts(30, 10), "c": Verdicts(40)})
    assert (
        f"Most right answers among these: {first} (30 of 30), {other} (30 of 40); more may be, where answers are unknown, which"
        in same
    )
    assert "right answers" not in conclusions.decision(ranking, {first: Verdicts(unknown=40), other: Verdicts(0, 40)})
    assert conclusions.rightness(verdicts) == (
        "whether answers are right is known for 120 of 120 trajectories, and does not count in this order"
    )
