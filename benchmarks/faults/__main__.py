"""Try every damage, kill, full disk, bad setting, odd name and injection, and say what became of them.

    python -m benchmarks.faults                         # all, more than an hour
    python -m benchmarks.faults settings injections     # some parts
    python -m benchmarks.faults damage --one-of 4       # a quarter of the cases of a part, drawn by --seed

Works in a temporary folder. Writes results/benchmarks/faults/PART.md when a part is over. Exit status 1: something is wrong.
"""

import argparse
import math
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TypeVar

from benchmarks.faults import commands, damage, injections, names, settings
from benchmarks.faults.commands import Command, Trial
from benchmarks.faults.stages import World
from experiments.app.result_folder import inert, markdown_list, markdown_table, provenance
from experiments.app.shared_configs import ROOT

FOLDER = ROOT / "results" / "benchmarks" / "faults"
SLOW = {"data", "trained"}  # of many files: one flipped bit each
KILLS = 6  # of each command
T = TypeVar("T")


@dataclass(frozen=True)
class Draw:
    """Some of the cases of a part.

    Attributes:
        one_of: takes one of so many, 1 all.
    """

    one_of: int
    seed: int

    def some(self, cases: Sequence[T]) -> list[T]:
        chosen = random.Random(self.seed).sample(range(len(cases)), math.ceil(len(cases) / self.one_of))
        return [cases[i] for i in sorted(chosen)]


Found = tuple[str, list[str]]  # a table, and what is wrong


def damages(world: World, draw: Draw) -> Found:
    cases = []
    for i, subject in enumerate(damage.subjects(world)):
        _say(f"damage to {subject.name}")
        flips = 1 if subject.folder in SLOW else damage.FLIPS
        folder = world.folder / "damage" / str(i)
        cases += damage.tried(subject, folder, flips=flips, seed=draw.seed, some=draw.some)
    wrong = [f"{c.stage}: {c.file}, {c.damage}: {c.outcome} {c.said}" for c in cases if c.outcome in damage.WRONG]
    return markdown_table(["stage", "damages", *damage.Outcome], damage.table(cases)), wrong


def kills(world: World, draw: Draw) -> Found:
    number = math.ceil(KILLS / draw.one_of)
    return _of_commands(world, "kills", lambda command, folder: commands.killed(command, folder, number, draw.seed))


def disks(world: World, draw: Draw) -> Found:
    sizes = draw.some(commands.SIZES)
    return _of_commands(world, "disks", lambda command, folder: commands.on_small_disks(command, folder, sizes))


def _of_commands(world: World, part: str, tried: Callable[[Command, Path], list[Trial]]) -> Found:
    trials = []
    for command in commands.commands(world):
        _say(command.name)
        try:
            trials += tried(command, world.folder / part / command.name)
        except AssertionError as error:  # it fails by itself
            trials.append(Trial(f"{part}: {command.name}", "undisturbed", str(error)[-300:], False))
    return _of_trials(trials)


def odd_names(world: World, draw: Draw) -> Found:
    return _of_trials(names.tried(world, world.folder / "names", draw.some(names.NAMES)))


def injected(world: World, draw: Draw) -> Found:
    return _of_trials(injections.tried(world, world.folder / "injections"))


def bad_settings(world: World, draw: Draw) -> Found:
    refusals = settings.tried(draw.some(settings.overrides()))
    outcomes = Counter(
        found if found in (settings.REFUSED, settings.TAKEN) else "a traceback" for *_, found in refusals
    )
    counts = [str(outcomes[outcome]) for outcome in (settings.REFUSED, settings.TAKEN, "a traceback")]
    table = markdown_table(
        ["bad overrides", "refused in one line", "taken", "a traceback"], [[str(len(refusals)), *counts]]
    )
    return table, [f"{name} {given}: {found}" for name, given, found in refusals if found != settings.REFUSED]


PARTS: dict[str, Callable[[World, Draw], Found]] = {
    "settings": bad_settings,
    "injections": injected,
    "damage": damages,
    "names": odd_names,
    "kills": kills,
    "disks": disks,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; none are all")
    parser.add_argument("--one-of", type=int, default=1, help="takes one of so many cases; injections are always all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no part: {', '.join(sorted(unknown))}")
    draw = Draw(arguments.one_of, arguments.seed)
    wrong = [line for part in arguments.parts or PARTS for line in _written(part, draw)]
    sys.exit(bool(wrong))


def _written(part: str, draw: Draw) -> list[str]:
    """Try a part and write what came of it; what is wrong."""
    _say(part)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        table, wrong = PARTS[part](World(Path(temporary)), draw)
    share = "all cases" if draw.one_of == 1 else f"one of {draw.one_of} cases, seed {draw.seed}"
    commit, seconds = provenance()["commit"], time.monotonic() - began
    run = f"{date.today()}, commit {commit}, {share}, {seconds:.0f} s."
    FOLDER.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join([f"# Faults: {part}", run, table, markdown_list(wrong)])
    (FOLDER / f"{part}.md").write_text(inert(text.rstrip()) + "\n", encoding="utf-8")
    print(text)
    return wrong


def _of_trials(trials: Sequence[Trial]) -> Found:
    wrong = [f"{trial.kind}: {trial.case}: {trial.found}" for trial in trials if not trial.right]
    return markdown_table(["tried", "cases", "right"], commands.table(trials)), wrong


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
