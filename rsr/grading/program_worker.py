"""The worker that runs programs: does one pass its tests? Run as a process by rsr/grading/grader.py, as rsr/grading/math_worker.py is.

Two processes are forked for each program, both confined (rsr.grading.sandbox). One runs the program. The other runs its tests, and
calls the program from there (rsr.grading.remote). So a program has neither its tests nor anything that says the verdict in its own
memory, and what it returns is judged elsewhere. This process never reads a request, so that no program finds an earlier one's in it.

The standard library only; nothing of it can be loaded later than here.
"""

import ast
import builtins
import importlib
import json
import os
import platform
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import repeat
from typing import Any

from rsr.grading.remote import OPERATIONS, Peer
from rsr.grading.sandbox import confine, filter_of

WALL_LIMIT = 10  # times the processor time of a program
COUNTED = 0.9  # of the processor time allowed, at least, where a program has ignored both signals of its end

# What programs may import: there are no files by then.
MODULES = (
    "_strptime array bisect calendar cmath collections collections.abc copy dataclasses datetime decimal enum fractions "
    "functools hashlib heapq itertools json math numbers operator random re statistics string textwrap time typing unicodedata"
)

CORRECT, WRONG, TIMED_OUT, NO_MORE = b"correct", b"wrong", b"timed out", b"no more"
LOAD = len(OPERATIONS)  # the place of `load`, which is offered beside them

Request = tuple[str, str]  # tests, and a program


def judge(receive: Callable[[], Request | None], seconds: float, code: bytes) -> bytes:
    """Whether a program passes its tests; "no more" where nothing is received.

    Args:
        receive: gives the request; it is called in the process of the tests.
        seconds: of processor time for each process, so that a verdict does not hang on what else the machine does.
    """
    calls, answers = os.pipe(), os.pipe()

    def run_program() -> None:
        confine({calls[0], answers[1]}, seconds, code)
        Peer(calls[0], answers[1], [*OPERATIONS, load]).serve()

    program = _forked(run_program)
    said = os.pipe()  # which the program's process does not have

    def run_tests() -> None:
        request = receive()
        confine({answers[0], calls[1], said[1]}, seconds, code)
        peer = Peer(answers[0], calls[1])
        os.write(said[1], NO_MORE if request is None else verdict(*request, peer))

    tests = _forked(run_tests)
    for descriptor in (*calls, *answers, said[1]):
        os.close(descriptor)
    ended, _, _ = select.select([said[0]], [], [], WALL_LIMIT * seconds)
    found = os.read(said[0], 64) if ended else TIMED_OUT
    os.close(said[0])
    limited = [_ended(process, seconds) for process in (program, tests)]
    if found:
        return found
    return TIMED_OUT if any(limited) else WRONG  # one that died has said nothing


def _forked(run: Callable[[], None]) -> int:
    """A process that does something, and ends whatever comes of it."""
    process = os.fork()
    if process == 0:
        try:
            run()
        finally:
            os._exit(0)
    return process


def _ended(process: int, seconds: float) -> bool:
    """End a process; whether it has reached its limit of processor time."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    _, status, used = os.wait4(process, 0)
    # By the signal, not by the time used: on a busy machine a limit counts more of it than there was.
    limited = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGXCPU)
    return limited or used.ru_utime + used.ru_stime > COUNTED * seconds


def load(program: str, asked: list[str]) -> dict[str, Any]:
    """Run a program; of its names those that are asked for."""
    names: dict[str, Any] = {"__name__": "program"}
    exec(compile(program, "program", "exec"), names)
    return {name: names[name] for name in asked if name in names}


def verdict(tests: str, program: str, peer: Peer) -> bytes:
    """Whether the program runs and its tests raise nothing; nothing where the program's process has ended, by whatever way.

    Args:
        peer: the program's process.
    """
    try:
        asked = names_of_the_program(tests)
        found = peer.ask(LOAD, [program, asked])
        names = {"__name__": "tests", **_modules(), **{name: found[name] for name in asked if name in found}}
        exec(compile(tests, "tests", "exec"), names)
        said = CORRECT
    except MemoryError:
        said = TIMED_OUT
    except BaseException:  # SystemExit as well
        said = WRONG
    return b"" if peer.lost else said


def names_of_the_program(tests: str) -> list[str]:
    """The names that tests use and do not make themselves.

    Names of the language and of modules mean what they always do, so that no program decides what `all` says of its answers. They
    are the program's only where tests use a single name, as tests of a function `sum` do.

    Raises:
        SyntaxError: the tests are no Python.
    """
    used, made = set[str](), set[str]()
    for node in ast.walk(ast.parse(tests)):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else made).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            made.add(node.name)
        elif isinstance(node, ast.arg):
            made.add(node.arg)
        elif isinstance(node, ast.alias):
            made.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            made.add(node.name)
    asked = used - made
    return sorted(asked if len(asked) == 1 else asked - set(dir(builtins)) - set(_modules()))


def _modules() -> dict[str, Any]:
    return {name: sys.modules[name] for name in MODULES.split() if "." not in name}


def receive() -> Request | None:
    """The next request, a line of JSON; None where there are no more."""
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(0, 2**20)  # the next request comes after the answer
        if not part:
            return None
        line += part
    tests, program = json.loads(line)
    return tests, program


def main() -> None:
    """Judge requests until there are no more."""
    seconds, code = float(sys.argv[1]), filter_of(platform.machine())
    for name in MODULES.split():
        importlib.import_module(name)
    # Nothing runs unless the walls hold, around programs and around tests.
    tried = [("", "x = 1"), ("", "open('/')"), ("", "import os; os.fork()"), ("open('/')", "")]
    found = [judge(repeat(request).__next__, 60.0, code) for request in tried]
    if found != [CORRECT, WRONG, WRONG, WRONG]:
        sys.exit(f"programs cannot be confined here: {found}")
    print(CORRECT.decode(), flush=True)  # ready
    while True:
        select.select([0], [], [])
        if (said := judge(receive, seconds, code)) == NO_MORE:
            return
        print(said.decode(), flush=True)
