"""Write a training set as its sources were: the records unchanged, in their format, with what trainers want beside it."""

import hashlib
import io
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, assert_never

import polars as pl

from rsr.data.trajectories import REASONING, SHAREGPT_ROLES, Trajectory, as_list, shape
from rsr.errors import InputError
from rsr.store.artefacts import MANIFEST, writing

TRAIN, INFO = "train", "dataset_info.json"
NAME = "rsr_selection"  # of the entry in dataset_info.json
TAGS = ("role_tag", "content_tag", "user_tag", "assistant_tag", "system_tag")  # what LLaMA-Factory finds turns by


def as_messages(trajectory: Trajectory) -> dict[str, Any]:
    """A trajectory as it was scored: reasoning in its tags, content as text."""
    messages = [{"role": m.role, "content": m.content} for m in trajectory.messages]
    answer = {} if trajectory.answer is None else {"answer": trajectory.answer}
    return {"id": trajectory.id, "messages": messages} | answer


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
    """The entry of a dataset_info.json of LLaMA-Factory."""
    form = shape(records[0])
    if form == "alpaca":
        columns = {"prompt": "instruction", "query": "input", "response": "output"}
        columns |= {name: name for name in ("system", "history")}
        return {NAME: {"file_name": file_name, "columns": _present(columns, records)}}
    if form != "messages" and form != "conversations":
        assert_never(form)  # LLaMA-Factory must be told how a new format is laid out
    columns = _present({"messages": form, "system": "system"}, records)
    tags = dict(zip(TAGS, _tags(records[0]), strict=True))
    return {NAME: {"file_name": file_name, "formatting": "sharegpt", "columns": columns, "tags": tags}}


def _present(columns: Mapping[str, str], records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The columns that records have, by LLaMA-Factory's names."""
    return {theirs: ours for theirs, ours in columns.items() if any(ours in record for record in records)}


def _tags(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The words by which turns are told apart in a record, in the order of `TAGS`."""
    if shape(record) == "messages":
        return ("role", "content", "user", "assistant", "system")
    speakers = {str(turn["from"]) for turn in as_list(record["conversations"], "conversations")}
    theirs = [
        {word for word in speakers if SHAREGPT_ROLES[word] == role} or {default}
        for role, default in (("user", "human"), ("assistant", "gpt"), ("system", "system"))
    ]
    return ("from", "value", *(" and ".join(sorted(words)) for words in theirs))


def kept_apart(record: Mapping[str, Any]) -> set[str]:
    """Fields beside the turns, and beside their content, that belong to what was scored."""
    form = shape(record)
    if form == "alpaca":
        return set()
    turns = as_list(record[form], form)
    return {name for name in REASONING if any(turn.get(name) for turn in turns)} | {"system"} & {*record}


def check_shapes(records: Sequence[Mapping[str, Any]]) -> None:
    """Refuse records of more than one shape, or of turns that are not told apart by the same words.

    Raises:
        InputError: they are mixed.
    """
    shapes: list[str] = sorted({shape(record) for record in records})
    if shapes == ["conversations"]:
        shapes = sorted({"turns from " + ", ".join(_tags(record)[2:4]) for record in records})
    if len(shapes) > 1 or " and " in shapes[0]:
        raise InputError(
            f"the selected records have mixed formats ({', '.join(shapes)}), which no trainer takes as one dataset: "
            "--format messages writes all as messages"
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
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
            new = Path(temporary) / folder.name
            new.mkdir()
            with (new / file.name).open("wb") as written:
                for part in content:
                    hasher.update(part)
                    written.write(part)
            for name, table in tables.items():
                table.write_csv(new / f"{name}.csv")
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
