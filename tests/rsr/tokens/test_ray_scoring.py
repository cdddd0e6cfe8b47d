"""Scoring by actors of a real Ray cluster, nodes of which are lost on the way."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from rsr.data.trajectories import read
from rsr.errors import InputError
from rsr.student.settings import Loading
from rsr.tokens import score_dataset as stage
from rsr.tokens.late_scorer import LateScorer
from rsr.tokens.settings import Scoring
from tests.clients import chat, write
from tests.models import save

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def connected(cluster):
    """The cluster, and this process its driver, which ends by a signal as it did before."""
    from rsr.tokens.ray_scoring import connected

    signal.signal(signal.SIGTERM, before := lambda *_: None)
    with connected(cluster.address):
        assert signal.getsignal(signal.SIGTERM) is before
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        yield cluster


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    """Two datasets of five shards and one of one."""
    monkeypatch.setattr(stage, "LEAST", 2000)
    monkeypatch.setattr(stage, "SHARE", 5)
    sizes = {"long": 60, "longer": 80, "short": 2}
    texts = {name: [chat(i, f"{name} {i} " * 50) for i in range(n)] for name, n in sizes.items()}
    return [read(write(tmp_path / f"{name}.jsonl", of), name) for name, of in texts.items()]


def scorer(folder, notes):
    """A scorer that notes whose child made it."""
    made = LateScorer(folder, Loading(dtype="float32", device="cpu"), Scoring())
    notes.mkdir(exist_ok=True)
    (notes / str(os.getppid())).touch()
    return made


def shards(root):
    return {path.name: path.read_bytes() for path in root.glob("tokens/*/*.parquet")}


def test_a_lost_node_changes_no_byte_of_what_is_scored(connected, datasets, tmp_path):
    from rsr.tokens.ray_scoring import score_on_ray

    make = partial(scorer, save(tmp_path / "student"), tmp_path / "notes")
    expected = [stage.score_dataset(make(), dataset, tmp_path / "alone") for dataset in datasets]
    node = connected.add_node()
    raylet = tmp_path / "notes" / str(node.all_processes["raylet"][0].process.pid)
    told = {dataset.name: 0 for dataset in datasets}
    windows = []

    def progress(dataset, characters, tokens):
        told[dataset.name] += characters
        windows.append(tokens)
        while not raylet.exists():  # the other node's actor is here before much is done
            time.sleep(0.5)
        if len(windows) == 4:
            connected.remove_node(node, allow_graceful=False)

    found = score_on_ray(make, datasets, tmp_path / "shared", resources={"num_cpus": 1}, progress=progress)
    sizes = {dataset.name: sum(t.characters for t in dataset.trajectories) for dataset in datasets}
    assert told == sizes and len(windows) > 4  # every window once, and the node was lost before the last
    assert [store.artefact.id for store in found] == [store.artefact.id for store in expected]
    assert shards(tmp_path / "shared") == shards(tmp_path / "alone")
    assert [s.artefact.facts["counts"] for s in found] == [s.artefact.facts["counts"] for s in expected]
    again = score_on_ray(make, datasets, tmp_path / "shared", resources={"num_cpus": 1}, progress=progress)
    assert [store.artefact.manifest for store in again] == [store.artefact.manifest for store in found]


def killed(folder: Path):
    """A scorer whose process ends."""
    os._exit(9)


def test_an_actor_that_cannot_score_says_why(connected, datasets, tmp_path):
    from rsr.tokens.ray_scoring import score_on_ray

    score = partial(score_on_ray, datasets=datasets, root=tmp_path / "out", resources={"num_cpus": 1}, progress=print)
    folder = save(tmp_path / "student", max_position_embeddings=16)
    with pytest.raises(InputError, match="beyond the 16 positions"):
        score(partial(LateScorer, folder, Loading(device="cpu"), Scoring(max_length=32)))
    with pytest.raises(InputError, match="lost again and again"):
        score(partial(killed, folder))
