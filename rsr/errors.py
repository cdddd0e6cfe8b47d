"""The one exception for what a user can mend."""


class InputError(ValueError):
    """Bad input: one line that names the file, line, sample or key, and the mend.

    Entry points print its message without a traceback and exit with a non-zero status.
    """
