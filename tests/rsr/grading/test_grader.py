"""The grader: golden verdicts, extraction, and a pool that holds its limits and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsr.errors import InputError
from rsr.grading.grader import Grade, Grader, Outcome, extract

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = [json.loads(line) for line in (ROOT / "tests/golden/grader.jsonl").read_text(encoding="utf-8").splitlines()]

HANGS = r"\boxed{(10^{10})! + x}"  # runs for hours, inside C, where no signal is seen


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid`; the dead that nobody waited for count as well."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


@pytest.fixture(scope="module")
def golden() -> dict[int, Grade]:
    """The grade of each golden row by its place, by one pool."""
    grades: dict[int, Grade] = {}
    with Grader(timeout=3) as grader:
        for pattern in {row.get("pattern") for row in GOLDEN}:
            places = [place for place, row in enumerate(GOLDEN) if row.get("pattern") == pattern]
            pairs = [(GOLDEN[place]["gold"], GOLDEN[place]["response"]) for place in places]
            grades |= zip(places, grader.grade(pairs, pattern), strict=True)
    return grades


@pytest.mark.full
@pytest.mark.parametrize("place", range(len(GOLDEN)), ids=lambda place: f"line {place + 1}: {GOLDEN[place]['why']}")
def test_golden_verdicts(golden: dict[int, Grade], place: int) -> None:
    # Rows with `known` hold what Math-Verify says, not what is right: they fail when a version says otherwise.
    assert golden[place].outcome == GOLDEN[place]["verdict"]


def test_golden_rows_differ_and_know_every_outcome() -> None:
    assert len({(row["gold"], row["response"], row.get("pattern")) for row in GOLDEN}) == len(GOLDEN)
    assert {row["verdict"] for row in GOLDEN} == set(Outcome)


texts = st.recursive(
    st.text(st.characters(exclude_characters="\\{}"), max_size=5) | st.sampled_from([r"\{", r"\}", r"\\", r"\frac"]),
    lambda inner: st.lists(inner, max_size=3).map(lambda parts: "{" + "".join(parts) + "}"),
    max_leaves=8,
)


@given(st.lists(texts, max_size=3).map("".join), texts, st.text(st.characters(exclude_characters="\\{}"), max_size=20))
def test_the_last_box_is_taken_whole(before: str, content: str, after: str) -> None:
    response = rf"{before} \boxed{{first}} \boxed{{{content}}} {after}"
    assert extract(response) == (content.strip() or "first")


@given(
    st.lists(st.sampled_from([r"\boxed{", r"\fbox {", "{", "}", r"\{", r"\}", "\\", "x", " ", "</think>"]), max_size=25)
)
def test_what_is_taken_is_balanced_and_there(parts: list[str]) -> None:
    response = "".join(parts)
    answer = extract(response)
    if answer is not None:
        assert answer and answer in response
        assert extract(rf"\boxed{{{answer}}}") == answer or answer.endswith("\\")


@pytest.mark.parametrize(
    "piece", ["{", "}", r"\boxed{", r"\boxed{}", r"\boxed{1}", r"\boxed{1{", "\\", r"\boxed ", "x"]
)
def test_extraction_takes_linear_time(piece: str) -> None:
    def seconds(length: int) -> float:
        start = time.process_time()
        extract(piece * (length // len(piece)) + r" \boxed{5}")
        extract(r"\boxed{" * (length // 10) + "5" + "}" * (length // 10))
        return time.process_time() - start

    few, many = min(seconds(50_000) for _ in range(3)), min(seconds(400_000) for _ in range(3))
    assert many < 24 * few  # 8 times the length; quadratic time would be 64 times as long


def test_a_box_in_a_megabyte() -> None:
    assert extract("word " * 200_000 + r"\boxed{5}" + " word" * 200_000) == "5"


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="pair 2: the gold answer is blank"):
        Grader().grade([("5", ""), (" ", "")])
    with pytest.raises(InputError, match="no regular expression"):
        extract("5", "(")


def test_only_correct_is_correct() -> None:
    assert [outcome for outcome in Outcome if Grade(outcome, "").correct] == [Outcome.CORRECT]
    assert {outcome for outcome in Outcome if not Grade(outcome, "").gradable} == {
        Outcome.UNPARSABLE,
        Outcome.TIMED_OUT,
    }


@pytest.mark.full
def test_order_duplicates_and_a_pair_that_hangs() -> None:
    pairs = [(str(i % 7), HANGS if i % 10 == 3 and i % 7 == 3 else rf"\boxed{{{i % 5}}}") for i in range(100)]
    hanging = [i for i, (_, response) in enumerate(pairs) if response == HANGS]
    counts: list[int] = []
    with Grader(workers=2, timeout=1) as grader:
        grades = grader.grade(iter(pairs), done=counts.append)
        again = grader.grade(pairs[:1])
    assert len(hanging) == 2
    for i, (grade, (gold, _)) in enumerate(zip(grades, pairs, strict=True)):
        expected = Outcome.TIMED_OUT if i in hanging else Outcome.CORRECT if int(gold) == i % 5 else Outcome.WRONG
        assert grade.outcome is expected
    assert again == grades[:1] and sum(counts) == len(pairs)
    assert max(counts) > 1  # duplicates were judged together


@pytest.mark.full
def test_hard_answers_end_within_the_limits() -> None:
    nested = "{" * 2000 + "5" + "}" * 2000
    answers = [nested, "(" * 2000 + "5" + ")" * 2000, "1" * 1_000_000, "x+" * 500_000, r"10^{10^{10}} \bmod 7"]
    with Grader(timeout=2) as grader:
        grades = grader.grade([("6", rf"\boxed{{{answer}}}") for answer in answers] + [("6", r"\boxed{6}")])
    assert {grade.outcome for grade in grades[:-1]} <= {Outcome.WRONG, Outcome.UNPARSABLE, Outcome.TIMED_OUT}
    assert grades[0].answer == nested and grades[-1].correct


@pytest.mark.full
def test_verdicts_do_not_hang_on_the_load() -> None:
    """A worker that gets no processor for longer than its limit still says what it would have said."""
    before = set(children(os.getpid()))
    with Grader(workers=1, timeout=1) as grader:
        grader.grade([("1", r"\boxed{1}")])
        (worker,) = set(children(os.getpid())) - before
        os.kill(worker, signal.SIGSTOP)
        threading.Timer(2, os.kill, (worker, signal.SIGCONT)).start()
        assert grader.grade([("6", r"\boxed{\frac{12}{2}}")])[0].correct


@pytest.mark.full
def test_what_times_out_under_load_is_judged_again_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that gets no processor until even the wall limit is over has said nothing of its pair."""
    monkeypatch.setattr("rsr.grading.grader.WALL_LIMIT", 1)
    before = set(children(os.getpid()))
    with Grader(workers=1, timeout=1.5) as grader:
        grader.grade([("1", r"\boxed{1}")])
        (worker,) = set(children(os.getpid())) - before
        os.kill(worker, signal.SIGSTOP)
        grades = grader.grade([("6", r"\boxed{\frac{12}{2}}"), ("7", r"\boxed{7}")])
    assert [grade.outcome for grade in grades] == [Outcome.CORRECT, Outcome.CORRECT]
    assert set(children(os.getpid())) == before


@pytest.mark.full
def test_busy_cores_change_no_verdict() -> None:
    """Beside four processes that compute without a pause, a pair that hangs times out and all others have their verdicts."""
    pairs = [(str(i), rf"\boxed{{\frac{{{2 * i}}}{{2}}}}") for i in range(1, 9)] + [("1", HANGS)]
    spin = [sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(spin) for _ in range(4)]
    try:
        with Grader(workers=2, timeout=0.5) as grader:
            grades = grader.grade(pairs)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert [grade.outcome for grade in grades] == [Outcome.CORRECT] * 8 + [Outcome.TIMED_OUT]
    assert grades[-1].verdict is None


@pytest.mark.full
def test_no_process_is_left() -> None:
    before = children(os.getpid())
    with Grader(timeout=1) as grader:
        grader.grade([("1", r"\boxed{2}"), ("1", HANGS), ("1", r"\boxed{3}")])
        assert len(children(os.getpid())) > len(before)
    assert children(os.getpid()) == before


@pytest.mark.full
def test_workers_that_die_are_replaced() -> None:
    before = set(children(os.getpid()))

    def kill_workers(graded: int) -> None:
        for pid in set(children(os.getpid())) - before:
            os.kill(pid, signal.SIGKILL)

    with Grader(workers=1, timeout=20) as grader:
        grades = grader.grade([(str(i), rf"\boxed{{{i}.0}}") for i in range(4)], done=kill_workers)
    outcomes = {grade.outcome for grade in grades}
    assert Outcome.CORRECT in outcomes and outcomes <= {Outcome.CORRECT, Outcome.TIMED_OUT}


def test_a_grader_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Grader() as grader, pytest.raises(RuntimeError, match="did not start"):
        grader.grade([("5", r"\boxed{5}")])
    monkeypatch.setattr("rsr.grading.grader.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install"):
        Grader()


@pytest.mark.full
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_parent_leaves_no_orphan(stop: signal.Signals) -> None:
    program = f"from rsr.grading.grader import Grader\nwith Grader(timeout=3) as grader: grader.grade([('1', {HANGS!r}), ('2', {HANGS!r})])"
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (workers := children(parent.pid)) or min(map(seconds, workers)) < 1:  # at work, not merely started
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.send_signal(stop)
    assert parent.wait(10) != 0
    while (left := [worker for worker in workers if running(worker)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    for worker in left:
        os.kill(worker, signal.SIGKILL)
    assert not left


def seconds(pid: int) -> float:
    """Processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def running(pid: int) -> bool:
    """Whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_name_with_a_slip_is_no_pattern():
    with pytest.raises(InputError, match="did you mean 'last number'"):
        extract("It is 5.", "lastnumber")
    assert extract("the lines", "(lines)") == "lines"
