"""Read trajectories: chats in which a teacher answers a problem.

A *dataset* is what one teacher wrote in one generation, a file of JSON (a list), JSON Lines or Parquet. A *folder* of
datasets is laid out teacher/generation.json or holds one file per teacher; a hub repository of that layout works the
same. Shards (NAME-00000-of-00002.parquet) are one dataset. Messages stay in their file until they are asked for. Records may be

* {"messages": [{"role", "content"}, ...]}, the list possibly as a string holding a JSON or Python literal;
* ShareGPT: {"conversations": [{"from": "human" | "gpt" | "system", "value"}, ...]};
* Alpaca: {"instruction", "input"?, "output", "history"?};

each with an optional "system" (the first message), "id", "answer" and "correct" (true or false). An assistant message may carry its
reasoning apart, as API exports do, in "reasoning_content", "reasoning" or "thinking"; it becomes
"<think>\\n{reasoning}\\n</think>\\n\\n{content}". Fields that change what was said or seen, such as tools, are refused; of what else a
message holds a dataset knows the names.
"""

import ast
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

from rsr.data.messages import ASKING, Message, Role
from rsr.data.records import SUFFIXES, FileRecords
from rsr.data.shards import name_of, refuse_splits, together
from rsr.errors import InputError

BESIDE = ("manifest.json", "dataset_info.json")  # what lies beside trajectories and holds none
RELEASED = "selected_by_rsr"  # the folder of Umean/RSR_data beside those of teachers: what was selected from them
KNOWN = ("system", "user", "assistant")
SHAREGPT_ROLES: dict[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
}
REASONING = ("reasoning_content", "reasoning", "thinking")
# What a student would have to see or be trained on otherwise, and does not.
NOT_READ = ("tools", "functions", "images", "videos", "audios", "documents", "chat_template_kwargs", "system_prompt")
NOT_READ_OF_MESSAGE = ("tool_calls", "function_call", "tool_call_id", "refusal", "images", "videos", "audio")
TEXT_PARTS = (None, "text", "input_text", "output_text")
OnError = Literal["error", "skip"]
Advance = Callable[[int, int], None]  # told of the characters and tokens that are done since the last call
Shape = Literal["messages", "conversations", "alpaca"]


class StoredMessages(Sequence[Message]):
    """The messages of a record of a file. They are read each time that they are asked for, and kept by nobody.

    Attributes:
        characters: length of all of them together.
    """

    def __init__(self, records: FileRecords, row: int, characters: int) -> None:
        self._records, self._row = records, row
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
        record = self._records[self._row]
        return _messages(record, _turns(record))

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
        row: place of its record among the records that were read, from 0.
        tools: JSON text of each tool that the assistant may call, as chat templates want it:
            {"type": "function", "function": {"name", "description", "parameters"}}.
    """

    id: str
    problem: str
    messages: Sequence[Message]
    answer: str | None = None
    correct: bool | None = None
    row: int = 0
    tools: tuple[str, ...] = ()

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
        unread: names of fields of messages that are not read.
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


# --- finding files -------------------------------------------------------------------------------------------------


def local(source: str | Path) -> Path:
    """Where the files of a source lie; those of a hub repository ("hub:OWNER/NAME", or "hub:OWNER/NAME@REVISION") are
    downloaded.

    Raises:
        InputError: the hub cannot be reached, or has no such repository.
    """
    if isinstance(source, str) and source.startswith("hub:"):
        return _download(source.removeprefix("hub:"))
    return Path(source)


def find(source: str | Path) -> list[tuple[str, str, Path]]:
    """The datasets of a source (see `local`): teacher, generation, file. A folder `RELEASED` beside those of teachers is none.

    Raises:
        InputError: there is nothing at that place, or nothing readable in it; the hub cannot be reached.
    """
    path = local(source)
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise InputError(f"{path}: trajectories are read from {', '.join(SUFFIXES)} files")
        return [(name_of(path), "", path)]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    files = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.name not in BESIDE)
    files = [
        p for p in files if not any(part.startswith(".") or part == RELEASED for part in p.relative_to(path).parts)
    ]
    if not files:
        raise InputError(f"{path}: holds no {', '.join(SUFFIXES)} file")
    for folder in dict.fromkeys(p.parent for p in files):
        refuse_splits(folder, (name_of(p) for p in files if p.parent == folder))
    files_by_name: dict[tuple[str, str], Path] = {}
    for p in (p for p in files if p == together(p)[0]):
        name = (name_of(p), "") if p.parent == path else ("/".join(p.relative_to(path).parts[:-1]), name_of(p))
        if name in files_by_name:
            raise InputError(f"{files_by_name[name]} and {p} are the same teacher and generation: keep one of them")
        files_by_name[name] = p
    return [(teacher, generation, p) for (teacher, generation), p in files_by_name.items()]


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    patterns = [f"**/*{suffix}" for suffix in SUFFIXES] + [f"*{suffix}" for suffix in SUFFIXES]
    try:
        found = snapshot_download(repository, repo_type="dataset", revision=revision or None, allow_patterns=patterns)
        return Path(found)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"hub:{name}: cannot be downloaded ({reason}); a local copy can be given as a folder"
        ) from error


def read(path: Path, teacher: str, generation: str = "", *, on_error: OnError = "error") -> Dataset:
    """Read one file of trajectories.

    Raises:
        InputError: the file cannot be read or holds nothing, or, under on_error="error", the first malformed record,
            named by file and line (for Parquet by row).
    """
    return stored(FileRecords(path), teacher, generation, on_error=on_error)


def stored(file: FileRecords, teacher: str, generation: str = "", *, on_error: OnError = "error") -> Dataset:
    """Make a dataset of the records of a file, whose messages stay there.

    Raises:
        InputError: see `read`.
    """
    return parse(file.scan(), teacher, generation, on_error=on_error, source=str(file.path), file=file)


def parse(
    records: Iterable[tuple[str, Any]],
    teacher: str,
    generation: str = "",
    *,
    on_error: OnError = "error",
    source: str = "records",
    file: FileRecords | None = None,
) -> Dataset:
    """Make a dataset of records (mappings), each with a text that says where it comes from.

    Args:
        file: where the records stay, so that their messages need not be kept.

    Raises:
        InputError: see `read`.
    """
    trajectories: list[Trajectory] = []
    skipped: list[Skipped] = []
    occurrences: Counter[str] = Counter()
    seen: set[str] = set()
    unread: set[str] = set()
    for row, (where, record) in enumerate(records):
        try:
            trajectory = replace(_trajectory(record, occurrences, unread), row=row)
            if trajectory.id in seen:
                raise InputError(f"a second record with the id {trajectory.id!r}: make ids unique or leave them out")
        except InputError as error:
            if on_error == "error":
                raise InputError(f"{where}: {error}") from error
            skipped.append(Skipped(where, str(error)))
            continue
        seen.add(trajectory.id)
        if file is not None:
            trajectory = replace(trajectory, messages=StoredMessages(file, row, trajectory.characters))
        trajectories.append(trajectory)
    if not trajectories:
        problem = f"all {len(skipped)} records are malformed, the first: {skipped[0].reason}" if skipped else "is empty"
        raise InputError(f"{source}: {problem}")
    return Dataset(teacher, generation, tuple(trajectories), tuple(skipped), tuple(sorted(unread)))


# --- records to trajectories ---------------------------------------------------------------------------------------


def _trajectory(record: Any, occurrences: Counter[str], unread: set[str]) -> Trajectory:
    if not isinstance(record, Mapping):
        raise InputError(f"a record is an object with 'messages', not {_kind(record)}")
    turns = _turns(record)
    unread.update(name for turn in turns for name in _unread(turn))
    messages = _messages(record, turns)
    # The key counts every record that has a prompt, kept or not, so that skipping one shifts no other.
    prompt = json.dumps([m.row() for m in messages if m.role in ASKING], ensure_ascii=True)
    prompt_hash = hashlib.sha256(prompt.encode()).hexdigest()[:16]
    key = f"{prompt_hash}-{occurrences[prompt_hash]}"
    occurrences[prompt_hash] += 1
    given = record.get("id")
    if given is not None and (not isinstance(given, str | int) or given == ""):
        raise InputError(f"'id' is text or a number, not {_kind(given)}")
    _encodable(str(given), "'id'")
    if messages[0].role == "assistant":
        raise InputError("the chat starts with the assistant: there is no prompt to answer")
    replies = [m for m in messages if m.role == "assistant"]
    if not replies:
        raise InputError("no assistant message: there is nothing to score")
    if any(not m.content.strip() for m in replies):
        raise InputError("an assistant message is empty")
    answer, correct = record.get("answer"), record.get("correct")
    if correct is not None and not isinstance(correct, bool):
        raise InputError(f"'correct' is true or false, not {_kind(correct)}")
    for name, value in record.items():
        _check_text(value, f"'{name}'")
        _encodable(str(name), "the name of a field")
    identity = key if given is None else str(given)
    return Trajectory(identity, identity, tuple(messages), None if answer is None else str(answer), correct)


def shape(record: Mapping[str, Any]) -> Shape:
    """The format of a record.

    Raises:
        InputError: it is none of the known ones.
    """
    if "messages" in record:
        return "messages"
    if "conversations" in record:
        return "conversations"
    if "instruction" in record and "output" in record:
        return "alpaca"
    raise InputError(
        f"no 'messages', 'conversations' or 'instruction' with 'output'; it has {', '.join(record) or 'nothing'}"
    )


def _turns(record: Mapping[str, Any]) -> list[Any]:
    """The turns of a record as they stand in it; Alpaca's are put in the form of messages."""
    form = shape(record)
    _refuse(record, NOT_READ if form == "alpaca" else (*NOT_READ, "history"), "the record")
    return _alpaca(record) if form == "alpaca" else as_list(record[form], form)


def _messages(record: Mapping[str, Any], turns: Sequence[Any]) -> list[Message]:
    parse_one = _sharegpt if shape(record) == "conversations" else _message
    messages = [parse_one(turn, i) for i, turn in enumerate(turns)]
    system = _text(record.get("system") or "", "'system'")
    if not system or messages[0] == Message("system", system):
        return messages
    if messages[0].role == "system":
        raise InputError("'system' and the system message of the chat differ: keep one of them")
    return [Message("system", system), *messages]


def _unread(turn: Any) -> list[str]:
    """Names of a turn's fields that hold something and are not read."""
    read = ("role", "content", "from", "value", *REASONING)
    return [name for name, value in turn.items() if name not in read and value] if isinstance(turn, Mapping) else []


def _refuse(fields: Mapping[str, Any], names: Iterable[str], whose: str) -> None:
    """Refuse what changes a chat and is not read."""
    for name in names:
        if fields.get(name) and str(fields[name]).strip() not in ("[]", "{}", "null"):
            raise InputError(f"{whose} has {name!r}, which is not read: leave such records out, or remove the field")


def as_list(value: Any, name: str) -> list[Any]:
    """A list of a record, which may be kept as text.

    Raises:
        InputError: it is no list, or empty.
    """
    if isinstance(value, str):
        value = _literal(value, name)
    if not isinstance(value, list):
        raise InputError(f"'{name}' is a list, not {_kind(value)}")
    if not value:
        raise InputError(f"'{name}' is empty")
    return value


def _literal(text: str, name: str) -> Any:
    """A list kept as text: JSON, or a Python literal (evaluated as data, never as code)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise InputError(f"'{name}' is text but neither JSON nor a Python literal: {text[:40]!r}") from error


def _message(message: Any, index: int) -> Message:
    if not isinstance(message, Mapping):
        raise InputError(f"message {index} is an object with 'role' and 'content', not {_kind(message)}")
    role = message.get("role")
    if role not in KNOWN:
        raise InputError(f"message {index} has the role {role!r}; known are {', '.join(KNOWN)}")
    _refuse(message, NOT_READ_OF_MESSAGE, f"message {index}")
    content = message.get("content")
    spoken = "" if content is None and role == "assistant" else _text(content, f"the content of message {index}")
    return Message(role, _reasoning(message, role, index) + spoken)


def _reasoning(message: Mapping[str, Any], role: str, index: int) -> str:
    """What an assistant message carries apart, in its tags."""
    given = {name: _text(message[name], f"{name!r} of message {index}") for name in REASONING if message.get(name)}
    if not given:
        return ""
    if role != "assistant":
        raise InputError(f"message {index} is the {role}'s and has {next(iter(given))!r}")
    if len(set(given.values())) > 1:
        raise InputError(f"{' and '.join(map(repr, given))} of message {index} differ: keep one of them")
    return f"<think>\n{next(iter(given.values()))}\n</think>\n\n"


def _text(content: Any, what: str) -> str:
    if isinstance(content, str):
        return _encodable(content, what)
    if isinstance(content, list) and all(map(_is_text_part, content)):
        return _encodable("".join(part["text"] for part in content), what)
    raise InputError(f"{what} is text, not {_kind(content)}")


def _is_text_part(part: Any) -> bool:
    return isinstance(part, Mapping) and isinstance(part.get("text"), str) and part.get("type") in TEXT_PARTS


def _encodable(text: str, what: str) -> str:
    """JSON can spell half of a character (a lone surrogate), which no tokenizer and no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{what} holds half a character, {text[error.start]!r}") from error
    return text


def _check_text(value: Any, what: str) -> None:
    """The same of all that a field holds: what is not scored is written into selections."""
    if isinstance(value, str):
        _encodable(value, what)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            _encodable(str(key), f"a key in {what}")
            _check_text(part, what)
    elif isinstance(value, list):
        for part in value:
            _check_text(part, what)


def _sharegpt(message: Any, index: int) -> Message:
    if not isinstance(message, Mapping):
        raise InputError(f"turn {index} is an object with 'from' and 'value', not {_kind(message)}")
    role = SHAREGPT_ROLES.get(str(message.get("from")))
    if role is None:
        raise InputError(f"turn {index} is from {message.get('from')!r}; known are {', '.join(SHAREGPT_ROLES)}")
    _refuse(message, NOT_READ_OF_MESSAGE, f"turn {index}")
    return Message(role, _reasoning(message, role, index) + _text(message.get("value"), f"the content of turn {index}"))


def _alpaca(record: Mapping[str, Any]) -> list[Any]:
    """The earlier questions and answers of its history, then its own."""
    history = record.get("history") or []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise InputError("'history' is a list of pairs, a question and its answer")
    question, given, answer = (_text(record.get(name) or "", repr(name)) for name in ("instruction", "input", "output"))
    own = ("\n".join(part for part in (question, given) if part), answer)
    return [
        {"role": role, "content": content}
        for pair in (*history, own)
        for role, content in zip(("user", "assistant"), pair, strict=True)
    ]


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", type(None): "null", bool: "true/false"}
    return names.get(type(value), f"a {type(value).__name__}")
