"""Read trajectories: chats in which a teacher answers a problem.

A *dataset* is what one teacher wrote in one generation, a file of JSON (a list), JSON Lines or Parquet. A *folder* of
datasets is laid out teacher/generation.json (as in Umean/RSR_data) or holds one file per teacher; a hub repository of
that layout works the same. Records may be

* {"messages": [{"role", "content"}, ...]}, the list possibly as a string holding a JSON or Python literal;
* ShareGPT: {"conversations": [{"from": "human" | "gpt" | "system", "value"}, ...]};
* Alpaca: {"instruction", "input"?, "output", "system"?};

each with an optional "id", "answer" and "correct" (true or false). An assistant message may carry its reasoning apart, as API exports do, in
"reasoning_content" or "thinking"; it becomes "<think>\\n{reasoning}\\n</think>\\n\\n{content}".
"""

import ast
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import polars as pl

from rsr.errors import InputError

SUFFIXES = (".json", ".jsonl", ".parquet")
BESIDE = ("manifest.json", "dataset_info.json")  # what lies beside trajectories and holds none
ENCODING = "utf-8-sig"  # with or without the byte-order mark that editors under Windows write
ROLES = ("system", "user", "assistant")
SHAREGPT_ROLES = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
OnError = Literal["error", "skip"]
Advance = Callable[[int, int], None]  # told of the characters and tokens that are done since the last call
Shape = Literal["messages", "conversations", "alpaca"]


@dataclass(frozen=True)
class Message:
    role: str
    content: str


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
    """

    id: str
    problem: str
    messages: tuple[Message, ...]
    answer: str | None = None
    correct: bool | None = None
    row: int = 0

    @property
    def characters(self) -> int:
        """Length of all messages together: what progress is counted in."""
        return sum(len(m.content) for m in self.messages)


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
    """

    teacher: str
    generation: str
    trajectories: tuple[Trajectory, ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def name(self) -> str:
        return dataset_name(self.teacher, self.generation)

    def digest(self) -> str:
        """SHA-256 of ids, problem keys and messages in their order: equal for equal content in any file format."""
        hasher = hashlib.sha256()
        for t in self.trajectories:
            row = [t.id, t.problem, [[m.role, m.content] for m in t.messages]]
            hasher.update(json.dumps(row, ensure_ascii=True).encode())
        return hasher.hexdigest()


def dataset_name(teacher: str, generation: str) -> str:
    """How a dataset is called: "teacher/generation", or the teacher alone where it has no generations."""
    return f"{teacher}/{generation}" if generation else teacher


# --- finding files -------------------------------------------------------------------------------------------------


def find(source: str | Path) -> list[tuple[str, str, Path]]:
    """The datasets of a file, a folder or a hub repository ("hub:OWNER/NAME"): teacher, generation, file.

    Raises:
        InputError: there is nothing at that place, or nothing readable in it; the hub cannot be reached.
    """
    if isinstance(source, str) and source.startswith("hub:"):
        return find(_download(source.removeprefix("hub:")))
    path = Path(source)
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise InputError(f"{path}: trajectories are read from {', '.join(SUFFIXES)} files")
        return [(path.stem, "", path)]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    files = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.name not in BESIDE)
    files = [p for p in files if not any(part.startswith(".") for part in p.relative_to(path).parts)]
    if not files:
        raise InputError(f"{path}: holds no {', '.join(SUFFIXES)} file")
    files_by_name: dict[tuple[str, str], Path] = {}
    for p in files:
        name = (p.stem, "") if p.parent == path else ("/".join(p.relative_to(path).parts[:-1]), p.stem)
        if name in files_by_name:
            raise InputError(f"{files_by_name[name]} and {p} are the same teacher and generation: keep one of them")
        files_by_name[name] = p
    return [(teacher, generation, p) for (teacher, generation), p in files_by_name.items()]


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = [f"**/*{suffix}" for suffix in SUFFIXES] + [f"*{suffix}" for suffix in SUFFIXES]
    try:
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=patterns))
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
    return parse(records(path), teacher, generation, on_error=on_error, source=str(path))


def parse(
    records: Iterable[tuple[str, Any]],
    teacher: str,
    generation: str = "",
    *,
    on_error: OnError = "error",
    source: str = "records",
) -> Dataset:
    """Make a dataset of records (mappings), each with a text that says where it comes from.

    Raises:
        InputError: see `read`.
    """
    trajectories: list[Trajectory] = []
    skipped: list[Skipped] = []
    occurrences: Counter[str] = Counter()
    seen: set[str] = set()
    for row, (where, record) in enumerate(records):
        try:
            trajectory = replace(_trajectory(record, occurrences), row=row)
            if trajectory.id in seen:
                raise InputError(f"a second record with the id {trajectory.id!r}: make ids unique or leave them out")
        except InputError as error:
            if on_error == "error":
                raise InputError(f"{where}: {error}") from error
            skipped.append(Skipped(where, str(error)))
            continue
        seen.add(trajectory.id)
        trajectories.append(trajectory)
    if not trajectories:
        problem = f"all {len(skipped)} records are malformed, the first: {skipped[0].reason}" if skipped else "is empty"
        raise InputError(f"{source}: {problem}")
    return Dataset(teacher, generation, tuple(trajectories), tuple(skipped))


# --- files to records ----------------------------------------------------------------------------------------------


def records(path: Path) -> Iterator[tuple[str, Any]]:
    """The records of a file, each with the text that says where it stands.

    Raises:
        InputError: the file cannot be read.
    """
    if path.suffix == ".parquet":
        yield from _parquet_records(path)
        return
    try:
        text = path.read_text(encoding=ENCODING)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if path.suffix == ".jsonl":
        yield from json_lines(text, str(path))
    else:
        yield from _json_list(path, text)


def _parquet_records(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        frame = pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from error
    for row, record in enumerate(frame.iter_rows(named=True)):
        yield f"{path}, row {row}", {key: value for key, value in record.items() if value is not None}


def json_lines(text: str, source: str) -> Iterator[tuple[str, Any]]:
    """The records of JSON Lines.

    Raises:
        InputError: a line is not JSON.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield f"{source}, line {number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{source}, line {number}: not valid JSON: {_reason(error)}") from error


def _json_list(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    """Decode record by record, so that each is known by its line."""
    decoder, position, line, counted = json.JSONDecoder(), _skip_space(text, 0), 1, 0
    if text[position : position + 1] != "[":
        start = repr(text[position : position + 20]) if text.strip() else "nothing"
        raise InputError(f"{path}: a JSON file holds a list of records, this one starts with {start}")
    position = _skip_space(text, position + 1)
    while text[position : position + 1] != "]":
        line += text.count("\n", counted, position)
        counted = position
        try:
            record, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {line}: not valid JSON: {_reason(error)}") from error
        yield f"{path}, line {line}", record
        position = _skip_space(text, position)
        if text[position : position + 1] == ",":
            position = _skip_space(text, position + 1)
        elif text[position : position + 1] != "]":
            raise InputError(f"{path}, line {line}: the list is not closed (is the file cut off?)")
    rest = _skip_space(text, position + 1)
    if rest < len(text):
        line += text.count("\n", counted, rest)
        raise InputError(f"{path}, line {line}: there is more text after the end of the list")


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} (line {error.lineno})"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


# --- records to trajectories ---------------------------------------------------------------------------------------


def _trajectory(record: Any, occurrences: Counter[str]) -> Trajectory:
    if not isinstance(record, Mapping):
        raise InputError(f"a record is an object with 'messages', not {_kind(record)}")
    messages = _messages(record)
    # The key counts every record that has a prompt, kept or not, so that skipping one shifts no other.
    prompt = json.dumps([[m.role, m.content] for m in messages if m.role != "assistant"], ensure_ascii=True)
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


def _messages(record: Mapping[str, Any]) -> list[Message]:
    form = shape(record)
    if form == "alpaca":
        return _alpaca(record)
    parse_one = _message if form == "messages" else _sharegpt
    return [parse_one(m, i) for i, m in enumerate(_as_list(record[form], form))]


def _as_list(value: Any, name: str) -> list[Any]:
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
    if role not in ROLES:
        raise InputError(f"message {index} has the role {role!r}; known are {', '.join(ROLES)}")
    content = _text(message.get("content"), index, may_be_missing=role == "assistant")
    reasoning = message.get("reasoning_content") or message.get("thinking")
    if reasoning is not None and role == "assistant":
        content = f"<think>\n{_text(reasoning, index)}\n</think>\n\n{content}"
    return Message(role, content)


def _text(content: Any, index: int, *, may_be_missing: bool = False) -> str:
    if isinstance(content, str):
        return _encodable(content, f"the content of message {index}")
    if content is None and may_be_missing:
        return ""
    if isinstance(content, list) and all(isinstance(p, Mapping) and isinstance(p.get("text"), str) for p in content):
        return _encodable("".join(part["text"] for part in content), f"the content of message {index}")
    raise InputError(f"the content of message {index} is text, not {_kind(content)}")


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
    return Message(role, _text(message.get("value"), index))


def _alpaca(record: Mapping[str, Any]) -> list[Message]:
    parts = {name: _text(record.get(name) or "", 0) for name in ("system", "instruction", "input", "output")}
    user = "\n".join(part for part in (parts["instruction"], parts["input"]) if part)
    system = [Message("system", parts["system"])] if parts["system"] else []
    return [*system, Message("user", user), Message("assistant", parts["output"])]


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", type(None): "null", bool: "true/false"}
    return names.get(type(value), f"a {type(value).__name__}")
