r"""The grader: is the final answer of a response the gold answer, or does its program pass the tests?

The answer is taken out of the response here, and judged in worker processes. Whether it equals the gold answer is left to
Math-Verify (rsr/grading/math_worker.py), which can run for hours or fill the memory on a single pair, inside C code that no signal
interrupts, so that only killing the process holds a limit. Programs are run in a sandbox, and their
tests in another (rsr/grading/program_worker.py).

Limits are of processor time, and the wall limit is generous: it is for what sleeps. A pair that reaches a limit is judged again when all
others are done, alone. So the load of a machine is no verdict, and what times out twice has none.
"""

import json
import math
import platform
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum, StrEnum
from functools import cache
from importlib.util import find_spec
from multiprocessing.connection import wait
from pathlib import Path
from typing import Self

from rsr.errors import InputError

VERSION = 3  # raised when what a grade means changes

WALL_LIMIT = 20  # times the processor time of a pair: for a machine that does much else, and for what sleeps
AGAIN = 2  # times the limits of a pair that is judged again, alone
START_LIMIT = 120.0  # seconds a worker may take to import sympy on a busy machine


class Kind(Enum):
    """What answers are, and so how they are judged."""

    mathematics = "mathematics"  # gold is an answer
    programs = "programs"  # gold is Python that raises if the program, run before it, is wrong


_FOLDER = Path(__file__).parent
# What the interpreter is given for a worker of each kind. That of programs has the standard library alone, and this package.
WORKERS = {
    Kind.mathematics: ["-P", str(_FOLDER / "math_worker.py")],
    Kind.programs: [
        *("-I", "-S", "-c"),
        f"import sys; sys.path.append({str(_FOLDER.parents[1])!r}); from rsr.grading.program_worker import main; main()",
    ],
}
# Where responses say their answer, by name. A pattern's last match counts, and of it what its group captures.
BOX = "boxed"
NUMBER = r"-?\d+(?:,\d{3})*(?:\.\d+)?"
PROSE = 3  # words, from which on an answer is a sentence
PATTERNS = {
    "sentence": r"(?i)\banswer\s+is\s*:?\s*(.+?)(?=\s*\.?\s*(?:\n|$)|\.\s)",  # The answer is 5.
    "line": r"(?im)^[\s*_>]*(?:final\s+)?answer[\s*_]*[:=]\s*(.+?)\s*$",  # **Answer:** 5
    "hashes": r"(?m)^####\s*(.+?)\s*$",  # #### 5
    "last number": NUMBER,
}
USUAL = (BOX, "sentence", "line", "hashes")  # a last number is a guess, and so by choice
CODE_BLOCK = r"(?s)```[^\n`]*\n(.*?)```"


class Outcome(StrEnum):
    """What came of grading one response."""

    CORRECT = "correct"
    WRONG = "wrong"  # of a program also: it raises, or does what a sandbox forbids
    NO_ANSWER = "no answer"  # no balanced, filled box after the thinking
    UNPARSABLE = "unparsable"  # an answer, but Math-Verify makes nothing of it or of gold, and their texts differ
    TIMED_OUT = "timed out"  # a hard limit was reached twice, of time or of memory


@dataclass(frozen=True)
class Grade:
    """The grade of one response.

    Attributes:
        answer: what was taken out of the response, None where there is no answer.
    """

    outcome: Outcome
    answer: str | None

    @property
    def correct(self) -> bool:
        """Whether the answer was found equal to gold; nothing else counts."""
        return self.outcome is Outcome.CORRECT

    @property
    def gradable(self) -> bool:
        """Whether there is a verdict; a response without an answer is gradable, and not correct."""
        return self.outcome not in (Outcome.UNPARSABLE, Outcome.TIMED_OUT)

    @property
    def verdict(self) -> bool | None:
        """Whether it is correct; None where there is no verdict."""
        return self.correct if self.gradable else None


# Two backslashes are taken too: models copy the escaped spelling. Any other escape, such as \{, is passed over whole.
_TOKEN = re.compile(r"(?P<box>\\{1,2}(?:boxed|fbox)\s*\{)|\\.|[{}]", re.DOTALL)
_NOT_BLANK = re.compile(r"\S")


def extract(response: str, pattern: str | Sequence[str] | None = None) -> str | None:
    r"""The final answer of a response, None if there is none.

    It is the content of the last balanced \boxed{...} or \fbox{...}; of nested boxes the outermost. An empty box is passed
    over. `\boxed 5` without braces is no box: TeX would box one token, and how much is meant is a guess.

    Only what follows the last </think> counts, and nothing if a <think> is still open: thinking boxes trial values and
    quotes the instruction, and a response that never came to its answer has not given one. If the chat template has
    written the <think> already, put it before the response.

    Args:
        pattern: where the answer is, if not in a box: a name of `PATTERNS`, or a regular expression, whose last match is the answer,
            or the match's groups put together if it has groups. Of several the first counts that finds one.

    Raises:
        InputError: the pattern is no regular expression, or nearly a name.
    """
    if (final := after_thinking(response)) is None:
        return None
    for one in [pattern or BOX] if pattern is None or isinstance(pattern, str) else pattern:
        _refuse_misspelt(one)
        answer = _last_box(final) if one == BOX else _last_match(final, PATTERNS.get(one, one))
        if one in PATTERNS:
            answer = _out_of_prose(answer.strip(" *_`"))  # Markdown's emphasis
        if answer := answer.strip():
            return answer
    return None


def after_thinking(response: str) -> str | None:
    """What a response says after its thinking; None where that is still open."""
    final = response.rpartition("</think>")[2]
    return None if "<think>" in final else final


@cache
def _refuse_misspelt(pattern: str) -> None:
    """A name with a slip of the pen would be a pattern that matches nothing."""
    names = (BOX, *PATTERNS)
    if pattern not in names and (near := get_close_matches(pattern, names, n=1, cutoff=0.8)):
        raise InputError(
            f"answer pattern {pattern!r} is no name: did you mean {near[0]!r}? In parentheses it is taken for a pattern"
        )


def _last_box(text: str) -> str:
    """Content of the last outermost balanced box that is not blank, or nothing; one pass, whatever is left open."""
    opened: list[tuple[bool, int]] = []  # is it a box, where does its content begin
    last = slice(0)
    for token in _TOKEN.finditer(text):
        if token["box"] or token.group() == "{":
            opened.append((token["box"] is not None, token.end()))
        elif token.group() == "}" and opened:
            is_box, start = opened.pop()
            if is_box and _NOT_BLANK.search(text, start, token.start()):
                last = slice(start, token.start())  # an outer box closes after the boxes in it
    return text[last]


def _out_of_prose(answer: str) -> str:
    """An answer that is no prose; of a sentence its number, if it has one only: which of several is meant is a guess."""
    if len(re.findall(r"(?<!\\)\b[A-Za-z]{2,}", answer)) < PROSE:
        return answer
    numbers = set(re.findall(NUMBER, answer))
    return numbers.pop() if len(numbers) == 1 else ""


def _last_match(text: str, pattern: str) -> str:
    try:
        matches = deque(re.finditer(pattern, text), maxlen=1)
    except re.error as error:
        raise InputError(f"answer pattern {pattern!r} is no regular expression: {error}") from error
    return "".join(group or "" for match in matches for group in match.groups() or [match.group()])


Pair = tuple[str, str]  # gold and answer


class Grader:
    """A pool of worker processes that judge answers; a context manager, after which no worker is left.

    Workers start with the first call of `grade`. If this process is killed they end by themselves, at the latest when the
    processor time for one pair is used up.

    Args:
        workers: processes.
        timeout: seconds of processor time for one pair, after which its worker is ended and replaced. A second time, alone, a
            pair has twice as many.
        kind: what the answers are.

    Raises:
        InputError: Math-Verify is not installed; or programs cannot be confined on this system.
    """

    def __init__(self, workers: int = 2, timeout: float = 5.0, kind: Kind = Kind.mathematics) -> None:
        if kind is Kind.mathematics and find_spec("math_verify") is None:
            raise InputError('grading needs Math-Verify: pip install -c constraints.txt -e ".[study]"')
        if kind is Kind.programs and (sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64")):
            raise InputError("programs are run on Linux on x86-64 or ARM64 alone, whose kernel confines them")
        self.timeout, self.kind = timeout, kind
        self._size = workers
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()
        self._workers = []

    def grade(
        self,
        pairs: Iterable[tuple[str, str]],
        pattern: str | Sequence[str] | None = None,
        done: Callable[[int], None] = lambda graded: None,
    ) -> list[Grade]:
        """Grades of (gold, response) pairs, in their order; a pair of gold and answer is judged once.

        Args:
            pattern: see `extract`; of programs None takes the last fenced block of code.
            done: called with the number of pairs newly graded.

        Raises:
            InputError: a gold answer is blank, naming its place; the pattern is no regular expression.
        """
        if pattern is None and self.kind is Kind.programs:
            pattern = CODE_BLOCK
        grades: list[Grade] = []
        places: dict[Pair, list[int]] = {}
        for place, (gold, response) in enumerate(pairs):
            if not gold.strip():
                raise InputError(f"pair {place + 1}: the gold answer is blank; give each problem its answer")
            if (answer := extract(response, pattern)) is not None:
                places.setdefault((gold, answer), []).append(place)
            grades.append(Grade(Outcome.NO_ANSWER, answer))
        done(len(grades) - sum(map(len, places.values())))
        try:
            for pair, outcome in self._settled(places):
                for place in places[pair]:
                    grades[place] = Grade(outcome, pair[1])
                done(len(places[pair]))
        except BaseException:
            self.__exit__()  # workers in the middle of something are of no further use
            raise
        return grades

    def _settled(self, pairs: Iterable[Pair]) -> Iterator[tuple[Pair, Outcome]]:
        """Pairs with their outcomes; those that reached a limit last, after they were judged again, one at a time."""
        late = []
        for pair, outcome in self._judge(pairs):
            if outcome is Outcome.TIMED_OUT:
                late.append(pair)
            else:
                yield pair, outcome
        with Grader(1, AGAIN * self.timeout, self.kind) as alone:
            yield from alone._judge(late)

    def _judge(self, pairs: Iterable[Pair]) -> Iterator[tuple[Pair, Outcome]]:
        """Pairs of gold and answer with their outcomes, as these come in."""
        waiting = deque(pairs)
        while waiting or any(worker.pair for worker in self._workers):
            for worker in list(self._workers):
                pair, outcome = worker.pair, worker.receive()
                if outcome is Outcome.TIMED_OUT:
                    self._workers.remove(worker)
                if pair and outcome:
                    yield pair, outcome
            busy = sum(worker.pair is not None for worker in self._workers)
            wanted = min(self._size, busy + len(waiting))
            self._workers += [_Worker(self.kind, self.timeout) for _ in range(wanted - len(self._workers))]
            for worker in self._workers:
                if waiting and worker.ready and worker.pair is None:
                    worker.send(waiting.popleft())
            self._wait()

    def _wait(self) -> None:
        """Until a worker has something to say or has had its time; not at all if none is at work."""
        nearest = min((worker.deadline for worker in self._workers), default=0.0)
        if nearest < math.inf:
            wait([worker.replies.fileno() for worker in self._workers], max(0.0, nearest - time.monotonic()))


class _Worker:
    """One process that judges pairs: a line of JSON in, an outcome out."""

    def __init__(self, kind: Kind, timeout: float) -> None:
        # Not by multiprocessing, which would import the program's main module, with all it imports, into each worker. By
        # path, to be found from any working folder; -P, or -I, keeps other folders from shadowing modules.
        # Ctrl-C reaches the parent alone, which cleans up.
        self._process = subprocess.Popen(
            [sys.executable, *WORKERS[kind], str(timeout)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin and self._process.stdout
        self._requests, self.replies = self._process.stdin, self._process.stdout
        self._timeout = timeout
        self.ready = False
        self.pair: Pair | None = None
        self.deadline = time.monotonic() + START_LIMIT

    def send(self, pair: Pair) -> None:
        """Have a pair judged."""
        self.pair = pair
        self.deadline = time.monotonic() + WALL_LIMIT * self._timeout
        with suppress(BrokenPipeError):  # a worker that died is noticed by `receive`
            self._requests.write(json.dumps(pair).encode() + b"\n")
            self._requests.flush()

    def receive(self) -> Outcome | None:
        """What became of the pair, None while that is open; after TIMED_OUT the worker is gone.

        Raises:
            RuntimeError: the worker did not start; its own message is on standard error.
        """
        line = self.replies.readline() if wait([self.replies.fileno()], 0) else None
        if line:
            self.pair, self.deadline, started, self.ready = None, math.inf, self.ready, True
            outcome = Outcome(line.decode().strip()) if started else None
            if outcome is Outcome.TIMED_OUT:  # a limit that the worker holds itself, such as that of memory
                self.kill()
            return outcome
        if line is None and time.monotonic() < self.deadline:
            return None
        self.kill()
        if not self.ready:
            raise RuntimeError(f"a worker of the grader did not start (exit status {self._process.returncode})")
        return Outcome.TIMED_OUT

    def kill(self) -> None:
        """End the process, whatever it does, and wait for its end."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._requests, self.replies):
            with suppress(BrokenPipeError):
                pipe.close()
