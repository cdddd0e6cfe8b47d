"""A student larger than its device: weights that are spread give the same numbers, and what cannot be spread is refused."""

import numpy as np
import pytest
import torch

from experiments.app.shared_configs import ScoreConfig, ScoringConfig, StudentConfig, TeachersConfig
from experiments.stages import scoring
from rsr.data.messages import Message
from rsr.data.trajectories import Dataset, Trajectory
from rsr.errors import InputError
from rsr.features.gradients import GradientSettings, ProjectedGradients, summed_loss
from rsr.student import device, student
from rsr.student.settings import SPREAD
from rsr.tokens.dry_run import estimate
from rsr.tokens.engine import Scorer
from rsr.tokens.settings import Scoring
from tests.models import add_adapter, save

LAYERS = 6
MESSAGES = [Message("user", "What is 1 + 2?"), Message("assistant", "Let us add: 1 + 2 = 3. \\boxed{3}")]
TRAJECTORY = Trajectory("t", "p", tuple(MESSAGES))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("student"), num_hidden_layers=LAYERS, tied=False)


@pytest.fixture
def small_memory(monkeypatch, folder):
    """Memory for half of the weights, so that transformers leaves the others on the disk."""
    half = (folder / "model.safetensors").stat().st_size // 2
    monkeypatch.setattr("transformers.integrations.accelerate.accelerate_max_memory", lambda given: {"cpu": half})


def load(folder, where="auto", **settings):
    return student.load(folder, dtype="float32", device=where, **settings)


def test_a_spread_student_scores_as_one_that_is_whole(folder, small_memory, caplog):
    spread, whole = load(folder), load(folder, "cpu")
    parts = device.places(spread.model)
    assert parts["cpu"] > 0 < parts["offloaded"]
    assert sum(parts.values()) == device.places(whole.model)["cpu"]
    assert "is spread: " in caplog.text and "what is offloaded is copied for every batch" in caplog.text
    assert spread.identity == whole.identity
    assert spread.device == torch.device("cpu")
    chats = [spread.renderer.render(MESSAGES), spread.renderer.render([*MESSAGES, *MESSAGES])]
    one, other = (Scorer(of, Scoring()).score(chats) for of in (spread, whole))
    for name in ("rank", "surprisal", "entropy"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    ids = torch.tensor([chats[0].ids])
    written = [of.model.generate(ids, do_sample=False, max_new_tokens=4) for of in (spread, whole)]
    assert torch.equal(*written)
    losses = [summed_loss(Scorer(of, Scoring()), chats[0].ids, chats[0].positions()) for of in (spread, whole)]
    assert torch.equal(*losses)


def test_what_cannot_be_spread_is_refused(folder, small_memory, tmp_path):
    spread = load(folder)
    with pytest.raises(InputError, match=r"the head lies in main memory or on disk.*: take head_dtype=model"):
        Scorer(spread, Scoring(head_dtype="float32"))
    with pytest.raises(InputError, match="weights in main memory or on disk have no gradients"):
        ProjectedGradients(Scorer(spread, Scoring()), GradientSettings())
    near = ProjectedGradients(Scorer(spread, Scoring()), GradientSettings("model.layers.0.*"))
    whole = ProjectedGradients(Scorer(load(folder, "cpu"), Scoring()), GradientSettings("model.layers.0.*"))
    assert near(TRAJECTORY) == whole(TRAJECTORY)
    with pytest.raises(InputError, match="weights in main memory or on disk have no digest: give the model's folder"):
        student.of_model(spread.model, spread.renderer.tokenizer)
    with pytest.raises(InputError, match="holds an adapter, which device=auto does not spread: merge it"):
        load(add_adapter(save(tmp_path / "adapted")))


def test_a_student_that_does_not_fit_is_refused_before_it_is_loaded(folder, monkeypatch):
    monkeypatch.setattr(student, "memory_on", lambda place: 1_000)
    with pytest.raises(
        InputError, match=r"its weights take 0.00 GB in float32, and cpu has 0.00 GB: device=auto spreads"
    ):
        load(folder, "cpu")
    assert load(folder).device.type == "cpu"


def test_processes_do_not_spread_a_student_each(folder):
    config = ScoreConfig(
        StudentConfig("tiny", str(folder)), TeachersConfig("data", "data"), ScoringConfig(device=SPREAD)
    )
    with pytest.raises(InputError, match="takes all devices in one process: start it without accelerate launch"):
        scoring._backend(config, 2)


def test_a_dry_run_knows_where_the_weights_lie(folder, small_memory, tmp_path):
    found = estimate(Scorer(load(folder), Scoring()), [Dataset("teacher", "gen1", (TRAJECTORY,))], tmp_path)
    assert {*found.places} == {"cpu", "offloaded"}
    assert found.device == "cpu" and 0 < found.memory < found.device_memory
