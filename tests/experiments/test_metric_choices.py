"""Whatever is given as `metric=` or `metrics=`: a command shows it, or refuses it in one line."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from experiments import correlation, mismatch, score, trajectory_selection
from experiments.app.entry import _open
from experiments.app.shared_configs import ROOT
from rsr.cli.terminal import BESIDE
from rsr.errors import InputError
from rsr.metrics import METRICS
from rsr.metrics.base import GROUPS
from rsr.metrics.score_tables import read
from rsr.selection.ranking import rank
from tests.clients import teachers
from tests.models import save

pytestmark = pytest.mark.full
NAMES = [*METRICS, *GROUPS, "all", "study", "text", "tokens", "steps", "answers", "teacher"]
CHOICES = st.one_of(
    st.sampled_from(NAMES),
    st.lists(st.sampled_from([*NAMES, "rsrr", "", "a/b"]), max_size=3),
    st.sampled_from([None, 7, True, [["rsr"]], {"rsr": 1}]),
)
PASSES = ("steps", "step_heads", "responses_alone", "activations", "gradients")
SLOW = ("all", "study", *PASSES, "grad", *(m.name for m in METRICS.values() if m.needs in PASSES))
FEW = settings(max_examples=4, derandomize=True, database=None)


def configured(command, *overrides, **values):
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        composed = compose(command, overrides=["bootstrap.resamples=100", *overrides])
    return OmegaConf.to_object(OmegaConf.merge(composed, values))


def refused(command, config):
    """Whether the command refuses in one line; what it raises else is a fault."""
    try:
        command.main.__wrapped__(config)
    except InputError as error:
        line = str(error)
    else:
        return False
    assert line and "\n" not in line
    return True


@settings(FEW, max_examples=2)  # what rounding allows takes seconds
@given(CHOICES)
@example(["rsr", "rule_based_quality"])
def test_correlation_with_published_accuracies(tmp_path_factory, metric):
    results = tmp_path_factory.mktemp("correlation")
    config = configured("correlation", "student=qwen3b", metric=metric, paths={"results": str(results)})
    assert refused(correlation, config) != any(results.rglob("table.md"))


@FEW
@given(CHOICES)
@example("avg_rank")  # no metric that is usually drawn
@example("teacher_params")  # the same for every student
@example("avg_entropy")  # not printed
def test_mismatch_of_published_scores(tmp_path_factory, metric):
    results = tmp_path_factory.mktemp("mismatch")
    config = configured("mismatch", metric=metric, paths={"results": str(results)})
    assert refused(mismatch, config) != any(results.rglob("matrix.png"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("scores")
    save(place / "model")
    teachers(place / "data", 3)
    return place


@settings(FEW, max_examples=3)
@given(
    CHOICES.filter(
        lambda metrics: not any(name in SLOW for name in (metrics if isinstance(metrics, list) else [metrics]))
    )
)
@example(["rsr", "rule_based_quality"])
@example(["avg_rank", "rule_based_quality"])
@example("text")
@example("rsr")  # beside it stand metrics that need a column which was not asked for, without values
def test_score_shows_what_it_was_asked_for_and_rank_orders_by_it(place, metrics):
    config = configured(
        "score",
        _open(f"student={place / 'model'}"),
        _open(f"teachers={place / 'data'}"),
        metrics=metrics,
        scoring={"dtype": "float32", "device": "cpu"},
        gradients={"dimensions": 2},
        paths={"outputs": str(place / "out")},
    )
    out = StringIO()
    with redirect_stdout(out):
        if refused(score, config):
            return
    shown = out.getvalue()
    for name in config.names:
        title = BESIDE[name][0] if name in BESIDE else name in METRICS and METRICS[name].title.split()[0]
        assert not title or title in shown
    scores = read(Path(re.findall(r"Written to (.*)", shown)[0]))
    for name in scores.trajectories.drop_nulls("value")["metric"].unique():
        assert len(rank(scores.trajectories, name, resamples=100).places) == 2


@pytest.mark.parametrize("command", [correlation, mismatch, trajectory_selection])
def test_results_that_cannot_be_written_are_one_line(command):
    student = ["student=qwen3b"] if command is correlation else []
    name = command.__name__.rpartition(".")[2]
    config = configured(name, *student, metric="rsr", paths={"results": "/dev/null"})
    with pytest.raises(InputError, match=r"/dev/null/.*: cannot be written: Not a directory"):
        command.main.__wrapped__(config)
