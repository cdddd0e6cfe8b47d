"""The walls around a process that runs a program: it computes, and nothing else.

Before the program's first line the process gives up everything that it does not need: it has no user of its own (where it is root's),
hard limits, no files but those that are kept for it, and a filter of system calls (seccomp). Every other call fails with "operation
not permitted", whatever code makes it; the filter cannot be taken off. docs/sandbox.md says what this stops and what not.

The standard library only.
"""

import ctypes
import os
import resource
import signal
import struct
from collections.abc import Collection
from itertools import pairwise

MEMORY = 512 * 2**20  # bytes of address space
NOBODY = 65534
DESCRIPTORS = 4096  # more than a process of ours has

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


def confine(kept: Collection[int], seconds: float, code: bytes) -> None:
    """Give up, for good, whatever a computation does not need.

    Args:
        kept: descriptors that stay open.
        seconds: of processor time, after which the process is ended.
        code: a filter, of `filter_of`.

    Raises:
        OSError: something cannot be given up; the program must not run then.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    for before, after in pairwise([2, *sorted(kept), DESCRIPTORS]):
        os.closerange(before + 1, after)
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
