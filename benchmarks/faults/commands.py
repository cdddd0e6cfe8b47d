"""Commands as a user types them, on a tiny student: what is killed, and what runs on a disk that is too small."""

import hashlib
import json
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.stages import World
from experiments.app.shared_configs import ROOT
from rsr.store.artefacts import HALF_WRITTEN, MANIFEST, PARTIAL

SIGNALS = {signal.SIGKILL: "", signal.SIGTERM: "terminated: ", signal.SIGINT: "interrupted: "}  # and what is said
SIZES = (0, 1 << 10, 1 << 13, 1 << 16, 1 << 19)  # bytes, the most that a file may have
TIMES = re.compile(rb'"(seconds|train_runtime|train_\w+_per_second)": [\d.e+-]+')  # the latter are the trainer's
OF_A_RUN = (MANIFEST, "run.json", "README.md")  # files that say when and how long


@dataclass(frozen=True)
class Trial:
    """One thing that was tried.

    Attributes:
        found: what became of it, in words.
    """

    kind: str
    case: str
    found: str
    right: bool


@dataclass(frozen=True)
class Command:
    """A command that leaves what it makes below a folder of outputs."""

    name: str
    typed: Callable[[Path], Sequence[str | Path]]

    def start(self, outputs: Path, largest: int | None = None) -> "subprocess.Popen[str]":
        """Run it.

        Args:
            largest: bytes of a file, as on a disk that is full from then on.
        """

        def limit() -> None:
            if largest is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

        outputs.mkdir(parents=True, exist_ok=True)
        typed = [str(part) for part in self.typed(outputs)]
        return subprocess.Popen(
            typed, cwd=outputs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=limit
        )

    def whole(self, outputs: Path) -> tuple[float, str]:
        """Seconds to its end, and what it left.

        Raises:
            AssertionError: it failed, or left something that is not finished.
        """
        began = time.monotonic()
        process = self.start(outputs)
        _, said = process.communicate()
        assert process.returncode == 0, said
        unfinished = [path.name for path in outputs.rglob("*") if path.name.endswith((PARTIAL, HALF_WRITTEN))]
        assert not unfinished, unfinished
        return time.monotonic() - began, _content(outputs)


def _content(outputs: Path) -> str:
    hasher = hashlib.sha256()
    for path in sorted(outputs.rglob("*")):
        if path.is_file() and ".locks" not in path.parts and path.name not in OF_A_RUN:
            hasher.update(f"{path.relative_to(outputs)}\0".encode() + _lasting(path, outputs).encode())
    return hasher.hexdigest()


def _lasting(path: Path, outputs: Path) -> str:
    """The content of a file, without the place where it was made and the time it took."""
    content = path.read_bytes()
    if path.suffix in (".json", ".jsonl", ".md", ".html", ".yaml"):
        content = TIMES.sub(b"", content.replace(str(outputs).encode(), b""))
    return hashlib.sha256(content).hexdigest()


def commands(world: World) -> list[Command]:
    """A command of each stage that runs on any machine."""
    data, bench = _data(world), _bench(world)
    of_rsr = [sys.executable, "-m", "rsr"]
    scoring: list[str | Path] = ["--student", world.student, data, "--dtype", "float32", "--token-budget", "512"]

    def experiment(name: str, *options: str | Path) -> Callable[[Path], list[str | Path]]:
        script, given = ROOT / "experiments" / f"{name}.py", f"student={world.student}"
        return lambda outputs: [sys.executable, script, given, f"paths.outputs={outputs}", *DTYPE, *options]

    few = [f"student.training.{option}" for option in ("epochs=2", "batch_size=16", "micro_batch=16", "max_length=512")]
    samples = ["evaluation.benchmarks=[miniature]", "evaluation.samples=2", "evaluation.max_new_tokens=8"]
    return [
        Command("rsr score", lambda outputs: [*of_rsr, "score", *scoring, "--outputs", outputs]),
        Command("rsr select", lambda o: [*of_rsr, "select", *scoring, "--outputs", o, "-o", o / "new"]),
        Command("train.py", experiment("train", f"teachers={data}", *few)),
        Command("evaluate.py", experiment("evaluate", "teachers=none", f"evaluation.data={bench}", *samples)),
    ]


DTYPE = ("scoring.dtype=float32",)


def _data(world: World) -> Path:
    folder = world.folder / "data"
    folder.mkdir(exist_ok=True)
    chats = [
        {"id": t.id, "messages": [{"role": m.role, "content": m.content} for m in t.messages]}
        for t in world.data.trajectories
    ]
    for teacher, part in (("one", chats[:70]), ("two", [*reversed(chats[:70])])):
        (folder / f"{teacher}.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in part))
    return folder


def _bench(world: World) -> Path:
    """The benchmark without a system prompt, which the template refuses."""
    from experiments.miniature import words

    folder = world.folder / "bench"
    folder.mkdir(exist_ok=True)
    rows = [{"id": f"q{i}", "problem": word, "answer": str(i)} for i, word in enumerate(words.OBJECTS[:40])]
    (folder / "miniature.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def killed(command: Command, folder: Path, kills: int, seed: int = 0) -> list[Trial]:
    """Kill a command at seeded moments, by each signal in turn, and run it again: it must end with the same content."""
    rng, trials = random.Random(f"{command.name} {seed}"), []
    seconds, content = command.whole(folder / "whole")
    for i in range(kills):
        by, moment = list(SIGNALS)[i % len(SIGNALS)], rng.uniform(0, seconds)
        outputs = folder / str(i)
        process = command.start(outputs)
        try:
            _, said = process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            process.send_signal(by)
            _, said = process.communicate()
        done = process.returncode == -by and _content(outputs) == content  # Python has no handlers left as it exits
        found = "" if done else _of_signal(process.returncode, by, said) or _going_on(command, outputs, content)
        trials.append(Trial(f"kills: {command.name}", f"{by.name} after {moment:.1f} s", found, not found))
    return trials


def _going_on(command: Command, outputs: Path, content: str) -> str:
    """What is wrong with what the same command makes of what was begun; nothing where it is the whole content."""
    try:
        again = command.whole(outputs)[1]
    except AssertionError as error:
        return f"does not go on: {last_line(str(error))}"
    return "" if again == content else "another content"


def _of_signal(status: int, by: signal.Signals, said: str) -> str:
    """What is wrong with the end of a process that was sent a signal; nothing where it was over before."""
    if status == 0 or (by is signal.SIGKILL and status == -by):
        return ""
    last = last_line(said)
    if "Traceback" in said:
        return "a traceback"
    return "" if status == 128 + by and last.startswith(SIGNALS[by]) else f"status {status}: {last}"


def last_line(said: str) -> str:
    """What a record keeps of what a command said: of a traceback the error, and no places of this machine."""
    return said.rstrip().rpartition("\n")[2]


def on_small_disks(command: Command, folder: Path, sizes: Sequence[int] = SIZES) -> list[Trial]:
    """Run a command where files may not grow beyond a size: it ends in one line, and with room it goes on."""
    _, content = command.whole(folder / "whole")
    trials = []
    for size in sizes:
        outputs = folder / str(size)
        process = command.start(outputs, size)
        _, said = process.communicate()
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        one_line = process.returncode == 1 and len(errors) == 1 and "Traceback" not in said
        found = "" if process.returncode == 0 or one_line else f"status {process.returncode}: {last_line(said)}"
        found = found or _going_on(command, outputs, content)
        trials.append(Trial(f"full disk: {command.name}", f"{size} bytes a file", found, not found))
    return trials


def table(trials: Sequence[Trial]) -> list[list[str]]:
    """A line for each kind: how many were tried, and how many were right."""
    kinds: Mapping[str, list[Trial]] = {
        kind: [trial for trial in trials if trial.kind == kind] for kind in dict.fromkeys(t.kind for t in trials)
    }
    return [[kind, str(len(of)), str(sum(trial.right for trial in of))] for kind, of in kinds.items()]
