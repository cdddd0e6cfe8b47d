"""Workers that meet at the same artefact: processes of their own, stopped and killed in the middle."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rsr.errors import InputError
from rsr.store import artefacts, locks

KEY = {"stage": "thing", "x": 1}
# Writes numbered files, going on behind those that are there, and says what it does; before the last it waits for its input.
WORKER = """
import sys, time
from pathlib import Path
from rsr.store import artefacts, locks
root, name = Path(sys.argv[1]), sys.argv[2]

@locks.locking
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


def is_free(lock):
    """Whether nobody holds a lock."""
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


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


def test_a_forked_child_does_not_keep_its_parents_lock(tmp_path):
    artefact = artefacts.find_or_begin(tmp_path, "thing", "x", KEY)
    (lock,) = (tmp_path / locks.FOLDER).iterdir()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(reader, 1)
        os._exit(0)
    artefact.complete()
    free = is_free(lock)
    os.write(writer, b"x")
    os.waitpid(child, 0)
    assert free


def test_a_stage_that_fails_gives_its_lock_up(tmp_path):
    @locks.locking
    def stage():
        artefact = artefacts.find_or_begin(tmp_path, "thing", "x", KEY)
        artefacts.write_text(artefact.path / "part-0", "half the work")
        raise KeyError("a fault")

    with pytest.raises(KeyError, match="a fault"):
        stage()
    assert all(is_free(lock) for lock in (tmp_path / locks.FOLDER).iterdir())
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
    assert (artefact.complete().path / "part-0").read_text() == "the work"
