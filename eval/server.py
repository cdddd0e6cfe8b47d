"""A server of one model, started by a command, awaited, watched and stopped."""

import http.client
import logging
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from rsr.errors import InputError

HOST = "127.0.0.1"
START_LIMIT = 1800.0  # seconds to load the weights
LOOK = 0.25  # seconds between two looks whether it answers
RESTARTS = 3
STOP_LIMIT = 60.0  # seconds, then it is killed
LAST = 5  # lines of its log in a message
LOG = logging.getLogger(__name__)


class Server:
    """A context manager: inside it the server answers at `url`; a server that ends is started again.

    Args:
        command: with {model} and {port}, and with {revision} where the model has one.
        model: folder or hub name.
        log: file for what it prints.

    Raises:
        InputError: there is no such program, or it lacks the revision.
    """

    def __init__(self, command: str, model: str, revision: str | None, log: Path) -> None:
        if revision is not None and "{revision}" not in command:
            raise InputError(
                f"the model has the revision {revision}, which evaluation.server does not say: add --revision {{revision}}"
            )
        self.model, self.log, self.port = model, log, _free_port()
        values = {"{model}": model, "{port}": str(self.port), "{revision}": revision or ""}
        self._command = [_filled(part, values) for part in shlex.split(command)]
        if shutil.which(self._command[0]) is None:
            raise InputError(f"evaluation.server: there is no program {self._command[0]}")
        self._process: subprocess.Popen[bytes] | None = None
        self._restarts = 0

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/v1"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def watch(self) -> None:
        """Start it again where it has ended.

        Raises:
            InputError: it has ended too often, with the last lines of its log.
        """
        assert self._process is not None
        status = self._process.poll()
        if status is None:
            return
        if self._restarts == RESTARTS:
            raise InputError(self._said(f"ended {RESTARTS + 1} times, at last with status {status}"))
        self._restarts += 1
        LOG.warning("the server of %s has ended with status %s and is started again (%s)", self.model, status, self.log)
        self._start()

    def _start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        guard = [sys.executable, str(Path(__file__).with_name("guard.py")), *self._command]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                guard, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        deadline = time.monotonic() + START_LIMIT
        while not _answers(self.port):
            status = self._process.poll()
            if status is not None:
                raise InputError(self._said(f"ended with status {status} before it answered"))
            if time.monotonic() > deadline:
                raise InputError(self._said(f"has not answered for {START_LIMIT:.0f} seconds"))
            time.sleep(LOOK)

    def _stop(self) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()  # which the guard sees
        try:
            self._process.wait(STOP_LIMIT)
        finally:
            self._process.kill()

    def _said(self, what: str) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-LAST:]
        return f"the server {shlex.join(self._command)} {what}; its log, {self.log}, ends in: {' | '.join(lines)}"


def _filled(part: str, values: dict[str, str]) -> str:
    """Not by `format`: options may hold JSON."""
    for name, value in values.items():
        part = part.replace(name, value)
    return part


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    """Whether a server answers a request for its models, even if it wants a key."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/v1/models")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
