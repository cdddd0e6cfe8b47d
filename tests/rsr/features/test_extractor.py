"""Measurements of datasets: resuming, failures, what is left out."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from rsr.data.messages import Message
from rsr.data.trajectories import Dataset, Trajectory
from rsr.errors import InputError
from rsr.features.extractor import Failed, NotRendered, extract_features
from rsr.features.text import TextCounts
from rsr.metrics import METRICS
from rsr.metrics.aggregate import dataset_scores, feature_scores
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


def test_rows_are_those_of_the_extractor_in_order(tmp_path):
    measured = extract_features(Counts(), DATASET, tmp_path, "s")
    assert measured.rows["id"].to_list() == [t.id for t in DATASET.trajectories]
    assert measured.rows["words"].to_list() == list(range(1, 11))
    facts = measured.artefact.facts
    assert facts["counts"]["trajectories"] == 10
    assert sorted(p.name for p in measured.artefact.path.iterdir()) == ["key.json", "manifest.json", "rows.parquet"]


@pytest.mark.parametrize("stop", range(10))
def test_interrupted_and_resumed_is_unbroken(tmp_path, stop):
    unbroken = extract_features(Counts(), DATASET, tmp_path / "unbroken", "s")
    with pytest.raises(KeyboardInterrupt):
        extract_features(Counts(**{f"t{stop}": KeyboardInterrupt()}), DATASET, tmp_path / "broken", "s")
    again = Counts()
    resumed = extract_features(again, DATASET, tmp_path / "broken", "s")
    assert resumed.rows.equals(unbroken.rows)
    assert again.seen[0] == f"t{stop // 3 * 3}"  # the part in flight is all that was lost
    assert resumed.artefact.path.name == unbroken.artefact.path.name


def test_killed_while_it_was_completed_it_completes(tmp_path, monkeypatch):
    first = extract_features(Counts(), DATASET, tmp_path / "first", "s")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            extract_features(Counts(), DATASET, tmp_path, "s")
    again = Counts()
    assert extract_features(again, DATASET, tmp_path, "s").rows.equals(first.rows)
    assert again.seen == []


def test_found_again_nothing_is_measured(tmp_path):
    first = extract_features(Counts(), DATASET, tmp_path, "s")
    again = Counts()
    assert extract_features(again, replace(DATASET, teacher="other"), tmp_path, "s").rows.equals(first.rows)
    assert again.seen == []


def test_processes_and_workers_share_the_work_and_change_nothing(tmp_path):
    unbroken = extract_features(Counts(), DATASET, tmp_path / "one", "s").rows
    counts = Counts(), Counts()

    def run(process, barrier):
        return extract_features(counts[process[0]], DATASET, tmp_path / "two", "s", process=process, barrier=barrier)

    assert all(measured.rows.equals(unbroken) for measured in together(run))
    assert [of.seen for of in counts] == [["t0", "t1", "t2", "t6", "t7", "t8"], ["t3", "t4", "t5", "t9"]]
    threaded = Counts()
    threaded.workers = 4
    assert extract_features(threaded, DATASET, tmp_path / "three", "s").rows.equals(unbroken)


def test_what_failed_is_missing_counted_and_tried_again(tmp_path):
    failing = Counts(t4=Failed("no answer"))
    measured = extract_features(failing, DATASET, tmp_path, "s")
    assert measured.failed == {"t4": "no answer"}
    assert measured.artefact.manifest is None
    assert measured.rows["words"].to_list() == [1, 2, 3, None, None, None, 7, 8, 9, 10]
    table = dataset_scores(feature_scores([measured], [METRICS["rule_based_quality"]]))
    assert set(table["missing"]) == {3}
    again = Counts()
    measured = extract_features(again, DATASET, tmp_path, "s")
    assert again.seen == ["t3", "t4", "t5"]
    assert measured.failed == {}
    assert measured.rows["words"].null_count() == 0


def test_what_another_process_failed_at_is_missing_too(tmp_path):
    counts = Counts(), Counts(t4=Failed("no answer"))

    def run(process, barrier):
        return extract_features(counts[process[0]], DATASET, tmp_path, "s", process=process, barrier=barrier)

    measured, _ = together(run)
    assert measured.artefact.manifest is None
    assert measured.failed == dict.fromkeys(["t3", "t4", "t5"], "failed in another process")
    assert measured.rows["words"].null_count() == 3


def test_what_cannot_be_rendered_is_refused_or_left_out_and_counted(tmp_path):
    failing = Counts(t4=NotRendered("it is trimmed"))
    with pytest.raises(InputError, match="teacher/gen1, trajectory t4: it is trimmed"):
        extract_features(failing, DATASET, tmp_path, "s")
    measured = extract_features(failing, DATASET, tmp_path, "s", on_error="skip")
    assert measured.rows.filter(pl.col("words").is_null()).select("id", "reason").rows() == [("t4", "it is trimmed")]
    assert measured.artefact.facts["counts"]["left_out"] == 1
    with pytest.raises(InputError, match="trajectory t4: it is trimmed"):  # allowed then is not passed over now
        extract_features(failing, DATASET, tmp_path, "s")


def test_what_concerns_all_is_never_left_out(tmp_path):
    with pytest.raises(InputError, match="the key is refused"):
        extract_features(Counts(t4=InputError("the key is refused")), DATASET, tmp_path, "s", on_error="skip")


def test_a_damaged_file_is_named(tmp_path):
    path = extract_features(Counts(), DATASET, tmp_path, "s").artefact.path / "rows.parquet"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match=r"rows\.parquet: cannot be read .*; remove .* to make it anew"):
        extract_features(Counts(), DATASET, tmp_path, "s")
