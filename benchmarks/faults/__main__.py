"""Try every damage, kill, full disk, bad setting, odd name and injection, and say what became of them.

    python -m benchmarks.faults

Works in a temporary folder, for half an hour. Writes results/benchmarks/faults.md. Exit status 1: something is wrong.
"""

import sys
import tempfile
from collections import Counter
from datetime import date
from pathlib import Path

from benchmarks.faults import commands, damage, injections, names, settings
from benchmarks.faults.commands import Trial
from benchmarks.faults.damage import Case, Outcome
from benchmarks.faults.stages import World
from experiments.app.result_folder import inert, markdown_list, markdown_table
from experiments.app.shared_configs import ROOT

SLOW = {"data", "trained"}  # of many files: one flipped bit each
KILLS = 6  # of each command


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        world = World(Path(temporary))
        cases, trials = _damaged(world), _tried(world)
    _say("settings")
    refusals = settings.tried(settings.commands())
    wrong = [f"{c.stage}: {c.file}, {c.damage}: {c.outcome} {c.said}" for c in cases if c.outcome in damage.WRONG]
    wrong += [f"{trial.kind}: {trial.case}: {trial.found}" for trial in trials if not trial.right]
    wrong += [f"{name} {override}: {found}" for name, override, found in refusals if found != settings.REFUSED]
    outcomes = Counter(
        found if found in (settings.REFUSED, settings.TAKEN) else "a traceback" for *_, found in refusals
    )
    text = "\n\n".join(
        [
            "# The battery of faults",
            f"{date.today()}, `python -m benchmarks.faults`.",
            markdown_table(["stage", "damage", "cases", *Outcome], damage.table(cases)),
            markdown_table(["bad overrides", *outcomes], [[str(len(refusals)), *map(str, outcomes.values())]]),
            markdown_table(["tried", "cases", "right"], commands.table(trials)),
            markdown_list(wrong),
        ]
    )
    (ROOT / "results" / "benchmarks" / "faults.md").write_text(inert(text) + "\n", encoding="utf-8")
    print(text)
    sys.exit(bool(wrong))


def _damaged(world: World) -> list[Case]:
    cases = []
    for i, subject in enumerate(damage.subjects(world)):
        _say(f"damage to {subject.name}")
        flips = 1 if subject.folder in SLOW else damage.FLIPS
        cases += damage.tried(subject, world.folder / "damage" / str(i), flips=flips)
    return cases


def _tried(world: World) -> list[Trial]:
    trials = []
    for command in commands.commands(world):
        _say(f"kills and full disks of {command.name}")
        trials += commands.killed(command, world.folder / "kills" / command.name, KILLS)
        trials += commands.on_small_disks(command, world.folder / "disks" / command.name)
    _say("odd names")
    trials += names.tried(world, world.folder / "names")
    _say("injections")
    return trials + injections.tried(world, world.folder / "injections")


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
