"""The study: a command a table or figure, and the rooms that serve them."""

import os
import signal
import sys
from contextlib import suppress
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

# Python puts the folder of a script first on the path. From there a script such as train.py would hide the package
# `train`, so the folder is taken off; the scripts import what they share as `experiments.<module>`.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]

ENDED = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}  # as `rsr` says it


def _end(by: int, *_: Any) -> None:
    """Ctrl-C, or a scheduler's signal, ends a command at once, at any moment; its jobs end with it, and a file is either whole or not there."""
    with suppress(Exception):
        sys.stdout.flush()
    show_cursor = "\x1b[?25h" if os.isatty(2) else ""  # which a progress bar hides
    os.write(
        2, f"{show_cursor}{ENDED[signal.Signals(by)]}: what is finished is kept, the same command goes on\n".encode()
    )
    os._exit(128 + by)


if Path(sys.argv[0]).resolve().parent == _HERE:  # a command, not a library
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")  # it would tell of what the end leaves to it
    if parent_process() is None:
        for number in ENDED:
            signal.signal(number, _end)
    else:  # a job ends with its command
        signal.signal(signal.SIGINT, signal.SIG_IGN)
