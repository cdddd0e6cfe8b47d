"""The one exception for what a user can mend, and text that is safe to print."""

import re

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # but newline and tab


def printable(text: str) -> str:
    """Text whose control characters are shown as their escapes, so that data cannot steer a terminal."""
    return CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


class InputError(ValueError):
    """Bad input: one line that names the file, line, sample or key, and the mend.

    Entry points print its message without a traceback and exit with a non-zero status.
    """

    def __str__(self) -> str:
        return printable(super().__str__())
