"""Trajectories: chats in which a teacher answers a problem, and the datasets that they are in.

A *dataset* is what one teacher wrote in one generation, a file of JSON, JSON Lines, Parquet or Arrow. Its messages stay in their file
until they are asked for. Formats of records: `rsr.data.formats`. Each may have an "id", an "answer", whether it is "correct", and a "weight".
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from sys import float_info
from typing import Any, Literal, overload

from rsr.data.formats import chats
from rsr.data.formats.values import check_encodable, encodable, kind
from rsr.data.messages import ASKING, Message
from rsr.data.records import FileRecords
from rsr.errors import InputError

OnError = Literal["error", "skip"]
Advance = Callable[[int, int], None]  # told of the characters and tokens that are done since the last call
Fields = Mapping[str, str]  # our names of a record's fields -> the names that they have there
FIELDS = (
    *("teacher", "generation", "id", "answer", "correct", "weight", "messages", "conversations", "system", "tools"),
    *("instruction", "input", "output", "prompt", "completion", "problem", "solution", "reasoning"),
)


class StoredMessages(Sequence[Message]):
    """The messages of a record of a file. They are read each time that they are asked for, and kept by nobody.

    Attributes:
        characters: length of all of them together.
    """

    def __init__(self, records: FileRecords, row: int, characters: int, fields: Fields) -> None:
        self._records, self._row, self._fields = records, row, fields
        self.characters = characters

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Message]: ...
    def __getitem__(self, index: int | slice) -> Message | Sequence[Message]:
        return self._read()[index]

    def __len__(self) -> int:
        return len(self._read())

    def __iter__(self) -> Iterator[Message]:
        return iter(self._read())

    def _read(self) -> list[Message]:
        return chats.chat(renamed(self._records[self._row], self._fields)).messages

    @cached_property
    def sha256(self) -> str:
        """See `Trajectory.sha256`."""
        return _sha256(self)


@dataclass(frozen=True)
class Trajectory:
    """A chat with at least one assistant turn.

    Attributes:
        id: unique within its dataset; the record's own, or else the problem key.
        problem: key of the problem, equal for all answers to it: the record's id, or else a hash of system and user
            messages with the number of its occurrence in the dataset (prompts may repeat).
        answer: the reference answer to the problem, where known.
        correct: whether the record says that its response is right; None where it does not.
        weight: what the record says that it counts in training, from 0; None where it does not.
        row: place of its record among the records that were read, from 0.
        tools: JSON text of each tool that the assistant may call, as chat templates want it:
            {"type": "function", "function": {"name", "description", "parameters"}}.
        images: number of images in its messages.
    """

    id: str
    problem: str
    messages: Sequence[Message]
    answer: str | None = None
    correct: bool | None = None
    row: int = 0
    tools: tuple[str, ...] = ()
    weight: float | None = None
    images: int = 0

    @property
    def tool_schemas(self) -> list[Any]:
        """Its tools as objects."""
        return [json.loads(tool) for tool in self.tools]

    @property
    def characters(self) -> int:
        """Length of all messages together: what progress is counted in."""
        if isinstance(self.messages, StoredMessages):
            return self.messages.characters
        return sum(len(m.text) for m in self.messages)

    @property
    def final(self) -> int:
        """Index of its last response: a user may have had the last word."""
        return max(i for i, message in enumerate(self.messages) if message.role == "assistant")

    @property
    def sha256(self) -> str:
        """SHA-256 of its messages and tools: equal for equal content."""
        said = self.messages.sha256 if isinstance(self.messages, StoredMessages) else _sha256(self.messages)
        return hashlib.sha256(json.dumps([said, *self.tools]).encode()).hexdigest() if self.tools else said


def _sha256(messages: Iterable[Message]) -> str:
    return hashlib.sha256(json.dumps([m.row() for m in messages], ensure_ascii=True).encode()).hexdigest()


@dataclass(frozen=True)
class Skipped:
    """A record left out: where it stands and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class Dataset:
    """What one teacher wrote in one generation.

    Attributes:
        generation: "" where there is one only.
        skipped: records left out under on_error="skip".
        unread: what was not read of it, in words.
    """

    teacher: str
    generation: str
    trajectories: tuple[Trajectory, ...]
    skipped: tuple[Skipped, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return dataset_name(self.teacher, self.generation)

    def digest(self) -> str:
        """SHA-256 of ids, problem keys, messages and tools in their order: equal for equal content in any file format."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        hasher = hashlib.sha256()
        for t in self.trajectories:
            row = [t.id, t.problem, [m.row() for m in t.messages], *([t.tools] if t.tools else [])]
            hasher.update(json.dumps(row, ensure_ascii=True).encode())
        return hasher.hexdigest()


def dataset_name(teacher: str, generation: str) -> str:
    """How a dataset is called: "teacher/generation", or the teacher alone where it has no generations."""
    return f"{teacher}/{generation}" if generation else teacher


def check_fields(fields: Fields) -> Fields:
    """Refuse to name a field that is not read.

    Raises:
        InputError: one is none of `FIELDS`.
    """
    if unknown := [name for name in fields if name not in FIELDS]:
        raise InputError(f"no field is read as {unknown[0]!r}; those that are: {', '.join(FIELDS)}")
    return fields


def renamed(record: Any, fields: Fields) -> Any:
    """A record with its fields under our names."""
    if not fields or not isinstance(record, Mapping):
        return record
    read_otherwise = {*fields.values()} & {*FIELDS}  # a solution that is called 'answer' is no reference answer
    rest = {name: value for name, value in record.items() if name not in read_otherwise}
    return {**rest, **{ours: record.get(theirs) for ours, theirs in fields.items()}}


def read(
    path: Path, teacher: str, generation: str = "", *, on_error: OnError = "error", fields: Fields | None = None
) -> Dataset:
    """Read one file of trajectories, all of one teacher.

    Raises:
        InputError: the file cannot be read or holds nothing, or, under on_error="error", the first malformed record,
            named by file and line (for Parquet by row).
    """
    (dataset,) = read_all(FileRecords(path), teacher, generation, on_error=on_error, fields=fields, one_teacher=True)
    return dataset


def read_all(
    file: FileRecords,
    teacher: str,
    generation: str = "",
    *,
    on_error: OnError = "error",
    fields: Fields | None = None,
    one_teacher: bool = False,
) -> list[Dataset]:
    """Read the datasets of one file; see `by_teacher`.

    Raises:
        InputError: see there.
    """
    records, source = file.scan(), str(file.path)
    return by_teacher(
        records,
        teacher,
        generation,
        on_error=on_error,
        source=source,
        file=file,
        fields=fields,
        one_teacher=one_teacher,
    )


def parse(
    records: Iterable[tuple[str, Any]], teacher: str, generation: str = "", *, on_error: OnError = "error"
) -> Dataset:
    """Make a dataset of records (mappings) of one teacher, each with a text that says where it comes from.

    Raises:
        InputError: see `read`.
    """
    (dataset,) = by_teacher(records, teacher, generation, on_error=on_error, one_teacher=True)
    return dataset


def by_teacher(
    records: Iterable[tuple[str, Any]],
    teacher: str,
    generation: str = "",
    *,
    on_error: OnError = "error",
    source: str = "records",
    file: FileRecords | None = None,
    fields: Fields | None = None,
    one_teacher: bool = False,
) -> list[Dataset]:
    """Make datasets of records that may be of several teachers: a field "teacher" with several values says whose each is.

    Args:
        teacher, generation: of all records, where they name no several teachers.
        file: where the records stay, so that their messages need not be kept.
        fields: names of the fields; where it names "teacher" or "generation" these are always taken.
        one_teacher: whoever the records name, they are of one.

    Raises:
        InputError: see `read`; or a record names no teacher where others do; or no record has a field that is named.
    """
    fields = check_fields(fields or {})
    readers: dict[tuple[str | None, str | None], _Reader] = {}
    missing, there = set(fields.values()), dict[str, None]()  # their names; those of all records, in their order
    for row, (where, record) in enumerate(records):
        there |= dict.fromkeys(record) if isinstance(record, Mapping) else {}
        named = renamed(record, fields)
        whose = (None, None) if one_teacher else _whose(named, fields)
        if whose not in readers:
            readers[whose] = _Reader(on_error, fields, file)
        readers[whose].add(row, where, named)
    if missing := missing - {*there}:
        raise InputError(f"{source}: no record has a field {min(missing)!r}; they have {', '.join(there)}")
    teachers = {of for of, _ in readers}
    several = len(teachers) > 1 or ("teacher" in fields and not one_teacher)
    if several and None in teachers:
        others = f", and others name {max(filter(None, teachers))!r}" if len(teachers) > 1 else ""
        raise InputError(f"{source}: some records name no teacher{others}")
    if one_teacher or not (several or "generation" in fields):
        (reader,) = readers.values() or [_Reader(on_error, fields, file)]
        return [reader.dataset(teacher, generation, source)]
    return [
        reader.dataset(str(of) if several else teacher, generation if which is None else which, source)
        for (of, which), reader in readers.items()
    ]


def _whose(record: Any, fields: Fields) -> tuple[str | None, str | None]:
    """The teacher and the generation that a record names."""
    named = record if isinstance(record, Mapping) else {}
    return _name(named.get("teacher")), _name(named.get("generation")) if "generation" in fields else None


def _name(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and value != "" else None


class _Reader:
    """Makes a dataset of records, one after the other.

    Args:
        fields: names of the fields in the file; the records that are added have ours.
    """

    def __init__(self, on_error: OnError, fields: Fields, file: FileRecords | None) -> None:
        self._on_error, self._fields, self._file = on_error, fields, file
        self._trajectories: list[Trajectory] = []
        self._skipped: list[Skipped] = []
        self._prompts: Counter[str] = Counter()
        self._ids: set[str] = set()
        self._tools: dict[tuple[str, ...], tuple[str, ...]] = {}  # those of many records are the same, and kept once
        self._unread: Counter[str] = Counter()
        self._unweighted = ""  # where the first record without a weight stands

    def add(self, row: int, where: str, record: Any) -> None:
        """Add a record.

        Raises:
            InputError: it is malformed, under on_error="error".
        """
        try:
            trajectory = self._trajectory(row, record)
            if trajectory.id in self._ids:
                raise InputError(
                    f"a second record with the id {trajectory.id!r}: make ids unique or leave them out, or name the field that tells "
                    "teachers apart (--field teacher=NAME)"
                )
        except InputError as error:
            if self._on_error == "error":
                raise InputError(f"{where}: {error}") from error
            self._skipped.append(Skipped(where, str(error)))
            return
        self._ids.add(trajectory.id)
        if trajectory.weight is None:
            self._unweighted = self._unweighted or where
        if self._file is not None:
            messages = StoredMessages(self._file, row, trajectory.characters, self._fields)
            trajectory = replace(trajectory, messages=messages)
        self._trajectories.append(trajectory)

    def dataset(self, teacher: str, generation: str, source: str) -> Dataset:
        """The dataset of all that was added.

        Raises:
            InputError: there is nothing in it, or some of its records have weights and others have none.
        """
        if not self._trajectories:
            skipped = self._skipped
            first = f"all {len(skipped)} records are malformed, the first: {skipped[0].reason}" if skipped else ""
            raise InputError(f"{source}: {first or 'is empty'}")
        if self._unweighted and any(t.weight is not None for t in self._trajectories):
            raise InputError(
                f"{self._unweighted}: the record has no 'weight', which others have: give one to every record, or to none"
            )
        unread = [f"{name} ({number})" for name, number in sorted(self._unread.items())]
        return Dataset(teacher, generation, tuple(self._trajectories), tuple(self._skipped), tuple(unread))

    def _trajectory(self, row: int, record: Any) -> Trajectory:
        if not isinstance(record, Mapping):
            raise InputError(f"a record is an object with 'messages', not {kind(record)}")
        chat = chats.chat(record)
        tools = self._tools.setdefault(chat.tools, chat.tools)
        # The key counts every record that has a prompt, kept or not, so that skipping one shifts no other.
        prompt = prompt_hash(chat.messages, tools)[:16]
        key = f"{prompt}-{self._prompts[prompt]}"
        self._prompts[prompt] += 1
        identity = _id(record.get("id"), key)
        _check_answers(chat.messages)
        for name, value in record.items():
            check_encodable(value, f"'{name}'")
            encodable(str(name), "the name of a field")
        self._unread.update(chat.unread)
        answer = record.get("answer")
        answer = None if answer is None else str(answer)
        correct, weight = _correct(record.get("correct")), _weight(record.get("weight"))
        images = sum(len(message.images) for message in chat.messages)
        return Trajectory(identity, identity, tuple(chat.messages), answer, correct, row, tools, weight, images)


def prompt_hash(messages: Iterable[Message], tools: Sequence[str]) -> str:
    """SHA-256 of what is asked: of the messages that ask, and of the tools. What a tool answers is the teacher's doing."""
    asked = [*(message.row() for message in messages if message.role in ASKING), *tools]
    return hashlib.sha256(json.dumps(asked, ensure_ascii=True).encode()).hexdigest()


def _id(given: Any, key: str) -> str:
    if given is not None and (not isinstance(given, str | int) or given == ""):
        raise InputError(f"'id' is text or a number, not {kind(given)}")
    return key if given is None else encodable(str(given), "'id'")


def _correct(given: Any) -> bool | None:
    """A verdict: true or false, or 1 or 0, as rewards say it."""
    if given is None or isinstance(given, bool):
        return given
    if isinstance(given, int | float) and given in (0, 1):
        return bool(given)
    raise InputError(f"'correct' is true or false, or 1 or 0, not {given if isinstance(given, float) else kind(given)}")


def _weight(given: Any) -> float | None:
    """What a trajectory counts in training."""
    if given is None:
        return None
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if not number or not 0 <= given <= float_info.max:
        told = given if number else kind(given)
        raise InputError(
            f"'weight' is a number from 0, not {told}: mend it, or rename the field if it means something else"
        )
    return float(given)


def _check_answers(messages: Sequence[Message]) -> None:
    if messages[0].role == "assistant":
        raise InputError("the chat starts with the assistant: there is no prompt to answer")
    replies = [message for message in messages if message.role == "assistant"]
    if not replies:
        raise InputError("no assistant message: there is nothing to score")
    if any(not message.text.strip() for message in replies):
        raise InputError("an assistant message is empty")
