"""Measurements of datasets: resuming, failures, what is left out."""

from dataclasses import replace

import polars as pl
import pytest

from rsr.data.trajectories import Dataset, Message, Trajectory
from rsr.errors import InputError
from rsr.features.base import Failed, NotRendered, measure_dataset
from rsr.features.text import TextCounts
from rsr.metrics import METRICS
from rsr.metrics.aggregate import dataset_scores, given_scores, measured_scores
from tests.models import together

DATASET = Dataset(
    "teacher",
    "gen1",
    tuple(
        Trajectory(f"t{i}", f"p{i}", (Message("user", "?"), Message("assistant", "check " * i + "x")))
        for i in range(10)
    ),
)


class Counts(TextCounts):
    """Counts in parts of 3, and does what it is told for some trajectories."""

    part = 3

    def __init__(self, **raising):
        self.raising, self.seen = raising, []

    def __call__(self, trajectory):
        self.seen.append(trajectory.id)
        if trajectory.id in self.raising:
            raise self.raising[trajectory.id]
        return super().__call__(trajectory)


def test_rows_are_those_of_the_measure_in_order(tmp_path):
    measured = measure_dataset(Counts(), DATASET, tmp_path, "s")
    assert measured.rows["id"].to_list() == [t.id for t in DATASET.trajectories]
    assert measured.rows["words"].to_list() == list(range(1, 11))
    facts = measured.artefact.facts
    assert facts["counts"]["trajectories"] == 10 and facts["seconds"] >= 0
    assert sorted(p.name for p in measured.artefact.path.iterdir()) == ["key.json", "manifest.json", "rows.parquet"]


@pytest.mark.parametrize("stop", range(10))
def test_interrupted_and_resumed_is_unbroken(tmp_path, stop):
    unbroken = measure_dataset(Counts(), DATASET, tmp_path / "unbroken", "s")
    with pytest.raises(KeyboardInterrupt):
        measure_dataset(Counts(**{f"t{stop}": KeyboardInterrupt()}), DATASET, tmp_path / "broken", "s")
    again = Counts()
    resumed = measure_dataset(again, DATASET, tmp_path / "broken", "s")
    assert resumed.rows.equals(unbroken.rows)
    assert again.seen[0] == f"t{stop // 3 * 3}"  # the part in flight is all that was lost
    assert resumed.artefact.path.name == unbroken.artefact.path.name


def test_killed_while_it_was_completed_it_completes(tmp_path):
    first = measure_dataset(Counts(), DATASET, tmp_path, "s")
    path = first.artefact.path
    (path / "manifest.json").unlink()
    path.rename(path.with_name(f"{path.name}.partial"))
    again = Counts()
    assert measure_dataset(again, DATASET, tmp_path, "s").rows.equals(first.rows)
    assert again.seen == []


def test_found_again_nothing_is_measured(tmp_path):
    first = measure_dataset(Counts(), DATASET, tmp_path, "s")
    again = Counts()
    assert measure_dataset(again, replace(DATASET, teacher="other"), tmp_path, "s").rows.equals(first.rows)
    assert again.seen == []


def test_processes_and_workers_share_the_work_and_change_nothing(tmp_path):
    unbroken = measure_dataset(Counts(), DATASET, tmp_path / "one", "s").rows
    counts = Counts(), Counts()

    def run(process, barrier):
        return measure_dataset(counts[process[0]], DATASET, tmp_path / "two", "s", process=process, barrier=barrier)

    assert all(measured.rows.equals(unbroken) for measured in together(run))
    assert [of.seen for of in counts] == [["t0", "t1", "t2", "t6", "t7", "t8"], ["t3", "t4", "t5", "t9"]]
    threaded = Counts()
    threaded.workers = 4
    assert measure_dataset(threaded, DATASET, tmp_path / "three", "s").rows.equals(unbroken)


def test_what_failed_is_missing_counted_and_tried_again(tmp_path):
    failing = Counts(t4=Failed("no answer"))
    measured = measure_dataset(failing, DATASET, tmp_path, "s")
    assert measured.failed == {"t4": "no answer"}
    assert measured.artefact.manifest is None
    assert measured.rows["words"].to_list() == [1, 2, 3, None, None, None, 7, 8, 9, 10]
    table = dataset_scores(measured_scores([measured], [METRICS["rule_based_quality"]]))
    assert set(table["missing"]) == {3}
    again = Counts()
    measured = measure_dataset(again, DATASET, tmp_path, "s")
    assert again.seen == ["t3", "t4", "t5"]
    assert measured.failed == {}
    assert measured.rows["words"].null_count() == 0


def test_what_another_process_failed_at_is_missing_too(tmp_path):
    counts = Counts(), Counts(t4=Failed("no answer"))

    def run(process, barrier):
        return measure_dataset(counts[process[0]], DATASET, tmp_path, "s", process=process, barrier=barrier)

    measured, _ = together(run)
    assert measured.artefact.manifest is None
    assert measured.failed == dict.fromkeys(["t3", "t4", "t5"], "failed in another process")
    assert measured.rows["words"].null_count() == 3


def test_what_cannot_be_rendered_is_refused_or_left_out_and_counted(tmp_path):
    failing = Counts(t4=NotRendered("it is trimmed"))
    with pytest.raises(InputError, match="teacher/gen1, trajectory t4: it is trimmed"):
        measure_dataset(failing, DATASET, tmp_path, "s")
    measured = measure_dataset(failing, DATASET, tmp_path, "s", on_error="skip")
    assert measured.rows.filter(pl.col("words").is_null()).select("id", "reason").rows() == [("t4", "it is trimmed")]
    assert measured.artefact.facts["counts"]["left_out"] == 1
    with pytest.raises(InputError, match="trajectory t4: it is trimmed"):  # allowed then is not passed over now
        measure_dataset(failing, DATASET, tmp_path, "s")


def test_what_concerns_all_is_never_left_out(tmp_path):
    with pytest.raises(InputError, match="the key is refused"):
        measure_dataset(Counts(t4=InputError("the key is refused")), DATASET, tmp_path, "s", on_error="skip")


def test_a_damaged_file_is_named(tmp_path):
    path = measure_dataset(Counts(), DATASET, tmp_path, "s").artefact.path / "rows.parquet"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match=r"rows\.parquet: not readable .*; remove .* and measure again"):
        measure_dataset(Counts(), DATASET, tmp_path, "s")


def test_verified_accuracy_is_the_share_of_right_answers():
    values = [True, False, None, True, *[False] * 6]
    rows = given_scores(METRICS["verified_accuracy"], "s", DATASET, values)
    (row,) = dataset_scores(rows).to_dicts()
    assert (row["metric"], row["value"], row["n"], row["missing"]) == ("verified_accuracy", 2 / 9, 9, 1)
