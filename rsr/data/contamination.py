"""Overlap of texts with evaluation sets (contamination): shared sequences of words.

Text is lower-cased and split into runs of letters and digits. A text overlaps with a problem if they share `N` words in a
row (13, as in GPT-3, arXiv 2005.14165, Appendix C); with a problem shorter than that, if it holds the whole of it, from
`SHORTEST` words on. Shorter problems cannot be told from common phrases: they are counted, not compared.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsr.data.files import SUFFIXES, suffix_of
from rsr.data.formats import chats
from rsr.data.records import records
from rsr.errors import InputError

N = 13
SHORTEST = 6
FIELDS = ("problem", "question", "prompt", "instruction", "query", "text")
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class EvaluationSet:
    """Problems of an evaluation set as sets of word sequences.

    Attributes:
        sequences: sequence of words -> the problems (by id, or line) that hold it.
        problems: how many there are.
        too_short: those not compared.
    """

    name: str
    sequences: Mapping[tuple[str, ...], frozenset[str]]
    problems: int
    too_short: int


def read(path: Path) -> EvaluationSet:
    """Read an evaluation set: records with one of `FIELDS`, or chats, in JSON, JSON Lines or Parquet.

    Raises:
        InputError: the file cannot be read, or a record holds no problem.
    """
    check(path)
    sequences: dict[tuple[str, ...], set[str]] = {}
    problems = too_short = 0
    for where, record in records(path):
        identity, problem = _problem(where, record)
        problems += 1
        spoken = list(windows(problem, min(N, len(problem)))) if len(problem) >= SHORTEST else []
        too_short += not spoken
        for sequence in spoken:
            sequences.setdefault(sequence, set()).add(identity)
    if not problems:
        raise InputError(f"{path}: is empty")
    return EvaluationSet(path.name, {s: frozenset(ids) for s, ids in sequences.items()}, problems, too_short)


def check(path: Path) -> None:
    """Refuse what is seen to be no evaluation set.

    Raises:
        InputError: there is no such file, or of another kind.
    """
    if suffix_of(path) not in SUFFIXES or not path.is_file():
        raise InputError(f"{path}: no evaluation set; they are read from {', '.join(SUFFIXES)} files")


def overlapping(texts: Iterable[str], evaluation: EvaluationSet) -> set[str]:
    """The problems of an evaluation set that texts overlap with."""
    lengths = {len(sequence) for sequence in evaluation.sequences}
    problems: set[str] = set()
    for text in texts:
        spoken = words(text)
        for n in lengths:
            for sequence in windows(spoken, n):
                problems |= evaluation.sequences.get(sequence, frozenset())
    return problems


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def windows(words: list[str], n: int) -> Iterator[tuple[str, ...]]:
    """Every n words in a row."""
    return zip(*(words[i:] for i in range(n)), strict=False)


def _problem(where: str, record: Any) -> tuple[str, list[str]]:
    if isinstance(record, Mapping):
        identity = str(record.get("id", where))
        for name in FIELDS:
            if isinstance(record.get(name), str):
                return identity, words(record[name])
        with contextlib.suppress(InputError):
            messages = chats.chat(record).messages
            return identity, words(" ".join(message.content for message in messages if message.role == "user"))
    raise InputError(f"{where}: holds no problem: one of {', '.join(FIELDS)}, or messages")
