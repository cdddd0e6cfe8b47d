"""A generated store is what it says, and metrics hold a shard of it at a time."""

import tracemalloc

import numpy as np
import pytest

from benchmarks import generated, tasks


def three_teachers(monkeypatch, length):
    monkeypatch.setattr(generated, "printed_means", lambda: dict.fromkeys(("one", "two", "three"), (length, 0.9)))


def test_a_generated_store_is_what_a_student_could_have_scored(monkeypatch, tmp_path):
    three_teachers(monkeypatch, 300.0)
    generated.generate(tmp_path, 2)
    for store in generated.stores(tmp_path, 2):
        tokens = [shard.tokens for shard in store]
        for of in tokens:
            assert (of.rank >= 1).all() and (of.rank <= np.exp(of.surprisal.astype(float)) * 1.001).all()
        assert np.mean(np.concatenate([of.lengths for of in tokens])) == pytest.approx(300, rel=0.2)
        assert np.mean(np.concatenate([of.surprisal for of in tokens])) == pytest.approx(0.9, rel=0.1)
    assert tasks.tokens(tmp_path, 2) == sum(len(s.tokens.rank) for of in generated.stores(tmp_path, 2) for s in of)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    generated.generate(tmp_path, 2)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}


@pytest.mark.full
def test_every_task_runs_and_metrics_hold_a_shard_at_a_time(monkeypatch, tmp_path):
    three_teachers(monkeypatch, 2000.0)
    generated.generate(tmp_path, 8)
    assert all([*task(tmp_path, 1)()] for task in tasks.TASKS.values())
    peaks = []
    for size in (2, 8):
        run = tasks.ablation(tmp_path, size)
        tracemalloc.start()
        run()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0], peaks
