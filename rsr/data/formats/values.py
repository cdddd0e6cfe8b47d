"""Values of records: text, lists that may be kept as text, and fields of several names."""

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rsr.errors import InputError


def kind(value: Any) -> str:
    """What a value is, in words."""
    names = {dict: "an object", list: "a list", str: "text", type(None): "null", bool: "true/false"}
    return names.get(type(value), f"a {type(value).__name__}")


def is_held(value: Any) -> bool:
    """Whether a field holds something: an empty list kept as text holds nothing either."""
    return bool(value) and not (isinstance(value, str) and value.strip() in ("[]", "{}", "null"))


def text(value: Any, what: str) -> str:
    """A text.

    Raises:
        InputError: it is none, or holds half a character.
    """
    if not isinstance(value, str):
        raise InputError(f"{what} is text, not {kind(value)}")
    return encodable(value, what)


def encodable(value: str, what: str) -> str:
    """The text itself. JSON can spell half of a character (a lone surrogate), which no tokenizer and no file can hold.

    Raises:
        InputError: it holds one.
    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{what} holds half a character, {value[error.start]!r}") from error
    return value


def check_encodable(value: Any, what: str) -> None:
    """The same of all that a field holds: what is not scored is written into selections.

    Raises:
        InputError: see `encodable`.
    """
    if isinstance(value, str):
        encodable(value, what)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            encodable(str(key), f"a key in {what}")
            check_encodable(part, what)
    elif isinstance(value, list):
        for part in value:
            check_encodable(part, what)


def as_json(value: Any, what: str) -> str:
    """JSON text of a value.

    Raises:
        InputError: it has none, such as a date in Parquet, or holds half a character.
    """
    try:
        return encodable(json.dumps(value, ensure_ascii=False), what)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{what} cannot be written as JSON: {error}") from error


def as_list(value: Any, what: str) -> list[Any]:
    """A list of a record, which may be kept as text.

    Raises:
        InputError: it is no list, or empty.
    """
    if isinstance(value, str):
        value = literal(value, what)
    if not isinstance(value, list):
        raise InputError(f"{what} is a list, not {kind(value)}")
    if not value:
        raise InputError(f"{what} is empty")
    return value


def literal(given: str, what: str) -> Any:
    """A value kept as text: JSON, or a Python literal (evaluated as data, never as code).

    Raises:
        InputError: it is neither.
    """
    try:
        return json.loads(given)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(given)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise InputError(f"{what} is text but neither JSON nor a Python literal: {given[:40]!r}") from error


def one_of(fields: Mapping[str, Any], names: Sequence[str], whose: str) -> Any:
    """What a field of several names holds; None where none of them holds anything.

    Raises:
        InputError: two of them hold different things.
    """
    first, found = "", None
    for name in names:
        value = fields.get(name)
        if value and found and value != found:
            raise InputError(f"{first!r} and {name!r} of {whose} differ: keep one of them")
        if value and not found:
            first, found = name, value
    return found
