"""Try every damage and every bad setting, and say what became of them.

    python -m benchmarks.faults

Works in a temporary folder, for some minutes. Writes results/benchmarks/faults.md. Exit status 1: something is wrong.
"""

import sys
import tempfile
from collections import Counter
from datetime import date
from pathlib import Path

from benchmarks.faults import damage, settings
from benchmarks.faults.damage import Outcome
from benchmarks.faults.stages import World
from experiments.app.result_folder import markdown_table
from experiments.app.shared_configs import ROOT

SLOW = {"data", "trained"}  # of many files: one flipped bit each


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        world, cases = World(Path(temporary)), []
        for i, subject in enumerate(damage.subjects(world)):
            print(f"damaging {subject.name}", file=sys.stderr, flush=True)
            flips = 1 if subject.folder in SLOW else damage.FLIPS
            cases += damage.tried(subject, Path(temporary) / str(i), flips=flips)
    print("trying settings", file=sys.stderr, flush=True)
    refusals = settings.tried(settings.commands())
    wrong = [f"{c.stage}: {c.file}, {c.damage}: {c.outcome} {c.said}" for c in cases if c.outcome in damage.WRONG]
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
            *wrong,
        ]
    )
    (ROOT / "results" / "benchmarks" / "faults.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
