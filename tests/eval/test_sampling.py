"""The ways to sample: the same prompts and the same greedy answers, whatever generates them and whatever a server suffers."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from eval import model as models
from eval import samples, ways
from eval.batches import Batches
from eval.continuous import Continuous
from eval.endpoint import Endpoint
from eval.sampling import Completion, Request, seed
from eval.server import RESTARTS, Server
from eval.settings import Evaluation, Way
from rsr.errors import InputError
from rsr.student import student as students
from rsr.student.settings import Loading
from tests.models import save

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.full
GREEDY = Evaluation(samples=1, temperature=0.0, max_new_tokens=12, batch_size=3, concurrency=4)
SERVED = replace(GREEDY, engine="small-1.0", server="{model} {port}", attempts=6, timeout=1.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def student(folder):
    return students.load(folder, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def chat(student):
    """With a second token that ends a turn, which its random weights often write."""
    plain = models.of_student(student)
    return replace(plain, end_tokens=(*plain.end_tokens, 94))


@pytest.fixture(scope="module")
def requests(chat):
    """Prompts and rooms of mixed length."""
    prompts = [
        chat.ids("<|im_start|>user\n" + "1 + " * i + "1 = ?<|im_end|>\n<|im_start|>assistant\n") for i in range(9)
    ]
    return [Request(prompt, 3 + 5 * (i % 4), (0, "sums", f"p{i}", 0)) for i, prompt in enumerate(prompts)]


@pytest.fixture(scope="module")
def greedy(student, chat, requests):
    return of(Batches(student, chat.end_tokens, GREEDY), requests)


def of(sampler, requests) -> list[Completion]:
    found = dict(sampler.answers(requests))
    assert sorted(found) == list(range(len(requests)))
    return [found[i] for i in range(len(requests))]


@pytest.fixture(scope="module")
def started(folder, tmp_path_factory):
    """A server that runs, with a file for the faults it is to suffer and a log of what it has answered."""
    place = tmp_path_factory.mktemp("server")
    script = str(ROOT / "tests" / "completions_server.py")
    options = ["--faults", str(place / "faults"), "--log", str(place / "log"), "--name", "tiny"]
    command = shlex.join([sys.executable, script, "{model}", "--port", "{port}", *options])
    (place / "faults").touch()
    with Server(command, str(folder), None, place / "server.log") as server:
        yield server


@pytest.fixture
def serve(started):
    def suffering(*faults) -> Server:
        (started.log.parent / "faults").write_text("".join(f"{fault}\n" for fault in faults))
        (started.log.parent / "log").write_text("")
        return started

    return suffering


def answered(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


# --- the same work -------------------------------------------------------------------------------------------------


def test_continuous_batching_gives_the_greedy_answers_and_the_samples_of_fixed_batches(student, chat, requests, greedy):
    assert {completion.finish_reason for completion in greedy} == {"stop", "length"}
    assert of(Continuous(student, chat.end_tokens, GREEDY), requests) == greedy
    warm = replace(GREEDY, temperature=1.0, top_p=0.9)
    drawn = of(Batches(student, chat.end_tokens, warm), requests)
    assert drawn != greedy
    for concurrency in (1, 4):
        found = of(Continuous(student, chat.end_tokens, replace(warm, concurrency=concurrency)), requests)
        assert found == drawn


def test_a_server_with_every_fault_gives_the_greedy_answers(serve, folder, chat, requests, greedy, tmp_path):
    """Too busy, broken, too slow, half-closed, reset, stopped in the middle and restarted: nothing is lost or made up."""
    server = serve("429", "500", "slow", "half", "reset", "abort", "exit", "500")
    loading = Loading(dtype="float32", device="cpu")
    served = models.of_files(folder, loading, "tiny")
    assert served.end_tokens == chat.end_tokens[:-1]
    endpoint = Endpoint(server.url, (str(folder),), chat.end_tokens, SERVED, server.watch)
    assert of(endpoint, requests) == greedy
    assert endpoint.facts()["server_version"] == "1.0"
    asked = answered(server.log.with_name("log"))
    assert {tuple(body["prompt"]) for body in asked} == {request.prompt for request in requests}
    assert {body["seed"] for body in asked} == {seed(request.source) for request in requests}
    assert all(body["top_k"] == -1 and body["repetition_penalty"] == 1.0 for body in asked)
    assert server._restarts == 1


def test_answers_outlive_the_server(serve, folder, student, chat, tmp_path, benchmark, monkeypatch):
    """Each answer is kept when it comes in, and is not asked for again."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    evaluation = replace(SERVED, samples=2, temperature=1.0, concurrency=1, attempts=2)
    server = serve("", "", "", "400")
    endpoint = Endpoint(server.url, ("tiny",), chat.end_tokens, evaluation)
    known = ({"base": "tiny"}, benchmark.identity(), evaluation, Way.server)
    with pytest.raises(InputError, match=r"answers with status 400.* what was answered is kept") as refused:
        samples.draw(samples.find(tmp_path, "tiny", *known), chat, endpoint, benchmark, evaluation)
    assert "sk-secret" not in str(refused.value) and refused.value.__cause__ is None
    advanced = list[int]()
    found = samples.find(tmp_path, "tiny", *known)
    drawn = samples.draw(found, chat, endpoint, benchmark, evaluation, advanced.append)
    table = samples.read(drawn)
    assert table["problem"].to_list() == [p for i in range(5) for p in [f"p{i}"] * 2]
    assert advanced == [3] + [1] * 7
    # The one that was under way may have been answered to nobody.
    assert len(answered(server.log.with_name("log"))) <= 11
    assert {p.name for p in drawn.path.iterdir()} == {samples.SAMPLES, "manifest.json", "key.json"}
    kept = [*tmp_path.rglob("*"), server.log]
    assert not any(b"sk-secret" in path.read_bytes() for path in kept if path.is_file())


@pytest.fixture
def benchmark(tmp_path):
    from eval import benchmarks

    rows = [{"id": f"p{i}", "problem": f"What is {'1 + ' * i}1?", "answer": str(i + 1)} for i in range(5)]
    (tmp_path / "aime24.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return benchmarks.load("aime24", tmp_path)


def test_a_command_starts_a_server_of_its_student_and_stops_it(folder, benchmark, tmp_path):
    script = shlex.join([sys.executable, str(ROOT / "tests" / "completions_server.py")])
    settings = [
        f"student={folder}",
        "teachers=none",
        "evaluation.benchmarks=[aime24]",
        f"evaluation.data={tmp_path}",
        "evaluation.samples=2",
        "evaluation.max_new_tokens=8",
        f"evaluation.server={script} {{model}} --port {{port}} --log {tmp_path / 'log'}",
        "evaluation.engine=small-1.0",
        "scoring.dtype=float32",
        f"paths.outputs={tmp_path / 'outputs'}",
    ]
    command = [sys.executable, str(ROOT / "experiments" / "evaluate.py"), *settings]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert "Acc@2 over 5 problems" in ran.stdout and "(0 timed out)" in ran.stdout
    assert len(answered(tmp_path / "log")) == 10
    (key,) = (tmp_path / "outputs" / "samples").glob("*/key.json")
    assert json.loads(key.read_text())["sampling"]["way"] == "server"
    assert len(list((tmp_path / "outputs" / "servers").iterdir())) == 1


# --- what is refused -----------------------------------------------------------------------------------------------


def test_answers_of_another_model_version_or_prompt_are_refused(serve, chat, requests):
    server = serve("text", "other")

    def ask(names=("tiny",), **changes):
        return of(Endpoint(server.url, names, chat.end_tokens, replace(SERVED, **changes)), requests[:1])

    with pytest.raises(InputError, match=r"serves tiny, and not another: .* counted for another model"):
        ask(("another",))
    with pytest.raises(InputError, match=r"is of version 1.0, and evaluation.engine=vllm-0.33.0"):
        ask(engine="vllm-0.33.0")
    with pytest.raises(InputError, match="says no token ids"):
        ask()
    with pytest.raises(InputError, match="has answered another prompt"):
        ask()
    long = [replace(requests[0], room=4000)]
    with pytest.raises(InputError, match="serves contexts of 2048 tokens"):
        of(Endpoint(server.url, ("tiny",), chat.end_tokens, SERVED), long)


def test_a_server_that_cannot_start_or_keeps_ending_is_named_with_its_log(folder, tmp_path, monkeypatch):
    log = tmp_path / "server.log"
    with pytest.raises(InputError, match="there is no program vlm"):
        Server("vlm {model} {port}", str(folder), None, log)
    with pytest.raises(InputError, match=r"revision abc, which evaluation.server does not say"):
        Server("python {model} {port}", "owner/model", "abc", log)
    dying = f"{sys.executable} -c 'print(\"no GPU\"); raise SystemExit(3)' {{model}} {{port}}"
    with pytest.raises(
        InputError, match=r"ended with status 3 before it answered; its log, .*server.log, ends in: no GPU"
    ):
        Server(dying, str(folder), None, log).__enter__()
    monkeypatch.setattr("eval.server._answers", lambda port: True)
    with Server(dying, str(folder), None, log) as server:
        for _ in range(RESTARTS):
            ended(server)
            server.watch()
        ended(server)
        with pytest.raises(InputError, match=f"ended {RESTARTS + 1} times, at last with status 3"):
            server.watch()


def ended(server: Server) -> None:
    assert server._process is not None
    server._process.wait(20)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_no_server_outlives_its_stage(stop, tmp_path):
    """Whichever way the process that has started it ends."""
    program = """
import sys, time
from pathlib import Path
import eval.server as server
server._answers = lambda port: True
command = sys.executable + " -c 'import time; time.sleep(60)' {model} {port}"
with server.Server(command, "m", None, Path("log")):
    print(flush=True)
    time.sleep(60)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=environment, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    parent.stdout.readline()
    deadline = time.monotonic() + 30
    while len(family := descendants(parent.pid)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.send_signal(stop)
    parent.wait(10)
    while any(Path(f"/proc/{pid}").exists() for pid in family):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def descendants(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return children + [one for child in children for one in descendants(child)]


# --- which way -----------------------------------------------------------------------------------------------------


def test_two_ways_and_two_versions_never_share_a_key(monkeypatch):
    usual, served = Evaluation(), Evaluation(endpoint="http://localhost:1/v1", engine="vllm-0.33.0")
    assert (usual.chosen_way(on_gpu=False), usual.chosen_way(on_gpu=True)) == (Way.batches, Way.continuous)
    assert served.chosen_way(on_gpu=True) is Way.server
    started = replace(served, endpoint=None, server="/opt/a/bin/vllm serve {model} --port {port} --dtype float16")
    known = [
        usual.identity(Way.batches),
        usual.identity(Way.continuous),
        served.identity(Way.server),
        replace(served, engine="vllm-0.34.0").identity(Way.server),
        started.identity(Way.server),
    ]
    assert len({json.dumps(one) for one in known}) == len(known)
    moved = replace(started, server=str(started.server).replace("/opt/a", "/opt/b"))
    assert moved.identity(Way.server) == known[-1]  # the same program, in another environment
    monkeypatch.setattr("eval.settings.version", lambda name: "6.0")
    assert usual.identity(Way.batches) != known[0]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"way": Way.server}, "way=server: which one"),
        ({"endpoint": "http://localhost:1/v1"}, "say what answers there"),
        ({"endpoint": "http://a:b@localhost:1/v1", "engine": "x"}, "without a key"),
        ({"endpoint": "localhost:1", "engine": "x"}, "is a base URL such as"),
        ({"server": "vllm serve {model}", "engine": "x"}, "lacks {model} or {port}"),
        ({"server": "{model} {port}", "engine": "x", "way": Way.batches}, "does without a server"),
        ({"server": "{model} {port}", "endpoint": "http://localhost:1/v1", "engine": "x"}, "are both set"),
        ({"concurrency": 0}, "concurrency=0 is too small"),
        ({"timeout": 0.0}, "timeout=0.0 is out of range"),
    ],
)
def test_a_server_that_is_half_said_is_refused(setting, message):
    with pytest.raises(InputError, match=message):
        Evaluation(**setting)


def test_a_way_is_opened_with_a_model_of_the_same_prompts(folder, chat, benchmark, tmp_path):
    loading = Loading(dtype="float32", device="cpu")
    for way in (Way.batches, Way.continuous):
        with ways.opened(way, str(folder), loading, GREEDY, name="tiny", log=tmp_path / "log") as (model, sampler):
            assert samples.requests(benchmark, model, GREEDY) == samples.requests(benchmark, chat, GREEDY)
            assert sampler.facts()["device"] == "cpu"
    served = models.of_files(folder, loading, "tiny")
    assert samples.requests(benchmark, served, GREEDY) == samples.requests(benchmark, chat, GREEDY)
