"""Runs a command for as long as its parent lives: `python guard.py COMMAND...`, its standard input a pipe of the parent's.

However the parent ends, the pipe closes then, and the command ends with all processes of its group. So no server keeps a GPU.
"""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

PATIENCE = 30  # seconds to end by itself


def main() -> None:
    command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_end_with_parent, args=(command,), daemon=True).start()
    status = command.wait()
    _send(command, signal.SIGKILL)  # to what it has left behind
    sys.exit(status)


def _end_with_parent(command: "subprocess.Popen[bytes]") -> None:
    while os.read(0, 1024):  # nothing is written: it returns when the pipe closes
        pass
    _send(command, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        command.wait(PATIENCE)
    _send(command, signal.SIGKILL)


def _send(command: "subprocess.Popen[bytes]", what: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(command.pid, what)


if __name__ == "__main__":
    main()
