"""Damage to every file of an artefact of every stage, and what becomes of it when the stage is run again."""

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from unittest.mock import patch

from benchmarks.faults.stages import World
from rsr.errors import InputError
from rsr.store.locks import FOLDER as LOCKS

FLIPS = 4  # places of each file where one bit is flipped


class Outcome(StrEnum):
    """What becomes of damage; the last two are wrong."""

    SEEN = "seen, in one line"
    ANEW = "made anew"
    SAME = "read with the same content"
    TRACEBACK = "a traceback"
    WRONG = "another content"


WRONG = (Outcome.TRACEBACK, Outcome.WRONG)


@dataclass(frozen=True)
class Case:
    """A file that was damaged in some way.

    Attributes:
        said: the line, or the error.
    """

    stage: str
    file: str
    damage: str
    outcome: Outcome
    said: str = ""


@dataclass(frozen=True)
class Subject:
    """What is damaged.

    Attributes:
        folder: in outputs, of the artefact.
        run: makes it below a folder of outputs, or finds it, and gives its content.
        killed: whether it is damaged as a kill has left it, before it had its name.
    """

    folder: str
    run: Callable[[Path], str]
    killed: bool = False

    @property
    def name(self) -> str:
        return f"{self.folder}, begun" if self.killed else self.folder

    def prepare(self, root: Path) -> str:
        """Make it; its content."""
        content = self.run(root)
        if self.killed:
            shutil.rmtree(root)
            # The last thing that is done to a folder is to give it its name.
            with suppress(KeyboardInterrupt), patch.object(Path, "rename", side_effect=KeyboardInterrupt):
                self.run(root)
        return content


def subjects(world: World) -> list[Subject]:
    """Artefacts of every stage that runs on any machine, those first that take seconds."""
    return [
        Subject("tokens", world.tokens),
        Subject("tokens", world.tokens, killed=True),
        Subject("scores", world.scores),
        Subject("text", world.text),
        Subject("text", world.text, killed=True),
        Subject("known", world.known),
        Subject("samples", world.grades),
        Subject("grades", world.grades),
        Subject("verified", world.verified),
        Subject("data", world.made_data),
        Subject("trained", world.trained),
    ]


def damages(content: bytes, rng: random.Random, flips: int) -> Iterator[tuple[str, bytes | None]]:
    """Ways to damage a file: their names, and what is left of it."""
    yield "removed", None
    if content:
        yield "emptied", b""
        yield "cut", content[: rng.randrange(1, max(2, len(content)))]
        for _ in range(flips):
            at = rng.randrange(len(content))
            yield "flipped", content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def tried(
    subject: Subject,
    folder: Path,
    *,
    flips: int = FLIPS,
    seed: int = 0,
    some: Callable[[Sequence[Path]], list[Path]] = list,
) -> list[Case]:
    """Every damage to files of a subject.

    Args:
        folder: of outputs, made here.
        some: chooses the files.
    """
    rng, whole = random.Random(seed), folder / "whole"
    content = subject.prepare(whole)
    files = sorted(path for path in (whole / subject.folder).rglob("*") if path.is_file())
    cases = []
    for path in some(files):
        for damage, left in damages(path.read_bytes(), rng, flips):
            root = folder / "damaged"
            shutil.copytree(whole, root, ignore=shutil.ignore_patterns(LOCKS))
            damaged = root / path.relative_to(whole)
            if left is None:
                damaged.unlink()
            else:
                damaged.write_bytes(left)
            outcome, said = _outcome(subject, root, damaged, left, content)
            cases.append(Case(subject.name, path.relative_to(whole).name, damage, outcome, said))
            shutil.rmtree(root)
    return cases


def _outcome(subject: Subject, root: Path, damaged: Path, left: bytes | None, content: str) -> tuple[Outcome, str]:
    try:
        found = subject.run(root)
    except InputError as error:
        in_one_line = "\n" not in str(error) and "remove " in str(error)
        return (Outcome.SEEN if in_one_line else Outcome.TRACEBACK), str(error)
    except Exception as error:
        return Outcome.TRACEBACK, f"{type(error).__name__}: {error}"
    if found != content:
        return Outcome.WRONG, ""
    untouched = not subject.killed and (damaged.read_bytes() if damaged.exists() else None) == left
    return (Outcome.SAME if untouched else Outcome.ANEW), ""


def table(cases: Sequence[Case]) -> list[list[str]]:
    """A line for each subject: how many cases, and what became of them."""
    rows = []
    for stage in dict.fromkeys(case.stage for case in cases):
        of = [case for case in cases if case.stage == stage]
        counts = [sum(case.outcome is outcome for case in of) for outcome in Outcome]
        rows.append([stage, str(len(of)), *map(str, counts)])
    return rows
