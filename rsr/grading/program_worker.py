"""The worker that runs programs: does one pass its tests? Run as a process by rsr/grading/grader.py, as rsr/grading/math_worker.py is.

Each program runs in a process of its own, forked from this one, which has given up everything it does not need before the
program's first line: it has no user of its own (where this one is root's), hard limits, no files but its verdict, and a
filter of system calls (seccomp), which lets it compute and nothing else. Every other call fails with "operation not
permitted", whatever code makes it; the filter cannot be taken off. docs/sandbox.md says what this stops and what not.

The standard library only; nothing of it can be loaded later than here.
"""

import ctypes
import importlib
import json
import os
import platform
import resource
import select
import signal
import struct
import sys
from contextlib import suppress

MEMORY = 512 * 2**20  # bytes of address space
NOBODY = 65534
WALL_LIMIT = 10  # times the processor time of a program
COUNTED = 0.9  # of the processor time allowed, at least, where a program has ignored both signals of its end

# What programs may import: there are no files by then.
MODULES = (
    "_strptime array bisect calendar cmath collections collections.abc copy dataclasses datetime decimal enum fractions "
    "functools hashlib heapq itertools json math numbers operator random re statistics string textwrap time typing unicodedata"
)

# System calls that computing needs, by machine: (audit architecture, numbers).
CALLS = {
    "x86_64": {
        "read": 0, "write": 1, "close": 3, "fstat": 5, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12,
        "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_yield": 24, "mremap": 25, "madvise": 28,
        "getpid": 39, "exit": 60, "gettimeofday": 96, "getrusage": 98, "times": 100, "sigaltstack": 131, "gettid": 186,
        "futex": 202, "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229, "exit_group": 231,
        "getrandom": 318, "rseq": 334,
    },
    "aarch64": {
        "close": 57, "lseek": 62, "read": 63, "write": 64, "fstat": 80, "exit": 93, "exit_group": 94, "futex": 98,
        "clock_gettime": 113, "clock_getres": 114, "sched_yield": 124, "restart_syscall": 128, "sigaltstack": 132,
        "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "times": 153, "getrusage": 165,
        "gettimeofday": 169, "getpid": 172, "gettid": 178, "brk": 214, "munmap": 215, "mremap": 216, "mmap": 222,
        "mprotect": 226, "madvise": 233, "getrandom": 278, "rseq": 293,
    },
}  # fmt: skip
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*

_SET_DEATH_SIGNAL, _SET_SECCOMP, _SET_NO_NEW_PRIVILEGES = 1, 22, 38  # prctl(2)
_FILTER = 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in seccomp_data
_ALLOW, _FAIL = 0x7FFF0000, 0x00050001  # the second: with EPERM

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]


def filter_of(machine: str) -> bytes:
    """The BPF program that allows the calls of a machine and lets all others fail."""
    numbers = sorted(CALLS[machine].values())
    code = [(_LOAD, 0, 0, _ARCHITECTURE), (_JUMP_IF_EQUAL, 0, len(numbers) + 1, ARCHITECTURES[machine])]
    code += [(_LOAD, 0, 0, _NUMBER)]
    code += [(_JUMP_IF_EQUAL, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
    code += [(_RETURN, 0, 0, _FAIL), (_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def judge(tests: str, program: str, seconds: float, code: bytes) -> str:
    """Run a program and then its tests in a process of their own: "correct", "wrong" or "timed out".

    Args:
        seconds: of processor time, so that a verdict does not hang on what else the machine does.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            confine(writer, seconds, code)
            os.write(writer, verdict(tests, program))
        finally:
            os._exit(0)
    os.close(writer)
    ended, _, _ = select.select([reader], [], [], WALL_LIMIT * seconds)
    said = os.read(reader, 64).decode(errors="replace") if ended else "timed out"
    os.close(reader)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    # By the signal, not by the time used: on a busy machine a limit counts more of it than there was.
    limited = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGXCPU)
    if not said and (limited or used.ru_utime + used.ru_stime > COUNTED * seconds):
        return "timed out"
    return said if said in ("correct", "timed out") else "wrong"  # one that died has said nothing


def confine(reply: int, seconds: float, code: bytes) -> None:
    """Give up, for good, whatever a computation does not need.

    Raises:
        OSError: something cannot be given up; the program must not run then.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.closerange(3, reply)
    os.closerange(reply + 1, 4096)
    for limit, value in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, int(seconds) + 1),  # should the program ignore the timer's signal
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(limit, (value, value))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    _prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)  # should this worker be killed; another user would be without it
    _prctl(_SET_NO_NEW_PRIVILEGES, 1)
    _prctl(_SET_SECCOMP, _FILTER, ctypes.byref(_Program(len(code) // 8, code)))


def _prctl(option: int, *values: object) -> None:
    if _libc.prctl(option, *values, *[0] * (4 - len(values))):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def verdict(tests: str, program: str) -> bytes:
    """Whether the program runs and its tests raise nothing; leaving early, by whatever way, passes no test."""
    names: dict[str, object] = {"__name__": "program"}
    try:
        exec(compile(program, "program", "exec"), names)
        exec(compile(tests, "tests", "exec"), names)
    except MemoryError:
        return b"timed out"
    except BaseException:  # SystemExit as well
        return b"wrong"
    return b"correct"


def main() -> None:
    """Judge pairs of tests and program, a line of JSON each, until there are no more."""
    seconds, code = float(sys.argv[1]), filter_of(platform.machine())
    for name in MODULES.split():
        importlib.import_module(name)
    # Nothing runs unless the walls hold.
    tried = [judge("", program, 60.0, code) for program in ("x = 1", "open('/')", "import os; os.fork()")]
    if tried != ["correct", "wrong", "wrong"]:
        sys.exit(f"programs cannot be confined here: {tried}")
    print("correct", flush=True)  # ready
    for line in sys.stdin:
        tests, program = json.loads(line)
        print(judge(tests, program, seconds, code), flush=True)


if __name__ == "__main__":
    main()
