"""Threads are as many as there are cores to be had, and what the user has set stays."""

import os

import pytest

from rsr.student import threads


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_the_quota_of_a_cgroup(tmp_path, files, quota):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert threads._quota(tmp_path) == quota


@pytest.mark.parametrize(("quota", "cores"), [(None, 8), (16.0, 8), (2.5, 3), (0.2, 1)])
def test_threads_keep_to_the_quota(monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(threads, "_quota", lambda: quota)
    for name in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    assert threads.cores() == cores
    threads.set_policy()
    assert os.environ["OMP_WAIT_POLICY"] == "passive"
    assert os.environ.get("OMP_NUM_THREADS") == (None if cores == 8 else str(cores))


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setattr(threads, "_quota", lambda: 0.5)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    threads.set_policy()
    assert (os.environ["OMP_WAIT_POLICY"], os.environ["OMP_NUM_THREADS"]) == ("active", "7")
