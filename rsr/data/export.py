"""Write a training set as its sources were: the records unchanged, in their format, with what trainers want beside it."""

import hashlib
import io
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from rsr.data.formats.chats import FORMATS, SYSTEM, Shape, shape
from rsr.data.formats.turns import CALLERS, CONTENT, REASONING, SPEAKER, SPEAKERS
from rsr.data.messages import Message
from rsr.data.trajectories import Trajectory
from rsr.errors import InputError
from rsr.store.artefacts import HALF_WRITTEN, MANIFEST, writing
from rsr.store.csv import write_csv

TRAIN, INFO = "train", "dataset_info.json"
NAME = "rsr_selection"  # of the entry in dataset_info.json
# What LLaMA-Factory finds turns by, the words of whom it may hear, and the usual ones.
SPOKEN_BY = {
    "user_tag": ("user", "human"),
    "assistant_tag": ("assistant", "gpt"),
    "system_tag": ("system", "system"),
    "observation_tag": ("tool", "observation"),
    "function_tag": ("function_call", "function_call"),
}
ANSWERS: dict[Shape, dict[str, str]] = {  # records of a question and its answer, by LLaMA-Factory's names
    "alpaca": {
        "prompt": "instruction",
        "query": "input",
        "response": "output",
        "system": "system",
        "history": "history",
    },
    "prompt": {"prompt": "prompt", "response": "completion", "system": "system"},
    "problem": {"prompt": "problem", "response": "solution", "system": "system"},
}


def as_messages(trajectory: Trajectory) -> dict[str, Any]:
    """A trajectory as it was scored: reasoning in its tags, content as text, calls and tools as chat templates want them."""
    if trajectory.images:
        raise InputError(f"trajectory {trajectory.id}: has images, which its record alone holds: take --format records")
    messages = [_as_dict(message) for message in trajectory.messages]
    answer = {} if trajectory.answer is None else {"answer": trajectory.answer}
    tools = {"tools": trajectory.tool_schemas} if trajectory.tools else {}
    weight = {} if trajectory.weight is None else {"weight": trajectory.weight}
    return {"id": trajectory.id, "messages": messages} | tools | answer | weight


def _as_dict(message: Message) -> dict[str, Any]:
    """A message with its reasoning in tags: a trainer whose template knows no reasoning would drop what is kept apart."""
    if message.reasoning is None:
        return message.as_dict()
    spoken = replace(message, tool_calls=()).text
    return replace(message, reasoning=None, content=spoken).as_dict()


def suffix_for(trajectories: Iterable[Trajectory], suffix: str) -> str:
    """What a file of messages ends in: a table has the arguments of all calls in all its rows, so that calls are not written there."""
    calls = any(t.tools or any(message.tool_calls for message in t.messages) for t in trajectories)
    return ".jsonl" if suffix == ".parquet" and calls else suffix


def encode(records: Sequence[Any], suffix: str) -> Iterator[bytes]:
    """Records as the content of a file, part by part.

    Raises:
        InputError: the columns of the records do not fit into one Parquet file; nothing is written in that format.
    """
    lines = (json.dumps(record, ensure_ascii=False).encode() for record in records)
    if suffix == ".parquet":
        yield _parquet(records)
    elif suffix == ".json":
        yield b"[\n" + next(lines)
        for line in lines:
            yield b",\n" + line
        yield b"\n]\n"
    elif suffix == ".jsonl":
        for line in lines:
            yield line + b"\n"
    else:
        raise InputError(f"no training set is written as {suffix}: as .json, .jsonl or .parquet")


def _parquet(records: Sequence[Any]) -> bytes:
    buffer = io.BytesIO()
    try:
        pl.DataFrame(list(records), infer_schema_length=None).write_parquet(buffer)
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(f"the records do not fit into one Parquet file: {reason}") from error
    return buffer.getvalue()


def dataset_info(records: Sequence[Mapping[str, Any]], file_name: str) -> dict[str, Any]:
    """The entry of a dataset_info.json of LLaMA-Factory; none for prompts of messages, which it does not read."""
    form = shape(records[0])
    if form == "prompt" and not isinstance(records[0]["prompt"], str):
        return {}
    if form in ANSWERS:
        return {NAME: {"file_name": file_name, "columns": _present(ANSWERS[form], records)}}
    columns = _present({"messages": form, **{name: name for name in ("system", "tools")}}, records)
    tags = _tags(records[0]) | {tag: word for record in records for tag, word in _tags(record).items()}
    # Calls beside the content are read in the form that is named after OpenAI; those in turns of their own in ShareGPT's.
    calls = any(turn.get("tool_calls") for record in records for turn in _turns(record))
    return {
        NAME: {
            "file_name": file_name,
            "formatting": "openai" if calls else "sharegpt",
            "columns": columns,
            "tags": tags | ({"function_tag": "function_call"} if calls else {}),
        }
    }


def _present(columns: Mapping[str, str], records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The columns that records have, by LLaMA-Factory's names."""
    return {theirs: ours for theirs, ours in columns.items() if any(ours in record for record in records)}


def _turns(record: Mapping[str, Any]) -> list[Any]:
    return FORMATS[shape(record)].turns(record)


def _tags(record: Mapping[str, Any]) -> dict[str, str]:
    """The words by which turns are told apart in a record. Those of user, assistant and system are always said."""
    turns = _turns(record)
    role, content = (next((name for name in names if name in turns[0]), names[0]) for names in (SPEAKER, CONTENT))
    words: dict[str, set[str]] = {tag: set() for tag in SPOKEN_BY}
    for turn in turns:
        word = str(turn.get(role))
        speaker = "function_call" if word in CALLERS else SPEAKERS[word]
        tag = next((tag for tag, (speakers, _) in SPOKEN_BY.items() if speakers == speaker), "system_tag")
        words[tag].add(word)
    usual = {"user_tag", "assistant_tag", "system_tag"}
    of_messages = {tag: speaker for tag, (speaker, _) in SPOKEN_BY.items()}
    of_sharegpt = {tag: word for tag, (_, word) in SPOKEN_BY.items()}
    default = of_messages if role == "role" else of_sharegpt
    told = {tag: " and ".join(sorted(found)) or default[tag] for tag, found in words.items() if found or tag in usual}
    return {"role_tag": role, "content_tag": content, **told}


def kept_apart(record: Mapping[str, Any]) -> set[str]:
    """Fields beside the turns, and beside their content, that belong to what was scored."""
    if shape(record) in ANSWERS:
        return {name for name in REASONING if record.get(name)}
    turns = _turns(record)
    return {name for name in REASONING if any(turn.get(name) for turn in turns)} | {*SYSTEM, "functions"} & {*record}


def check_shapes(records: Sequence[Mapping[str, Any]]) -> None:
    """Refuse records of more than one shape, or of turns that are not told apart by the same words, or that no trainer reads.

    Raises:
        InputError: they are mixed, or none.
    """
    mend = "--format messages writes all as messages"
    shapes: list[str] = sorted({shape(record) for record in records})
    if shapes == ["steps"]:
        raise InputError(f"the selected records are trajectories of agents, which no trainer takes as they are: {mend}")
    if shapes == ["prompt"] and any(not isinstance(record["prompt"], str) for record in records):
        return  # TRL's own, which LLaMA-Factory knows nothing of
    if len(shapes) == 1 and shapes[0] not in ANSWERS:
        shapes = sorted({"turns from {user_tag}, {assistant_tag}".format(**_tags(record)) for record in records})
    if len(shapes) > 1 or " and " in shapes[0]:
        raise InputError(
            f"the selected records have mixed formats ({', '.join(shapes)}), which no trainer takes as one dataset: {mend}"
        )


def write(
    folder: Path,
    content: Iterable[bytes],
    suffix: str,
    tables: Mapping[str, pl.DataFrame],
    facts: Mapping[str, Any],
    *,
    beside: Mapping[str, str],
) -> Path:
    """Write a training set; the same one is found, another is never overwritten.

    Args:
        content: of the file, part by part.
        tables: written as CSV beside it, by name.
        facts: the manifest, which is written last, with the digest of the content.
        beside: texts of further files, by name.

    Returns:
        The file of the training set.

    Raises:
        InputError: the folder holds something else, or cannot be written.
    """
    file = folder / f"{TRAIN}{suffix}"
    hasher = hashlib.sha256()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        for part in content:
            hasher.update(part)
        _check_same(folder, file, _manifest(facts, hasher.hexdigest()))
        return file
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(HALF_WRITTEN, f".{folder.name}.", folder.parent) as temporary:
            new = Path(temporary) / folder.name
            new.mkdir()
            with (new / file.name).open("wb") as written:
                for part in content:
                    hasher.update(part)
                    written.write(part)
            for name, table in tables.items():
                write_csv(table, new / f"{name}.csv")
            for name, text in beside.items():
                (new / name).write_text(text, encoding="utf-8")
            (new / MANIFEST).write_text(_json(_manifest(facts, hasher.hexdigest())), encoding="utf-8")
            if folder.exists():
                folder.rmdir()  # it is empty
            new.rename(folder)
    return file


def _manifest(facts: Mapping[str, Any], sha256: str) -> Any:
    """As it is read back."""
    return json.loads(json.dumps({**facts, "sha256": sha256}))


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _check_same(folder: Path, file: Path, manifest: Mapping[str, Any]) -> None:
    try:
        same = json.loads((folder / MANIFEST).read_text(encoding="utf-8")) == manifest
        same = same and hashlib.sha256(file.read_bytes()).hexdigest() == manifest["sha256"]
    except (OSError, ValueError):
        same = False
    if not same:
        raise InputError(f"{folder}: holds something else already: take another output folder, or remove it")
