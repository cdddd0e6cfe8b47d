"""experiments/score.py and sanity.py as a user runs them, with a tiny real model."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import Any

import polars as pl
import pytest

from experiments.app.shared_configs import ROOT
from rsr.student.device import weights_dtype
from tests.models import save

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "tiny-qwen")


def write_teacher(folder, teacher, n, *, generation="gen1", reply="1 + 2 = 3. "):
    rng = random.Random(teacher)
    records = [
        {
            "messages": [
                {"role": "system", "content": "Think."},
                {"role": "user", "content": f"Problem {i}"},
                {"role": "assistant", "content": reply * rng.randint(1, 12) + "\\boxed{42}"},
            ]
        }
        for i in range(n)
    ]
    (folder / teacher).mkdir(parents=True, exist_ok=True)
    (folder / teacher / f"{generation}.json").write_text(json.dumps(records))


@pytest.fixture
def data(tmp_path):
    write_teacher(tmp_path / "data", "qwq", 6)
    write_teacher(tmp_path / "data", "gpt-4o", 6, reply="Perhaps, perhaps. ")
    return tmp_path / "data"


def tables(outputs):
    (folder,) = (outputs / "scores").iterdir()
    return pl.read_parquet(folder / "trajectories.parquet"), pl.read_parquet(folder / "datasets.parquet")


def shards(outputs):
    return {p.relative_to(outputs): p.read_bytes() for p in sorted(outputs.rglob("shard-*.parquet"))}


def test_scores_and_tables(run, tmp_path, model, data):
    arguments = [f"student={model}", f"teachers={data}", "paths.outputs=out", "scoring.expectations=true"]
    result = run("score.py", *arguments)
    assert result.returncode == 0, result.stderr
    assert f"tiny-qwen, {weights_dtype('auto')}, max_length 2048" in result.stdout
    trajectories, datasets = tables(tmp_path / "out")
    assert set(datasets["teacher"]) == {"qwq", "gpt-4o"}
    assert set(datasets["student"]) == {"tiny-qwen"}
    assert (datasets["n"] == 6).all()
    own = trajectories.filter(metric="rsr", preset="", teacher="qwq")
    expected = own["numerator"].sum() / own["denominator"].sum()
    assert datasets.filter(metric="rsr", preset="", teacher="qwq")["value"][0] == pytest.approx(expected)

    before = shards(tmp_path / "out")
    again = run("score.py", *arguments)
    assert (again.returncode, again.stdout) == (0, result.stdout)
    assert shards(tmp_path / "out") == before


def test_different_problems_are_said_aloud(run, tmp_path, model):
    write_teacher(tmp_path / "data", "a", 4)
    write_teacher(tmp_path / "data", "b", 6)
    result = run("score.py", f"student={model}", f"teachers={tmp_path / 'data'}", "paths.outputs=out")
    assert result.returncode == 0, result.stderr
    assert "the datasets hold different problems, 4 of 6 are in all" in result.stdout


def test_a_sweep_over_dtypes_makes_stores_of_their_own(run, tmp_path, model, data):
    sweep = [f"student={model}", f"teachers={data / 'qwq'}", "scoring.dtype=float32,bfloat16", "paths.outputs=out"]
    result = run("score.py", "-m", *sweep)
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "out" / "tokens").iterdir())) == 2
    assert len(list((tmp_path / "out" / "scores").iterdir())) == 2


def test_two_processes_give_the_shards_of_one(tmp_path, model):
    write_teacher(tmp_path / "data", "qwq", 300, reply="1 + 2 = 3. " * 15)
    arguments = [f"student={model}", f"teachers={tmp_path / 'data'}", "scoring.device=cpu", "scoring.dtype=float32"]
    score = [str(ROOT / "experiments" / "score.py"), *arguments]
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    quiet: dict[str, Any] = dict(
        check=True, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    subprocess.run([sys.executable, *score, f"paths.outputs={tmp_path / 'one'}"], **quiet)
    subprocess.run([*launch, *score, f"paths.outputs={tmp_path / 'two'}"], **quiet)
    assert len(shards(tmp_path / "one")) > 2
    assert shards(tmp_path / "one") == shards(tmp_path / "two")


def finished_shards(outputs):
    try:
        return sum(1 for _ in outputs.rglob("shard-*.parquet"))
    except FileNotFoundError:  # a folder was just given its final name
        return 0


def test_killed_at_any_moment_it_goes_on_to_the_same_content(tmp_path, model):
    for teacher in ("qwq", "gpt-4o"):
        write_teacher(tmp_path / "data", teacher, 300, reply="1 + 2 = 3. " * 15)

    def start(outputs):
        command = [sys.executable, str(ROOT / "experiments" / "score.py"), f"student={model}", "scoring.dtype=float32"]
        return subprocess.Popen(
            [*command, f"teachers={tmp_path / 'data'}", f"paths.outputs={outputs}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    assert start(tmp_path / "unbroken").wait() == 0
    unbroken, unbroken_tables = shards(tmp_path / "unbroken"), tables(tmp_path / "unbroken")
    rng, found = random.Random(0), []
    for moment in range(10):
        # A moment is a number of finished shards and a fraction of a second more: clocks differ, the order of work does not.
        outputs, wanted = tmp_path / f"killed-{moment}", moment * len(unbroken) // 10
        process = start(outputs)
        while process.poll() is None and finished_shards(outputs) < wanted:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.1 if wanted else 4))
        process.send_signal(signal.SIGKILL)
        process.wait()
        found.append(len(shards(outputs)))
        assert start(outputs).wait() == 0
        assert shards(outputs) == unbroken
        for one, other in zip(tables(outputs), unbroken_tables, strict=True):
            assert one.equals(other)
        assert not list(outputs.rglob("*.partial"))
    assert sum(0 < n < len(unbroken) for n in found) >= 5, f"too few kills fell into the scoring: {found}"


def test_sanity_of_a_students_own_family(run, tmp_path, model, data):
    result = run("sanity.py", f"student={model}", f"teachers={data}", "paths.outputs=out", "paths.results=res")
    assert result.returncode == 0, result.stderr
    table = pl.read_csv(tmp_path / "res" / "sanity" / "tiny-qwen-data" / "table.csv")
    assert set(table["family"]) == {"qwen"}
    assert set(table["same_n"]) == {1} == set(table["other_n"])
    assert "surprised by its own family" in result.stdout
    write_teacher(tmp_path / "others" / "data", "qwq", 6)
    other = run(
        "sanity.py", f"student={model}", "teachers=others/data", "paths.outputs=out", "paths.results=res"
    )  # of the same name
    assert other.returncode == 1
    assert f"holds results of teachers.data={data}, these are of others/data: remove it" in other.stderr


def test_a_model_of_ones_own_is_never_taken_for_the_papers(run, tmp_path, data):
    model = save(tmp_path / "models" / "qwen3b")
    result = run("sanity.py", f"student={model}", f"teachers={data}", "paths.outputs=out", "paths.results=res")
    assert result.returncode == 0, result.stderr
    table = pl.read_csv(tmp_path / "res" / "sanity" / "qwen3b-data" / "table.csv")
    assert table["same_n"].to_list() == [1, 1, 1]  # the paper's would be 5


def test_paths_that_read_alike_stay_apart():
    from experiments.app.entry import _open

    first, second = _open("teachers=./x_1,./x-1").removeprefix("teachers=").split(",")
    assert first != second


def test_sanity_of_the_published_students(run, tmp_path):
    result = run("sanity.py", "student=all", "paths.results=res")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("is less surprised by its own family") == 5


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["student=./nowhere", "teachers={data}"], 1, "./nowhere: no such model folder"),
        (["student={data}", "teachers={data}"], 1, "no model folder, config.json is missing"),
        (["student={model}", "teachers=./nowhere"], 1, "nowhere: no such file or folder"),
        (["student={model}", "teachers={broken}"], 1, "gen1.json, line 1: no assistant message"),
        (["student=all", "teachers={data}"], 1, "student 'all' has no model"),
        (
            ["student={model}", "teachers={data}", "scoring.dtype=float32", "scoring.max_length=9999"],
            1,
            "beyond the 2048 positions",
        ),
        (["student={model}", "teachers={data}", "student.template=qwen"], 1, "no chat template 'qwen'"),
        (["student={model}", "teachers={data}", "scoring.dtype=int8"], 2, "int8"),
        (["student={model}", "teachers={data}", "scoring.colour=red"], 2, "Could not override 'scoring.colour'"),
        (["student={model}", "teachers={data}", "scoring.limit=0"], 1, "limit=0 is too small"),
        (["student={model}", "teachers={data}", "scoring.token_budget=0"], 1, "token_budget=0 is too small"),
        (["student={model}", "teachers={data}", "scoring.backend=vllm"], 1, "install the extra vllm"),
        (["teachers={data}"], 2, "student"),
    ],
)
def test_bad_input_gets_one_line(run, tmp_path, model, data, arguments, status, message):
    (tmp_path / "broken" / "t").mkdir(parents=True)
    (tmp_path / "broken" / "t" / "gen1.json").write_text('[{"messages": [{"role": "user", "content": "?"}]}]')
    filled = [a.format(data=data, model=model, broken=tmp_path / "broken") for a in arguments]
    result = run("score.py", *filled, "paths.outputs=out")
    assert result.returncode == status
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    assert message in result.stderr


def test_several_teachers_in_one_file_with_named_fields(run, tmp_path, model):
    rows = [
        {"model": teacher, "question": f"Problem {i}", "reply": f"{teacher} says {i}"}
        for teacher in ("one", "two")
        for i in range(3)
    ]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "all.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "data" / "more.csv").write_text("x")
    named = [f"+teachers.fields.{ours}" for ours in ("teacher=model", "problem=question", "solution=reply")]
    result = run("score.py", f"student={model}", f"teachers={tmp_path / 'data'}", *named, "paths.outputs=out")
    assert result.returncode == 0, result.stderr
    _, datasets = tables(tmp_path / "out")
    assert set(datasets["teacher"]) == {"one", "two"}
    assert (datasets.filter(~pl.col("metric").is_in(["calibrated_rsr", "avg_rank_indicator"]))["n"] == 3).all()
    assert "one: not read: more.csv beside it" in result.stdout
