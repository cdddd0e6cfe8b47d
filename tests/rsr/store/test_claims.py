"""Workers that meet at the same artefact: processes of their own, stopped and killed in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rsr.errors import InputError
from rsr.store import artefacts, claims

KEY = {"stage": "thing", "x": 1}
# Writes numbered files, going on behind those that are there, and says what it does; before the last it waits for its input.
WORKER = """
import sys, time
from pathlib import Path
from rsr.store import artefacts, claims
claims.INTERVAL = 0.2
root, name = Path(sys.argv[1]), sys.argv[2]

@claims.claiming
def fill():
    artefact = artefacts.find_or_begin(root, "thing", name, {"stage": "thing", "x": 1})
    if artefact.manifest is not None:
        return "found", artefact
    print("begins", flush=True)
    for i in range(4):
        path = artefact.path / f"part-{i}"
        if not path.exists():
            if i == 3:
                sys.stdin.readline()
            artefacts.write_text(path, f"part {i}")
            print("wrote", i, flush=True)
    return "made", artefact.complete(by=name)

did, artefact = fill()
print(did, artefact.path.name, artefact.facts["by"], flush=True)
"""


class Worker:
    def __init__(self, root, name):
        command = [sys.executable, "-u", "-c", WORKER, str(root), name]
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self.process: Any = subprocess.Popen(command, text=True, **pipes)

    def until(self, said):
        """Read what it says up to this."""
        for line in self.process.stdout:
            if line.strip() == said:
                return
        raise AssertionError(self.process.stderr.read())

    def goes_on(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self):
        out, err = self.process.communicate("\n", timeout=60)
        assert self.process.returncode == 0, err
        return out.split("\n"), err


def whole(root):
    """The one folder, which is complete."""
    (folder,) = (root / "thing").iterdir()
    assert sorted(p.name for p in folder.iterdir()) == ["key.json", "manifest.json", *(f"part-{i}" for i in range(4))]
    assert [(folder / f"part-{i}").read_text() for i in range(4)] == [f"part {i}" for i in range(4)]
    return json.loads((folder / "manifest.json").read_text())


def test_one_of_those_that_meet_makes_it_and_the_others_find_it(tmp_path):
    workers = [Worker(tmp_path, f"w{i}") for i in range(3)]
    for worker in workers:
        worker.goes_on()
    ended = [worker.end() for worker in workers]
    did = [out[-2].split()[0] for out, _ in ended]
    assert sorted(did) == ["found", "found", "made"]
    by = whole(tmp_path)["by"]
    assert {out[-2].split()[2] for out, _ in ended} == {by}
    for (out, _), what in zip(ended, did, strict=True):
        assert what == "made" or not any(line.startswith("wrote") for line in out)


def test_a_waiting_worker_says_once_for_whom(tmp_path):
    first = Worker(tmp_path, "first")
    first.until("wrote 2")
    second = Worker(tmp_path, "second")
    said = second.process.stderr.readline()
    first.end()
    out, err = second.end()
    assert out[0].split()[0] == "found" and err == ""
    assert said.startswith(f"waiting for thing/first-{artefacts.digest(KEY)[:8]}: process {first.process.pid} on ")
    assert " is at it since 20" in said
    assert whole(tmp_path)["by"] == "first"


def test_what_a_killed_worker_has_finished_is_gone_on_with_at_once(tmp_path):
    first = Worker(tmp_path, "first")
    first.until("wrote 2")
    first.process.send_signal(signal.SIGKILL)  # it stays in the table of processes until it is asked for
    second = Worker(tmp_path, "second")
    out, err = second.end()
    assert out == ["begins", "wrote 3", f"made first-{artefacts.digest(KEY)[:8]} second", ""]
    assert err == ""
    assert whole(tmp_path)["by"] == "second"


@pytest.mark.parametrize("wakes", ["before the other is done", "after it"])
def test_a_worker_that_slept_finds_itself_taken_over(tmp_path, wakes):
    slept = Worker(tmp_path, "slept")
    slept.until("wrote 2")
    slept.process.send_signal(signal.SIGSTOP)
    other = Worker(tmp_path, "other")
    other.until("begins")  # after six heartbeats have not come, although the process is there
    if wakes == "after it":
        assert other.end()[0][-2].startswith("made")
    slept.process.send_signal(signal.SIGCONT)
    slept.goes_on()
    said = slept.process.stderr.readline()
    if wakes != "after it":
        assert slept.process.stderr.readline().startswith("waiting for thing/")
        other.end()
    out, err = slept.end()
    assert out[-2].split() == ["found", f"slept-{artefacts.digest(KEY)[:8]}", "other"], err
    assert "taken over by another worker; looking for what it makes" in said
    assert whole(tmp_path)["by"] == "other"


def test_a_claim_of_another_machine_is_taken_over_only_after_silence(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "INTERVAL", 0.1)
    found = artefacts.find_or_begin(tmp_path, "thing", "x", KEY)
    monkeypatch.setattr(claims, "_held", set())
    foreign = found.path.with_name(found.path.name.replace(str(os.getpid()), "1"))
    found.path.rename(foreign)
    who = json.loads((foreign / claims.CLAIM).read_text())
    (foreign / claims.CLAIM).write_text(json.dumps(who | {"host": "another", "process": 2**22 + 1}))
    began = time.monotonic()
    with pytest.raises(claims.Busy), claims.impatient():
        artefacts.find_or_begin(tmp_path, "thing", "x", KEY)
    mine = artefacts.find_or_begin(tmp_path, "thing", "x", KEY)
    assert time.monotonic() - began > 0.5 and mine.path != foreign and not foreign.exists()
    mine.complete()


def test_one_that_took_over_and_has_not_signed_yet_is_at_work(tmp_path):
    found = artefacts.find_or_begin(tmp_path, "thing", "x", KEY)
    dead = 2**22 + 1
    who = json.loads((found.path / claims.CLAIM).read_text())
    (found.path / claims.CLAIM).write_text(json.dumps(who | {"process": dead}))
    assert claims.is_busy(found.path)
    of_the_dead = found.path.rename(found.path.with_name(found.path.name.replace(f"-{os.getpid()}-", f"-{dead}-")))
    assert not claims.is_busy(of_the_dead)


def test_what_others_are_at_is_left_for_the_end(monkeypatch):
    busy, done = {"a"}, []

    def work(item):
        if item in busy:
            busy.discard(item)
            raise claims.Busy(Path())
        done.append(item)
        return item.upper()

    assert claims.in_turn(work, ["a", "b", "c"]) == ["A", "B", "C"]
    assert done == ["b", "c", "a"]


def test_a_stage_that_fails_gives_its_claim_back(tmp_path):
    @claims.claiming
    def stage():
        artefact = artefacts.find_or_begin(tmp_path, "thing", "x", KEY)
        artefacts.write_text(artefact.path / "part-0", "half the work")
        assert artefact.path.name.endswith(f".{claims.worker()}.partial")
        raise KeyError("a fault")

    with pytest.raises(KeyError, match="a fault"):
        stage()
    (free,) = (tmp_path / "thing").iterdir()
    assert free.name == f"x-{artefacts.digest(KEY)[:8]}.partial"
    assert sorted(p.name for p in free.iterdir()) == ["key.json", "part-0"]


def test_a_rename_that_fails_loses_nothing(tmp_path, monkeypatch):
    artefact = artefacts.find_or_begin(tmp_path, "thing", "x", KEY)
    artefacts.write_text(artefact.path / "part-0", "the work")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *args: (_ for _ in ()).throw(OSError("no")))
        with pytest.raises(InputError, match="cannot be written"):
            artefact.complete()
    assert (artefact.path / claims.CLAIM).exists()
    assert (artefact.complete().path / "part-0").read_text() == "the work"
