"""Odd names of students, teachers and folders, which shells, Hydra, polars and Markdown have their own ideas of."""

import json
import shutil
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import polars as pl

import rsr.cli
from benchmarks.faults.commands import Trial, last_line
from benchmarks.faults.stages import World

NAMES = (
    *(
        "gpt[v2]",
        "[a-z]*",
        "one, two",
        "it's",
        'say "so"',
        "a{b}c",
        "(x",
        "x=y",
        "a:b",
        "50%",
        "$HOME",
        "~",
        "a b",
        "?",
        "*",
    ),
    *(
        "модель",
        "学生",
        "é",
        "e\u0301",
        "🦜",
        "\u202ekcab",
        "null",
        "true",
        "1e3",
        "none",
        "all",
        "'",
        "#1",
        "-x",
        "=1+1",
        "..x",
    ),
    "x" * 200,
    "\udcff",  # a byte that is no UTF-8, as Python spells it
)


def tried(world: World, folder: Path, names: Sequence[str] = NAMES) -> list[Trial]:
    """Score, rank, select and inspect under each name, and score by the experiment; what is no UTF-8 is refused in one line."""
    return [trial for i, name in enumerate(names) for trial in _under(world, folder / str(i), name)]


def _under(world: World, folder: Path, name: str) -> list[Trial]:
    student, data, outputs = folder / name, folder / "data" / name, folder / f"{name}.out"
    shutil.copytree(world.student, student)
    data.mkdir(parents=True)
    for teacher in (name, "other"):
        chats = [
            {"id": t.id, "correct": True, "messages": [{"role": m.role, "content": m.content} for m in t.messages]}
            for t in world.data.trajectories[:3]
        ]
        (data / f"{teacher}.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    given = ["--student", student, data, "--dtype", "float32"]
    kept = ["--outputs", outputs]
    new = folder / f"{name}.new"
    typed = {
        "rsr score": ["score", *given, *kept],
        "rsr rank": ["rank", *given, *kept],
        "rsr select": ["select", *given, *kept, "-o", new],
        "rsr report": ["report", *given, *kept, "-o", folder / f"{name}.html"],
        "rsr inspect": ["inspect", *given, "--trajectory", f"{name}:p1"],
    }
    trials = []
    for verb, arguments in typed.items():
        status, said = _run(arguments)
        trials.append(_trial(verb, name, status, said, _teachers(outputs)))
    place = f"paths.outputs={folder / (name + '.exp')}"
    status, said = _experiment([f"student={student}", f"teachers={data}", place, "scoring.dtype=float32"])
    return [*trials, _trial("score.py", name, status, said, _teachers(folder / f"{name}.exp"))]


def _trial(verb: str, name: str, status: int | str, said: str, teachers: set[str]) -> Trial:
    if "\udcff" in name:
        found = "" if status == 1 and said.count("error: ") == 1 and "no UTF-8 text" in said else f"status {status}"
    elif name.startswith("."):  # a hidden file
        found = "" if "not read" in said or (status == 1 and said.count("error: ") == 1) else "it is passed over unsaid"
    elif status != 0:
        found = f"status {status}: {last_line(said)}"
    else:
        found = "" if verb == "rsr inspect" or teachers == {name, "other"} else f"teachers {sorted(teachers)}"
    return Trial(f"odd names: {verb}", name, found, not found)


def _teachers(outputs: Path) -> set[str]:
    tables = [path / "datasets.parquet" for path in (outputs / "scores").iterdir()] if outputs.is_dir() else []
    return {name for table in tables for name in pl.read_parquet(table, glob=False)["teacher"]}


def _run(arguments: Sequence[object]) -> tuple[int | str, str]:
    said = StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        try:
            return rsr.cli.run([str(argument) for argument in arguments]), said.getvalue()
        except Exception as error:
            return "a traceback", f"{type(error).__name__}: {error}"


def _experiment(options: list[str]) -> tuple[int | str, str]:
    from experiments import score

    typed, said = sys.argv, StringIO()
    sys.argv = ["experiments/score.py", *options]
    try:
        with redirect_stdout(said), redirect_stderr(said):
            score.main()
        return 0, said.getvalue()
    except SystemExit as ended:
        return ended.code or 0, said.getvalue()
    except Exception as error:
        return "a traceback", f"{type(error).__name__}: {error}"
    finally:
        sys.argv = typed
