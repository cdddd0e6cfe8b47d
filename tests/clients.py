"""The command line as a user runs it, and small data to run it on."""

import json
import random
import subprocess
import sys
from pathlib import Path

PROMPT = "Problem {i}: what is 40 + 2, said the {i}th time?"


def rsr(*arguments, cwd, **options):
    command = [sys.executable, "-m", "rsr", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, timeout=300, **({"text": True} | options))


def chat(i, reply, **fields):
    return fields | {
        "messages": [{"role": "user", "content": PROMPT.format(i=i)}, {"role": "assistant", "content": reply}]
    }


def sharegpt(i, reply, **fields):
    turns = [{"from": "human", "value": PROMPT.format(i=i)}, {"from": "gpt", "value": reply}]
    return fields | {"conversations": turns}


def alpaca(i, reply, **fields):
    return fields | {"instruction": PROMPT.format(i=i), "input": "", "output": reply}


def replies(teacher, n, text="1 + 2 = 3. ", right=lambda i: True):
    """Replies of different length that end in a boxed answer, right (42) or wrong."""
    rng = random.Random(teacher)
    return [text * rng.randint(1, 9) + rf"\boxed{{{42 if right(i) else 41}}}" for i in range(n)]


def write(path, records):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        path.write_text(json.dumps(records))
    return path


def teachers(folder, n=6, make=chat, suffix=".json"):
    """Two teachers on the same problems: one wrong on every other problem, one wordy and right."""
    for name, text, right in (
        ("terse", "1 + 2 = 3. ", lambda i: i % 2),
        ("wordy", "Perhaps, perhaps not. ", lambda i: True),
    ):
        given = replies(name, n, text, right)
        write(folder / name / f"gen1{suffix}", [make(i, r, id=f"p{i}", answer="42") for i, r in enumerate(given)])
    return folder
