"""Calls between two processes that trust each other with nothing but values: how tests use a program that runs elsewhere.

A call, what it is given and what it returns are JSON. Numbers, text and containers arrive as copies of the same type, and of a
type of one's own as its base: so nothing that arrives decides by itself what it equals. Any other object stays where it is, and is
`Remote` in the other process. What is changed in a list, dictionary or set that a call is given is changed for the caller, too.

The standard library only: programs run in a process that has no other.
"""

import builtins
import json
import operator
import os
import struct
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from typing import Any, NoReturn

LARGEST = 2**28  # bytes of a message
_LENGTH = struct.Struct("<Q")

# Types that are made of their items, and types that are made of a few parts.
_OF_ITEMS: dict[type, Callable[[Any], Iterable[Any]]] = {
    dict: dict.items,
    **dict.fromkeys((list, tuple, set, frozenset, bytes, bytearray, deque), iter),
}
_OF_PARTS: dict[type, Callable[[Any], Sequence[Any]]] = {
    complex: lambda v: (v.real, v.imag),
    range: lambda v: (v.start, v.stop, v.step),
    Fraction: lambda v: (v.numerator, v.denominator),
    Decimal: lambda v: (str(v),),
}
_TYPES = {kind.__name__: kind for kind in (*_OF_ITEMS, *_OF_PARTS)}
_NUMBER, _MINE, _YOURS = (
    "number",
    "mine",
    "yours",
)  # besides them: a long integer, an object of the sender, of the receiver
_RENEWED = (list, bytearray, dict, set, deque)  # types whose values change


class Lost(BaseException):
    """The other process has ended, or says what makes no sense."""


class Peer:
    """This end of a pair of pipes.

    Args:
        reader, writer: descriptors.
        offered: what the other process may call from the beginning, by its place.

    Attributes:
        lost: whether the other process was lost at any time, whoever has caught `Lost`.
    """

    def __init__(self, reader: int, writer: int, offered: Iterable[Any] = ()) -> None:
        self._reader, self._writer = reader, writer
        self._offered = list(offered)
        self.lost = False

    def serve(self) -> NoReturn:
        """Answer calls.

        Raises:
            Lost: there is nobody left to answer.
        """
        while True:
            self._answer(*self._received()[1:])

    def ask(self, place: int, given: Sequence[Any], named: Mapping[str, Any] | None = None) -> Any:
        """Call what the other process has in a place, and meanwhile answer its calls.

        Raises:
            Lost: it gives no answer.
            BaseException: what the call has raised there, as the language's own kind of it.
        """
        self._send(["call", place, self._packed(list(given)), self._packed(dict(named or {}))])
        while (message := self._received())[0] == "call":
            self._answer(*message[1:])
        kind, *content = message
        if kind == "raised":
            raise self._made(_error, *content)
        value, states = self._made(lambda value, states: (self._unpacked(value), self._unpacked(states)), *content)
        for old, new in zip(given, states, strict=False):
            if type(old) is type(new) and type(old) in _RENEWED:
                _renew(old, new)
        return value

    def _answer(self, place: Any, given: Any, named: Any) -> None:
        try:
            arguments = self._unpacked(given)
            value = self._offered[place](*arguments, **self._unpacked(named))
            states = [argument if type(argument) in _RENEWED else None for argument in arguments]
            message = ["returned", self._packed(value), self._packed(states)]
        except BaseException as error:  # SystemExit as well
            kind = next(base for base in type(error).__mro__ if base.__module__ == builtins.__name__)
            message = ["raised", kind.__name__, str(error)]
        self._send(message)

    # --- messages ----------------------------------------------------------------------------------------------------

    def _send(self, message: Any) -> None:
        content = json.dumps(message).encode()
        left = memoryview(_LENGTH.pack(len(content)) + content)
        try:
            while left:
                left = left[os.write(self._writer, left) :]
        except OSError as error:
            self._lose(error)

    def _received(self) -> list[Any]:
        """The next message, of which it is sure that it has a kind and as many parts."""
        message: list[Any] = self._made(lambda: _message(self._read(self._read_length())))
        return message

    def _read_length(self) -> int:
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size))
        return int(length)

    def _read(self, length: int) -> bytes:
        if length > LARGEST:
            raise ValueError("the message is too long")
        parts = []
        while length:
            part = os.read(self._reader, min(length, 2**20))
            if not part:
                raise EOFError
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def _made(self, make: Callable[..., Any], *parts: Any) -> Any:
        """Something made of what has come; what cannot be made is as if nothing had come."""
        try:
            return make(*parts)
        except MemoryError:
            raise
        except Exception as error:
            self._lose(error)

    def _lose(self, error: Exception) -> NoReturn:
        self.lost = True
        raise Lost from error

    # --- values ------------------------------------------------------------------------------------------------------

    def _packed(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, float, str)):
            return value
        if isinstance(value, int):
            return value if abs(value) < 2**63 else [_NUMBER, hex(value)]
        for kind, items in (*_OF_ITEMS.items(), *_OF_PARTS.items()):
            if isinstance(value, kind):
                return [kind.__name__, *map(self._packed, items(value))]
        if isinstance(value, Remote) and value._peer is self:
            return [_YOURS, value._place]
        self._offered.append(value)
        return [_MINE, len(self._offered) - 1]

    def _unpacked(self, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        kind, *parts = value
        if kind == _NUMBER:
            return int(parts[0], 16)
        if kind == _MINE:
            return Remote(self, *parts)
        if kind == _YOURS:
            return self._offered[parts[0]]
        unpacked, made = [self._unpacked(part) for part in parts], _TYPES[kind]
        return made(unpacked) if made in _OF_ITEMS else made(*unpacked)


def _message(content: bytes) -> list[Any]:
    kind, *parts = json.loads(content)
    if len(parts) != {"call": 3, "returned": 2, "raised": 2}[kind]:
        raise ValueError("the message lacks something")
    return [kind, *parts]


def _renew(old: Any, new: Any) -> None:
    if isinstance(old, list | bytearray):
        old[:] = new
    else:
        old.clear()
        (old.extend if isinstance(old, deque) else old.update)(new)


def _error(name: str, said: str) -> BaseException:
    """An exception of the language's own, by its name."""
    kind = getattr(builtins, name)
    if isinstance(kind, type) and issubclass(kind, BaseException):
        with suppress(TypeError):  # some take more than a text
            return kind(said)
    return RuntimeError(f"{name}: {said}")


class Remote:
    """An object of the other process: what is done with it is done there. It equals itself alone."""

    _peer: Peer
    _place: int

    def __init__(self, peer: Peer, place: int) -> None:
        self.__dict__.update(_peer=peer, _place=place)

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self._peer.ask(self._place, given, named)

    def __getattr__(self, name: str) -> Any:
        return self._ask(getattr, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask(setattr, name, value)

    def __iter__(self) -> Any:
        return self._ask(iter)

    def __next__(self) -> Any:
        return self._ask(next)

    def __len__(self) -> Any:
        return self._ask(len)

    def __bool__(self) -> Any:
        return self._ask(bool)

    def __getitem__(self, key: Any) -> Any:
        return self._ask(operator.getitem, key)

    def _ask(self, operation: Callable[..., Any], *given: Any) -> Any:
        return self._peer.ask(OPERATIONS.index(operation), [self, *given])


# What is done with a remote object; a process that offers objects of its own offers these first, in this order.
OPERATIONS: tuple[Callable[..., Any], ...] = (getattr, setattr, iter, next, len, bool, operator.getitem)
