"""A training sees one GPU, unless a launcher spreads it; pinned before CUDA is used, which this machine may not have."""

import os

from experiments.app.gpus import VISIBLE, gpus, take_one_gpu


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
