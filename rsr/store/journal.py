"""A journal: the records of a stage are kept one by one, so that a kill loses the one in flight at most.

A line is the digest of a record and the record as JSON. A line that is not what was written, such as the last one of a process that was
killed, is passed over: its record is made again.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsr.store.artefacts import writing


class Journal:
    """Records in a file of an incomplete artefact.

    Raises:
        InputError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            torn = path.is_file() and not path.read_bytes().endswith(b"\n")
            if torn:
                self._write(b"\n")

    def append(self, record: Mapping[str, Any]) -> None:
        """Keep a record of plain values.

        Raises:
            InputError: it cannot be written.
        """
        content = json.dumps(record, ensure_ascii=True).encode()
        with writing(self.path):
            self._write(_digest(content) + b" " + content + b"\n")

    def records(self) -> list[dict[str, Any]]:
        """All records that are whole, in the order in which they were kept."""
        lines = self.path.read_bytes().split(b"\n") if self.path.is_file() else []
        parts = (line.partition(b" ") for line in lines)
        return [json.loads(content) for digest, _, content in parts if content and digest == _digest(content)]

    def _write(self, content: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(content)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
