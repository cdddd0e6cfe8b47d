"""Selection, validation and choices within one teacher as a user runs them, on a student that really is trained."""

import json
import random
import subprocess
import sys

import polars as pl
import pytest

from experiments.app.conclusions import CONCLUSIONS
from experiments.app.shared_configs import ROOT
from experiments.miniature import words
from rsr.data.places import RELEASED
from tests.models import save

pytestmark = pytest.mark.full

SMALL = [
    "evaluation=miniature",
    "evaluation.samples=1",
    "evaluation.max_new_tokens=4",
    "scoring.dtype=float32",
    "run=true",
]
SMALL += ["bootstrap.resamples=100", "paths.outputs=out", "paths.results=res"]
TRAINING = {"learning_rate": 1e-2, "batch_size": 8, "epochs": 1, "max_length": 512, "micro_batch": 8}
SMALL += [f"student.training.{name}={value}" for name, value in TRAINING.items()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three teachers in two generations, a released selection (the last of them alone), a test set, and a student."""
    folder = tmp_path_factory.mktemp("commands")
    rng = random.Random(0)
    for teacher in ("a", "b", "c"):
        (folder / "data" / teacher).mkdir(parents=True)
        for generation in ("gen1", "gen2"):
            chats = [
                {
                    "id": f"p{i}",
                    "messages": [
                        {"role": "user", "content": f"P{i}"},
                        {"role": "assistant", "content": " ".join(rng.choices(words.OBJECTS, k=rng.randint(3, 9)))},
                    ],
                }
                for i in range(8)
            ]
            (folder / "data" / teacher / f"{generation}.json").write_text(json.dumps(chats))
    (folder / "data" / RELEASED).mkdir()
    (folder / "data" / RELEASED / "rsr-min_for_tiny.json").write_text(json.dumps(chats))
    rows = [{"id": str(i), "problem": f"T{i}", "answer": "05"} for i in range(4)]
    (folder / "miniature.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save(folder / "tiny")
    return folder


def run(folder, script, *more):
    given = ["student=./tiny", "teachers=./data", f"evaluation.data={folder}", *SMALL, *more]
    done = subprocess.run(
        [sys.executable, str(ROOT / "experiments" / script), *given],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done, folder / "res" / script.removesuffix(".py") / "tiny-data"


def conclusions(results):
    return {f["question"]: f for f in json.loads((results / CONCLUSIONS).read_text())}


def test_a_study_of_selections_and_what_follows_from_it(folder):
    methods = "selection.methods=[random,rsr,none,llm_judged_quality]"
    own = ["selection.settings=[all]", "selection.seeds=[0,1]", "student.released=*_for_tiny"]
    _, results = run(folder, "trajectory_selection.py", methods, *own)
    results = results.with_name("tiny-data-all")
    table = pl.read_csv(results / "methods.csv")
    assert set(table["method"]) == {"random", "rsr", "none"} and set(table["setting"]) == {"6-to-1"}
    assert dict(table.select("method", "trajectories").rows()) == {"random": 8, "rsr": 8, "none": 48}
    won = pl.read_csv(results / "winners.csv").group_by("method").agg(pl.col("share").sum())
    assert won["share"].to_list() == pytest.approx([100] * 3)
    assert "LLM-judged quality is left out: needs judge.endpoint and judge.model" in (results / "table.md").read_text()
    beside = pl.read_csv(results / "released.csv")
    assert beside["teacher"].to_list() == ["a", "b", "c", "all"] and beside["released"].to_list() == [0, 0, 8, 8]
    selected = dict(pl.read_csv(results / "winners.csv").filter(method="rsr").select("teacher", "share").iter_rows())
    assert dict(beside.select("teacher", pl.col("own") * 100 / 8).iter_rows()) == {
        "a": 0,
        "b": 0,
        **selected,
        "all": 100,
    }
    assert len(conclusions(results)) == 2 and (results / "accuracy.png").stat().st_size > 5000
    performance = pl.read_csv(results / "performance.csv")
    assert performance.filter(teacher="rsr")["seed"].to_list() == [0, 1]

    # Cut to one size, the smallest arm stays what it was, so that it is not trained on again.
    matched = [
        "selection.methods=[random,rsr]",
        "selection.settings=[all]",
        "selection.seeds=[0]",
        "selection.match=tokens",
    ]
    _, results = run(folder, "trajectory_selection.py", *matched)
    results = results.with_name("tiny-data-all-equal_tokens")
    table = pl.read_csv(results / "methods.csv").filter(setting="6-to-1, equal tokens")
    tokens, kept = table["response_tokens"].to_numpy(), table["kept"].to_numpy()
    assert len(table) == 2 and tokens.max() - tokens.min() < 40 and kept.max() == 100 > kept.min()
    assert "6-to-1, equal tokens" in (text := (results / "table.md").read_text()) and "Different: " in text
    assert (
        "6-to-1, equal tokens: is RSR's lead over random selection larger than without equal sizes (6-to-1)?"
        in conclusions(results)
    )

    # The teachers are trained by now, so that their validation is a matter of reading.
    done, results = run(folder, "validation.py")
    assert "train" not in done.stderr
    table = pl.read_csv(results / "teachers.csv")
    assert table["score"].is_sorted() and len(table) == 3  # lower RSR is predicted to be better
    assert len(conclusions(results)) == 1  # it has learned nothing, from nobody
    assert "there is no order to compare" in (results / "table.md").read_text()

    within = ["within.teachers=[b]", "within.shares=[0.5]", "within.seeds=[0]", "within.metrics=[rsr,avg_surprisal]"]
    _, results = run(folder, "within_teacher.py", *within)
    results = results.with_name("tiny-data-rsr-avg_surprisal")
    table = pl.read_csv(results / "arms.csv")
    assert dict(table.group_by("what").agg(pl.col("trajectories").max()).rows()) == {
        "all problems": 8,
        "best of 2": 8,
        "50 % of problems": 4,
    }
    assert table.filter(pl.col("by").is_in(["rsr", "avg_surprisal"]))["less_chance"].null_count() == 0
    assert len(conclusions(results)) == 2 * 3  # each against chance, and the second against the first
    assert "best of 2: is the choice by Mean surprisal better than the choice by RSR?" in conclusions(results)
