"""The whole study as a user runs it, with a student that learns nothing much but really is scored, trained and evaluated."""

import contextlib
import fcntl
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from eval.settings import Evaluation
from experiments.app.shared_configs import ROOT, PathsConfig, StudentConfig, StudyConfig
from experiments.miniature import words
from experiments.study.study import learn
from rsr.data import trajectories
from rsr.store.locks import FOLDER
from tests.models import save
from tests.test_startup import HEAVY, of_import_times
from train.settings import Training

pytestmark = pytest.mark.full

SMALL = ["evaluation=miniature", "evaluation.samples=2", "evaluation.max_new_tokens=40", "scoring.dtype=float32"]
SMALL += ["bootstrap.resamples=200", "run=true", r"teachers.answer='answer : (\d) (\d) \.'"]
TRAINING: dict[str, Any] = dict(learning_rate=1e-2, batch_size=8, epochs=8, max_length=512, micro_batch=8)
SMALL += [f"student.training.{name}={value}" for name, value in TRAINING.items()]
GRPO = [
    f"reinforcement.{name}={value}"
    for name, value in dict(steps=1, prompts=2, samples=2, max_new_tokens=16, micro_batch=4).items()
]
# Each teacher has one answer to everything, which its student learns; the test set agrees with them to different degrees.
ANSWERS = {"often": "0 5", "sometimes": "1 7", "rarely": "9 9"}
GOLD = ["05"] * 7 + ["17"] * 4 + ["99"]


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "pupil"
    torch.manual_seed(0)
    shape: dict[str, Any] = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
    size = len(words.vocabulary())
    model = LlamaForCausalLM(LlamaConfig(vocab_size=size, max_position_embeddings=512, initializer_range=0.2, **shape))
    model.save_pretrained(folder)
    words.tokenizer(words.vocabulary()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three teachers on 32 problems, and a test set."""
    folder = tmp_path_factory.mktemp("data")
    rng = random.Random(0)
    problems = [" ".join(rng.sample(words.OBJECTS, 3)) for _ in range(32)]
    for name, answer in ANSWERS.items():
        (folder / "teachers" / name).mkdir(parents=True)
        chats = []
        for i, problem in enumerate(problems):
            response = f"{rng.choice(words.CONNECTIVES)} {answer} . answer : {answer} ."
            chat = [{"role": "user", "content": problem}, {"role": "assistant", "content": response}]
            chats.append({"id": str(i), "answer": rng.choice(GOLD), "messages": chat})
        (folder / "teachers" / name / "gen1.json").write_text(json.dumps(chats))
    rows = [{"id": str(i), "problem": words.OBJECTS[i], "answer": gold} for i, gold in enumerate(GOLD)]
    (folder / "miniature.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def command(student, folder, *more, script="correlation.py"):
    source = student.parent.parent / "data0"
    settings = {
        "correlation.py": [*SMALL, f"evaluation.data={source}", f"paths.results={folder}/res"],
        "beyond_sft.py": [*SMALL, *GRPO, f"evaluation.data={source}", f"paths.results={folder}/res"],
        "evaluate.py": [*(of for of in SMALL if of != "run=true"), f"evaluation.data={source}"],
        "train.py": [of for of in SMALL if of != "run=true" and not of.startswith("evaluation")],
    }[script]
    arguments = [f"student={student}", f"teachers={source}/teachers", *settings, f"paths.outputs={folder}/out"]
    return [sys.executable, str(ROOT / "experiments" / script), *arguments, *more]


def study(student, folder, *more, script="correlation.py", **environment):
    return subprocess.run(
        command(student, folder, *more, script=script),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | environment,
    )


def tables(folder, results="res", name="pupil-teachers"):
    results = folder / results / "correlation" / name
    return [pl.read_csv(results / name) for name in ("table.csv", "performance.csv", "scores.csv")]


def same(one, other):
    return all(a.equals(b) for a, b in zip(one, other, strict=True))


def states(folder, name="pupil-teachers"):
    runs = pl.read_csv(folder / "res" / "correlation" / name / "runs.csv")
    return {(row["stage"], row["teacher"]): row["state"] for row in runs.iter_rows(named=True)}


def artefacts(folder, *stages):
    """Manifests of what is complete, and their times; a running study may rename a folder at any moment."""
    found = [path for stage in stages for path in (folder / "out" / stage).glob("*") if path.suffix != ".partial"]
    return {
        str(path.relative_to(folder) / "manifest.json"): (path / "manifest.json").stat().st_mtime_ns for path in found
    }


STAGES = ("tokens", "scores", "trained", "samples", "grades", "verified")


@pytest.fixture(scope="module")
def unbroken(student, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    done = study(student, folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_every_stage_runs_and_every_table_is_there(unbroken):
    folder, done = unbroken
    correlations, performance, scores = tables(folder)
    assert set(performance["teacher"]) == {"base", "often", "sometimes", "rarely"}
    assert performance["k"].unique().to_list() == [2] and performance["problems"].unique().to_list() == [12]
    assert {"rsr", "avg_surprisal", "verified_accuracy"} <= set(scores["metric"])
    assert set(correlations["coefficient"]) == {"spearman", "pearson", "kendall"}
    accuracy = dict(performance.select("teacher", "accuracy").iter_rows())
    assert accuracy["base"] == 0 and accuracy["often"] > accuracy["sometimes"] > accuracy["rarely"] > 0, accuracy
    assert set(states(folder).values()) == {"done"} and len(states(folder)) == 1 + 1 + 3 * 2
    assert "evaluate rarely/gen1 done" in done.stderr and "(8 of 8)" in done.stderr
    results = folder / "res" / "correlation" / "pupil-teachers"
    assert (results / "scatter.png").stat().st_size > 10_000 and (results / "coefficients.png").exists()
    assert json.loads((results / "run.json").read_text())["source"] == "measured"


def test_a_rerun_only_prints(student, unbroken):
    folder, _ = unbroken
    before, table = artefacts(folder, *STAGES), folder / "res" / "correlation" / "pupil-teachers" / "table.md"
    said = table.read_text()
    again = study(student, folder, PYTHONPROFILEIMPORTTIME="1")
    assert again.returncode == 0
    assert all(line.startswith("import time:") for line in again.stderr.splitlines())  # nothing was done
    assert not of_import_times(again.stderr) & (HEAVY - {"scipy", "matplotlib"})
    assert artefacts(folder, *STAGES) == before
    assert table.read_text().split("## Time")[0] == said.split("## Time")[0]


def test_what_is_deleted_is_made_again_alone(student, unbroken, tmp_path):
    folder, _ = unbroken
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    before = artefacts(tmp_path, *STAGES)
    gone = [
        next((tmp_path / "out" / stage).glob(f"*{of}*")) for stage, of in (("grades", "rarely"), ("tokens", "often"))
    ]
    gone += [next((tmp_path / "out" / stage).glob("*sometimes*")) for stage in ("samples", "grades")]
    for path in gone:
        shutil.rmtree(path)
    assert study(student, tmp_path).returncode == 0
    after = artefacts(tmp_path, *STAGES)
    assert set(after) == set(before)
    changed = {path for path in after if after[path] != before[path]}
    assert changed == {f"out/{path.parent.name}/{path.name}/manifest.json" for path in gone}
    assert same(tables(tmp_path), tables(folder))
    # Weights that nobody asks for are not trained again, not even to grade anew.
    for stage in ("trained", "grades"):
        shutil.rmtree(next((tmp_path / "out" / stage).glob("*rarely*")))
    assert study(student, tmp_path).returncode == 0
    assert states(tmp_path)["train", "rarely"] == "not needed"
    assert not list((tmp_path / "out").rglob("*.partial"))
    assert same(tables(tmp_path), tables(folder))


def test_each_stage_is_a_command_of_its_own(student, unbroken, tmp_path):
    folder, _ = unbroken
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    before = artefacts(tmp_path, *STAGES)
    trained = study(student, tmp_path, script="train.py")
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.count(" steps, loss ") == 3 and "often/gen1: 32 trajectories, 32 steps" in trained.stdout
    evaluated = study(student, tmp_path, script="evaluate.py")
    assert evaluated.returncode == 0, evaluated.stderr
    # None of 12 problems: Clopper and Pearson's upper limit is 1 - 0.025^(1/12).
    assert "base, miniature: 0.0% [0.0%, 26.5%] Acc@2 over 12 problems" in evaluated.stdout
    assert evaluated.stdout.count("Acc@2") == 4
    assert artefacts(tmp_path, *STAGES) == before
    for stage in ("trained", "samples", "grades"):
        shutil.rmtree(next((tmp_path / "out" / stage).glob("*rarely*")))
    untrained = study(student, tmp_path, script="evaluate.py")
    assert untrained.returncode == 1 and untrained.stdout.count("Acc@2") == 3
    assert untrained.stderr.startswith("error: not trained yet: rarely/gen1; experiments/train.py")
    # Two seeds of training in one sweep are two trained students.
    assert study(student, tmp_path, "student.training.seed=0,1", "-m", script="train.py").returncode == 0
    assert len(list((tmp_path / "out" / "trained").glob("*/manifest.json"))) == 6


def test_another_setting_makes_new_artefacts_and_leaves_the_old(student, unbroken, tmp_path):
    folder, _ = unbroken
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    before = artefacts(tmp_path, *STAGES)
    assert study(student, tmp_path, "evaluation.temperature=0.9").returncode == 0
    after = artefacts(tmp_path, *STAGES)
    assert before.items() <= after.items()
    assert {path.split("/")[1] for path in after.keys() - before.keys()} == {"samples", "grades"}


def test_a_selected_dataset_is_a_dataset_like_any_other(student, unbroken, tmp_path):
    folder, _ = unbroken
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    done = study(student, tmp_path, "teachers.selections=[random]")
    assert done.returncode == 0, done.stderr
    correlations, performance, _ = tables(tmp_path)
    assert performance.filter(teacher="random", generation="selected").height == 1
    assert correlations["n"].unique().to_list() == [3]  # no teacher


def test_a_failed_cell_leaves_its_error_and_the_others_go_on(student, data, unbroken, tmp_path):
    folder, _ = unbroken
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "res")  # which is of other teachers of the same name
    shutil.copytree(data / "teachers", tmp_path / "teachers")
    (tmp_path / "teachers" / "endless").mkdir()
    chats = json.loads((data / "teachers" / "often" / "gen1.json").read_text())
    chats[5]["messages"][1]["content"] = " ".join(["0"] * 505)
    (tmp_path / "teachers" / "endless" / "gen1.json").write_text(json.dumps(chats))
    done = study(student, tmp_path, f"teachers={tmp_path / 'teachers'}", "student.training.max_length=500")
    assert done.returncode == 1, done.stdout
    assert (
        "error: 1 of 10 cells failed, the same command tries them again: train endless/gen1: endless/gen1"
        in done.stderr
    )
    found = states(tmp_path)
    assert found.pop(("train", "endless")) == "failed" and found.pop(("evaluate", "endless")) == "missing"
    assert set(found.values()) == {"done"}
    error = (tmp_path / "out" / "runs" / "pupil" / "train-endless-gen1.error").read_text()
    assert "trajectory 5: 511 tokens are more than max_length=500" in error
    correlations, _, _ = tables(tmp_path)
    assert correlations["n"].unique().to_list() == [3]
    assert "since a cell of theirs failed: endless" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("base", "often", "a teacher cannot be called 'base'"),
        ("twin", "often", "often/gen1 and twin/gen1 hold the same trajectories"),
    ],
)
def test_teachers_that_would_be_mistaken_for_others_are_refused(student, data, tmp_path, name, content, message):
    shutil.copytree(data / "teachers", tmp_path / "teachers")
    shutil.copytree(data / "teachers" / content, tmp_path / "teachers" / name)
    done = study(student, tmp_path, f"teachers={tmp_path}/teachers")
    assert done.returncode == 1 and message in done.stderr
    assert not list((tmp_path / "out").glob("trained/*/manifest.json"))


def test_where_no_student_can_be_evaluated_every_error_is_told(student, data, tmp_path):
    done = study(student, tmp_path, "evaluation.temperature=0.0001")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: 4 of 8 cells failed" in done.stderr and "are copies of one another" in done.stderr
    assert (tmp_path / "res" / "correlation" / "pupil-teachers" / "runs.csv").exists()


def test_two_teachers_and_unknown_answers_are_no_reason_to_lose_the_tables(student, unbroken, data, tmp_path):
    folder, _ = unbroken
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (shorter := tmp_path / "two").mkdir()
    for name in ("often", "rarely"):
        shutil.copytree(data / "teachers" / name, shorter / name)
    done = study(student, tmp_path, f"teachers={shorter}")
    assert done.returncode == 0 and "Fewer than three teachers" in done.stdout, done.stderr
    shutil.copytree(data / "teachers", tmp_path / "unknown")
    path = tmp_path / "unknown" / "often" / "gen1.json"
    chats = json.loads(path.read_text())
    path.write_text(json.dumps([{k: v for k, v in chat.items() if k != "answer"} for chat in chats]))
    done = study(student, tmp_path, f"teachers={tmp_path}/unknown")
    assert done.returncode == 0, done.stderr
    said = (tmp_path / "res" / "correlation" / "pupil-unknown" / "table.md").read_text()
    (line,) = (line for line in said.splitlines() if line.startswith("Not measured of every teacher, and left out"))
    assert "Verified accuracy" in line and ", RSR" not in line


def test_a_study_can_stop_at_the_first_failure(student, data, tmp_path):
    stopping = ("study.on_error=stop", "study.processes=1", "student.training.max_length=5")
    done = study(student, tmp_path, *stopping)
    assert done.returncode == 1
    found = states(tmp_path)
    assert sum(state == "failed" for state in found.values()) == 1 and "missing" in found.values()
    assert "running" not in found.values()


def test_a_costly_study_shows_its_plan_and_waits(student, data, tmp_path):
    done = study(student, tmp_path, "run=false", "plan.hours=0")
    assert done.returncode == 1
    assert re.fullmatch(r"error: nothing has been run: .* add run=true to go ahead with this plan\n", done.stderr)
    nothing = "score 0 of 1 done, evaluate 0 of 4 done, train 0 of 3 done"
    for said in (
        "datasets    3 from 3 teachers",
        nothing,
        "-hours",
        "disk",
        "An estimate, nothing of it is measured",
    ):
        assert said in done.stdout
    assert not (tmp_path / "out" / "trained").exists()


def test_a_study_out_of_reach_of_the_hub_is_one_line(run, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = run("correlation.py", "student=qwen3b", "source=measured", "run=true", "paths.outputs=out")
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert re.match(r"error: hub:Umean/RSR_data@\w+: cannot be downloaded", last)
    assert last.endswith("a local copy can be given as a folder")


def test_tracking_offline_writes_runs_of_its_own(student, unbroken, tmp_path):
    folder, _ = unbroken
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    for stage in ("trained", "samples", "grades"):
        shutil.rmtree(next((tmp_path / "out" / stage).glob("*rarely*")))
    done = study(student, tmp_path, "tracking.wandb=offline")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out" / "wandb").glob("offline-run-*"))) == 2  # one training, one of tables
    assert same(tables(tmp_path), tables(folder))


def test_learners_have_seeds_and_twins_are_trained_once(student, data, tmp_path):
    config = StudyConfig(
        student=StudentConfig(name="pupil", model=str(student), training=Training(**TRAINING | dict(epochs=1))),
        evaluation=Evaluation(benchmarks=["miniature"], data=str(data), samples=2, max_new_tokens=10),
        paths=PathsConfig(outputs=tmp_path),
    )
    often = trajectories.read(data / "teachers" / "often" / "gen1.json", "often", "gen1")
    learned = learn(config, [often, replace(often, teacher="again")], [0, 1])
    assert len(list((tmp_path / "trained").glob("*/manifest.json"))) == 2
    found = learned.performance()
    names = list(found.select("teacher", "seed").iter_rows())
    assert names == [("base", None), ("often", 0), ("often", 1), ("again", 0), ("again", 1)]
    answers = learned.answers()
    assert len(answers) == 5 * len(GOLD)
    means = answers.group_by("teacher", "seed", maintain_order=True).agg(pl.col("correct").mean() * 100)
    assert means["correct"].to_list() == pytest.approx(found["accuracy"].to_list())
    assert found["accuracy"].to_list()[1:3] == found["accuracy"].to_list()[3:]


def wait_for_end_of_session(leader):
    """A study that is killed leaves no process behind, once those that were importing are through with it."""
    deadline = time.monotonic() + 60
    while subprocess.run(["pgrep", "-s", str(leader)], capture_output=True).returncode == 0:
        assert time.monotonic() < deadline, "the killed study has left processes behind"
        time.sleep(0.1)


def kill_at_moments(student, unbroken, tmp_path, moments):
    """Kill the study when so many artefacts are complete, and a random moment later; run it again."""
    folder, _ = unbroken
    total = len(artefacts(folder, *STAGES))
    rng = random.Random(0)
    hit = []
    for i, wanted in enumerate(moments):
        target = tmp_path / str(i)
        target.mkdir()
        process = subprocess.Popen(
            command(student, target),
            cwd=target,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while process.poll() is None and len(artefacts(target, *STAGES)) < wanted * total:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_for_end_of_session(process.pid)
        hit.append(len(artefacts(target, *STAGES)))
        again = study(student, target)
        assert again.returncode == 0, again.stderr
        assert same(tables(target), tables(folder))
        assert not list((target / "out").rglob("*.partial"))
        shutil.rmtree(target)
    return hit, total


def test_killed_it_goes_on_to_the_same_tables(student, unbroken, tmp_path):
    hit, total = kill_at_moments(student, unbroken, tmp_path, [0.1, 0.6])
    assert all(0 < n < total for n in hit)


@pytest.mark.slow
def test_killed_at_many_moments_it_goes_on_to_the_same_tables(student, unbroken, tmp_path):
    hit, total = kill_at_moments(student, unbroken, tmp_path, [i / 12 for i in range(12)])
    assert sum(0 < n < total for n in hit) >= 8


def test_a_second_driver_says_who_is_at_work_and_finds_what_was_made(student, unbroken, tmp_path):
    folder, _ = unbroken
    shutil.copytree(folder / "out", tmp_path / "out")
    for stage in ("trained", "samples", "grades"):
        shutil.rmtree(next((tmp_path / "out" / stage).glob("*rarely*")))
    pipes: dict[str, Any] = dict(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    first = subprocess.Popen(command(student, tmp_path), cwd=tmp_path, **pipes)
    while not holder(tmp_path / "out" / FOLDER / "study-pupil"):
        assert first.poll() is None
        time.sleep(0.02)
    second = study(student, tmp_path)
    _, said = first.communicate(timeout=300)
    assert first.returncode == second.returncode == 0, said + second.stderr
    assert second.stderr.startswith(f"waiting for the study of pupil: process {first.pid} on ")
    assert "train rarely/gen1 done" in said
    assert same(tables(tmp_path), tables(folder))


@pytest.mark.slow  # minutes: every cell of Ray's is a process that imports everything
def test_a_study_loses_a_node_in_scoring_and_one_in_training_and_ends_with_the_same_tables(
    student, data, tmp_path, monkeypatch
):
    """A head without cores and two nodes of one; another node comes for each that is lost."""
    pytest.importorskip("ray", reason='Ray is not installed: pip install "rsr[ray]"')
    from ray.cluster_utils import Cluster

    # Long answers take scoring a while. They are left out of training.
    longer = (
        f"teachers={with_long_answers(data / 'teachers', tmp_path / 'teachers')}",
        "student.training.overlong=drop",
    )
    settings = (
        *longer,
        "student.training.max_length=64",
        "student.training.epochs=2",
        "evaluation.samples=1",
        "metric=rsr",
    )
    for name in ("local", "ray"):
        (tmp_path / name).mkdir()
    began = time.monotonic()
    local = study(student, tmp_path / "local", *settings)
    seconds = {"local": time.monotonic() - began}
    assert local.returncode == 0, local.stderr
    monkeypatch.setenv("RAY_worker_niceness", "0")  # Ray's 15 would wait for whatever else runs here
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        on_ray = ("study.executor=ray", f"study.address={cluster.address}")
        began = time.monotonic()
        lost, said = lose_nodes(
            cluster, nodes, command(student, tmp_path / "ray", *settings, *on_ray), tmp_path / "ray"
        )
        seconds["ray"] = time.monotonic() - began
    finally:
        cluster.shutdown()
    assert lost == {"score", "train"}, said
    print(f"seconds: {seconds}")
    one, other = (tables(tmp_path / where, name="pupil-teachers-rsr") for where in ("ray", "local"))
    assert same(one, other)
    assert set(states(tmp_path / "ray", "pupil-teachers-rsr").values()) == {"done"}
    assert not list((tmp_path / "ray" / "out").rglob("*.partial"))


def with_long_answers(teachers, folder, number=400):
    """The same teachers, with answers of some 450 tokens besides."""
    shutil.copytree(teachers, folder)
    for name, answer in ANSWERS.items():
        rng, path = random.Random(name), folder / name / "gen1.json"
        chats = json.loads(path.read_text())
        for i in range(number):
            long = f"{' '.join(rng.choices(words.OBJECTS, k=440))} . answer : {answer} ."
            asked = [
                {"role": "user", "content": " ".join(rng.sample(words.OBJECTS, 4))},
                {"role": "assistant", "content": long},
            ]
            chats.append({"id": f"long{i}", "answer": rng.choice(GOLD), "messages": asked})
        path.write_text(json.dumps(chats))
    return folder


def lose_nodes(cluster, nodes, command, folder):
    """Run a study to its end; end the node that is in the middle of scoring, and the one that is in the middle of training, once.

    Returns:
        The stages in the middle of which a node was lost, and what the study said.
    """
    lost = set()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None:
        for stage, at_work in (("score", at_scoring), ("train", at_training)):
            raylets = ancestors(at_work(folder / "out"))
            for node in [] if stage in lost else list(nodes):
                if node.all_processes["raylet"][0].process.pid in raylets:
                    cluster.remove_node(node, allow_graceful=False)
                    nodes.remove(node)
                    nodes.append(cluster.add_node(num_cpus=1))
                    lost.add(stage)
        time.sleep(0.02)
    _, said = process.communicate()
    assert process.returncode == 0, said
    return lost, said


def holder(lock):
    """The process that holds a lock, which stands in its file; 0 where none does."""
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return int((lock.read_text().split() or [0, 0])[1])
    except OSError:  # not there yet
        pass
    return 0


def at_training(outputs):
    """A process that trains and has left a checkpoint, or 0."""
    begun = [
        path.parents[1].name.removesuffix(".partial")[-8:] for path in outputs.glob("trained/*.partial/checkpoints/*")
    ]
    return next((pid for key in begun for lock in (outputs / FOLDER).glob(f"{key}*") if (pid := holder(lock))), 0)


def at_scoring(outputs):
    """A process that scores, where some shards are there and others are not, or 0."""
    if not list(outputs.glob("tokens/*.partial/shard-*.parquet")):
        return 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            if path.read_bytes().startswith(b"ray::_Scorer.score"):
                return int(path.parent.name)
    return 0


def ancestors(process):
    """The processes that one was started by, nearest first."""
    found = []
    with contextlib.suppress(OSError):  # it has ended
        while process > 1:
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
            found.append(process)
    return found


def test_reinforcement_is_a_stage_that_a_rerun_finds(student, data, tmp_path):
    first = study(student, tmp_path, script="beyond_sft.py")
    assert first.returncode == 0, first.stderr
    made = artefacts(tmp_path, "reinforced", "grades")
    assert sum(name.startswith("out/reinforced/") for name in made) == 1 + len(ANSWERS)
    table = pl.read_csv(tmp_path / "res" / "beyond_sft" / "pupil-teachers" / "accuracies.csv")
    assert table["after"].null_count() == 0
    again = study(student, tmp_path, script="beyond_sft.py")
    assert again.returncode == 0, again.stderr
    assert artefacts(tmp_path, "reinforced", "grades") == made


def own(script, *options, folder):
    command = [sys.executable, str(ROOT / "experiments" / script), *options, f"paths.outputs={folder}/out"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_own_data_of_a_paper_student_is_measured_and_so_planned_first(data, tmp_path):
    options = [
        "student=qwen3b",
        f"student.model={save(tmp_path / 'model')}",
        f"teachers={data}/teachers",
        "evaluation=miniature",
        "plan.hours=0",
    ]
    result = own("correlation.py", *options, f"evaluation.data={data}", folder=tmp_path)
    assert result.returncode == 1 and "add run=true" in result.stderr, result.stderr
    assert "3 from 3 teachers" in result.stdout


def test_a_student_is_evaluated_alone(student, data, tmp_path):
    options = [f"student={student}", "teachers=none", "evaluation=miniature", f"evaluation.data={data}"]
    options += ["evaluation.samples=1", "evaluation.max_new_tokens=8", "scoring.dtype=float32"]
    result = own("evaluate.py", *options, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["base, miniature"]
