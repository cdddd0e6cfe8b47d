"""Parts of trajectories from token stores, and the miniature at three lengths."""

import json
from random import Random

import numpy as np
import polars as pl
import pytest

from experiments.analysis.lengths_trained import trained
from experiments.analysis.prefixes import AFTER, ALL, BEFORE, SURPRISAL, Answers, answers, marks, prefix, resampled
from experiments.app.shared_configs import BootstrapConfig
from experiments.miniature import lengths, words
from experiments.miniature.teachers import TEACHERS, taste_of
from experiments.miniature.world import problems
from rsr.data.messages import Message
from rsr.data.trajectories import Dataset, Trajectory
from rsr.metrics.aggregate import dataset_scores, trajectory_scores
from rsr.metrics.token import rsr
from rsr.student import student as students
from rsr.student.chat import ChatRenderer
from rsr.tokens.engine import Scorer
from rsr.tokens.score_dataset import score_dataset
from rsr.tokens.settings import Scoring
from tests.clients import chat, replies, write
from tests.models import save

THOUGHT, ANSWER = "<think>\n1 + 2 = 3. {i}\n</think>\n\n", "It is \\boxed{42}."
DATA = Dataset(
    "teacher",
    "gen1",
    tuple(
        Trajectory(
            f"t{i}", f"p{i}", (Message("user", f"Problem {i}"), Message("assistant", THOUGHT.format(i=i) + ANSWER))
        )
        for i in range(6)
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="module")
def measured(folder, tmp_path_factory):
    """A real store, and its trajectories' parts."""
    scorer = Scorer(students.load(folder, dtype="float32", device="cpu"), Scoring())
    store = score_dataset(scorer, DATA, tmp_path_factory.mktemp("outputs"))
    marked = marks(DATA, scorer.student.renderer, "</think>", scorer.max_length)
    return scorer, store, answers(store, [5, 4096], marked)


@pytest.mark.full
def test_a_prefix_scores_as_the_chat_cut_there(measured):
    scorer, _, of = measured
    for i, trajectory in enumerate(DATA.trajectories):
        turn = scorer.student.renderer.render(trajectory.messages).turns[0]
        cut = scorer.student.renderer.render(trajectory.messages, turn.start + 5)
        again = rsr(scorer.score([cut]))
        assert again.denominator is not None
        assert of.parts[prefix(5)][i] == pytest.approx([again.numerator[0], again.denominator[0]], rel=1e-5)


@pytest.mark.full
def test_parts_make_up_the_whole_and_the_whole_is_the_usual_score(measured):
    scorer, store, of = measured
    assert np.array_equal(of.parts[prefix(4096)], of.parts[ALL])
    before = [
        len(scorer.student.renderer.tokenizer(THOUGHT.format(i=i).removesuffix("</think>\n\n"))["input_ids"])
        for i in range(6)
    ]
    split, whole = np.array(before)[:, None], of.lengths[:, None]
    together = of.parts[BEFORE] * split + of.parts[AFTER] * (whole - split)
    assert together / whole == pytest.approx(of.parts[ALL])
    scores = resampled([of], BootstrapConfig(resamples=200))
    usual = dataset_scores(trajectory_scores(store)).filter(preset="")
    for name, metric in ((ALL, "rsr"), (SURPRISAL, "avg_surprisal")):
        row = usual.row(by_predicate=pl.col("metric") == metric, named=True)
        assert scores[name].value[0] == pytest.approx(row["value"])
        assert scores[name].interval(0) == pytest.approx((row["low"], row["high"]), rel=0.02)


@pytest.mark.full
def test_the_command_on_ones_own_data(folder, run, tmp_path):
    for i, name in enumerate(("one", "two", "three")):
        given = replies(name, 8, text="Perhaps, perhaps not. " * (i + 1))
        write(tmp_path / "data" / name / "gen1.json", [chat(n, r, id=str(n)) for n, r in enumerate(given)])
    paths = [
        f"student={folder}",
        f"teachers={tmp_path / 'data'}",
        f"paths.results={tmp_path}",
        f"paths.outputs={tmp_path}/out",
    ]
    done = run("length.py", *paths, "bootstrap.resamples=100", "mark=boxed", "scoring.dtype=float32")
    assert done.returncode == 0, done.stderr
    (results,) = (tmp_path / "length").iterdir()
    assert len(json.loads((results / "conclusions.json").read_text())) == 4
    parts = pl.read_csv(results / "parts.csv")
    assert {"all", "first 4", BEFORE, AFTER} <= set(parts["part"]) and not parts["value"].has_nulls()
    assert pl.read_csv(results / "bins.csv")["n"].sum() == 3 * 8 and (results / "prefixes.png").exists()


def test_scores_and_accuracies_by_length(tmp_path):
    """RSR that is accuracy turned round orders datasets in every length; it moves with accuracy from first to last."""
    rng = np.random.default_rng(0)
    accuracy = rng.permuted(np.arange(18.0)).reshape(6, 3)
    data = [
        Answers(
            f"t{t}",
            g,
            ["p"],
            np.array([10 + 3 * i + t]),
            {ALL: np.array([[100 - accuracy[t, i], 1]]), SURPRISAL: np.array([[accuracy[t, i], 1]])},
        )
        for t in range(6)
        for i, g in enumerate(("short", "medium", "long"))
    ]
    rows = [(of.teacher, of.generation, accuracy.ravel()[i]) for i, of in enumerate(data)]
    accuracies = pl.DataFrame(rows, schema=["teacher", "generation", "accuracy"], orient="row").sample(
        fraction=1, shuffle=True, seed=1
    )
    conclusions, _, table = trained(data, accuracies, tmp_path, BootstrapConfig(resamples=200))
    assert conclusions[0].effect.value == conclusions[-1].effect.value == pytest.approx(1) and len(table) == 18
    assert conclusions[-3].effect.value == pytest.approx(-conclusions[-2].effect.value)  # RSR falls as accuracy rises


@pytest.mark.parametrize("name", [name for name, of in TEACHERS.items() if not of.alien])
def test_the_same_sums_at_every_length(name):
    """Short answers leave out, long ones add, and neither changes a number of a sum or the answer."""
    renderer, sizes = ChatRenderer(words.tokenizer(words.vocabulary())), []
    for i, problem in enumerate(problems(20, "lengths")):
        told = {
            length: lengths.response(TEACHERS[name], length, problem, taste_of(name, 1), f"{i}")
            for length in lengths.LENGTHS
        }
        sums = {length: _sums(text) for length, text in told.items()}
        assert sums["short"] == sums["medium"] == sums["long"] and sums["long"]
        assert len({tuple(text[-5:]) for text in told.values()}) == 1
        sizes.append([len(text) for text in told.values()])
        messages = [Message("user", problem.text), Message("assistant", " ".join(told["long"]))]
        assert len(renderer.render(messages).ids) < 512
    short, medium, long = np.mean(sizes, axis=0)
    assert short <= medium < long and all(row[0] < row[2] for row in sizes)


def _sums(text):
    """The digits of every line with a sum, from its first operand to its result."""
    found = []
    for line in (line.split() for line in " ".join(text).split(" . ")):
        if "+" in line:
            digits = [word for word in line[line.index("+") - 2 :] if word in words.DIGITS]
            found.append("".join(digits[: 2 * (line.count("+") + 2)]))
    return found


def test_every_answer_follows_from_its_seed_alone():
    problem = problems(1, "x")[0]
    one, again = (lengths.response(TEACHERS["mixed"], "long", problem, taste_of("mixed", 1), "s") for _ in range(2))
    assert (
        one
        == again
        != lengths.response(TEACHERS["mixed"], "long", problem, taste_of("mixed", 1), str(Random(1).random()))
    )
