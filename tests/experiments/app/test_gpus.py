"""A training sees one GPU, unless a launcher spreads it; pinned before CUDA is used, which this machine may not have."""

import os

import pytest

from experiments.app.executor import Job
from experiments.app.gpus import VISIBLE, gpus, take_one_gpu
from experiments.app.processes import local_executor


def test_of_several_gpus_a_training_takes_the_first_of_its_own(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for visible, taken in (("3, 5", "3"), ("GPU-9a,GPU-7b", "GPU-9a"), ("2", "2"), ("", "")):
        monkeypatch.setenv(VISIBLE, visible)
        take_one_gpu()
        assert os.environ[VISIBLE] == taken and gpus() == [name for name in [taken] if name]


def test_what_a_launcher_has_spread_is_left_to_it(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(VISIBLE, "3,5")
    take_one_gpu()
    assert gpus() == ["3", "5"]


@pytest.mark.full
@pytest.mark.parametrize(("processes", "expected"), [(2, ["3", "5"]), (3, ["3", "5", "3"])])
def test_jobs_side_by_side_have_a_gpu_each(monkeypatch, tmp_path, processes, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which the executor sets
    monkeypatch.setenv(VISIBLE, "3,5")
    jobs = [Job(str(i), os.getenv, (VISIBLE,), tmp_path / "log") for i in range(len(expected))]
    with local_executor(processes) as executor:
        executor.start(jobs)
        events = [executor.wait() for _ in range(2 * len(jobs))]
    seen = {event.job.name: event.content for event in events if event.kind == "result"}
    assert [seen[job.name] for job in jobs] == expected
