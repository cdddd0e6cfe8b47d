"""The one exception for what a user can mend, what is said of others, and text that is safe to print."""

import re
import sys

HIDDEN = "***"  # stands for a key
AROUND = 100  # characters shown on each side of one that cannot be written
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # but newline and tab
# In URLs: user and password, and the values of parameters that hold a secret by their names. In commands: values of such options.
KEYS = re.compile(
    r"""(?<=://)[^\s/'"]+(?=@)|((?<=[?&])[^\s=&]*(?:key|token|secret|password|signature)[^\s=&]*=|"""
    r"""--(?:[\w-]+-)?(?:key|token|secret|password)[ =]+)[^\s&'"]+""",
    re.IGNORECASE,
)


def printable(text: str) -> str:
    """Text whose control characters are shown as their escapes, so that data cannot steer a terminal."""
    return CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


def without_keys(text: str) -> str:
    """Text in whose URLs and commands no password, key or token shows."""
    return KEYS.sub(lambda found: (found[1] or "") + HIDDEN, text)


def hides_key(text: str) -> bool:
    """Whether a key was taken out of a text: a record has it so, and nothing can be reached with it."""
    return any(found.group() == (found[1] or "") + HIDDEN for found in KEYS.finditer(text))


class InputError(ValueError):
    """Bad input: one line that names the file, line, sample or key, and the mend.

    Entry points print its message without a traceback and exit with a non-zero status.
    """

    def __str__(self) -> str:
        return printable(without_keys(super().__str__()))


def check_text(name: str) -> None:
    """Refuse a name that is no UTF-8 text, which no record and no other computer could hold.

    Raises:
        InputError: it is none.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{name!r} is no UTF-8 text: give it a name that is") from error


def in_one_line(error: BaseException) -> str | None:
    """What is said of an error that is of the input or the machine; None of one that is a fault of this program."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory: a lower token budget or maximum length needs less"
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported for its name
        return "out of memory on the device: a lower token budget or maximum length needs less"
    if isinstance(error, UnicodeEncodeError):
        around = error.object[max(0, error.start - AROUND) : error.end + AROUND]
        return printable(f"{around!r} is no UTF-8 text: give it a name that is")
    if isinstance(error, OSError):
        return printable(without_keys(f"{error.filename or 'standard output'}: {error.strerror or error}"))
    return None


def show_any_text() -> None:
    """Show what a terminal's encoding lacks as its escape, where printing it would be an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
