"""Score a dataset under a student, into a token store that can be resumed."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from rsr.data.trajectories import Advance, Dataset, Message, OnError, Trajectory
from rsr.errors import InputError
from rsr.store.artefacts import Artefact, find_or_begin, locate
from rsr.store.locks import locking
from rsr.student.chat import RenderedChat
from rsr.student.student import AnyStudent
from rsr.tokens.engine import NotFinite
from rsr.tokens.token_store import SHARD, STAGE, Shard, TokenStore, read_shard, reasons, shard_name, write_shard
from rsr.tokens.tokens import Tokens

# Raised when what a token store holds for the same key changes its meaning.
VERSION = 2

T = TypeVar("T")


class Backend(Protocol):
    """What computes token statistics: `rsr.tokens.engine.Scorer` or `rsr.tokens.vllm_engine.VllmScorer`."""

    @property
    def student(self) -> AnyStudent: ...
    @property
    def max_length(self) -> int: ...
    @property
    def identity(self) -> dict[str, Any]: ...
    @property
    def computed_with(self) -> dict[str, Any]: ...
    def score(self, chats: Sequence[RenderedChat], done: Callable[[int], None]) -> Tokens: ...


def store_key(scorer: Backend, dataset: Dataset) -> dict[str, object]:
    """Everything that shapes a token store."""
    return {
        "stage": STAGE,
        "version": VERSION,
        "student": dict(scorer.student.identity),
        "scoring": scorer.identity,
        "data": dataset.digest(),
    }


@locking
def score_dataset(
    scorer: Backend,
    dataset: Dataset,
    root: Path,
    *,
    on_error: OnError = "error",
    process: tuple[int, int] = (0, 1),
    barrier: Callable[[], None] = lambda: None,
    progress: Advance = lambda characters, tokens: None,
) -> TokenStore:
    """Score a dataset, or find it scored; killed and called again, it loses at most the shards in flight.

    While one shard is scored, the next is rendered and the one before is written.

    Args:
        on_error: what to do with a trajectory that cannot be rendered verbatim: refuse, or leave it out and count it.
        process: (index, number) of processes that share the work.
        barrier: waits until all of them are here.

    Raises:
        InputError: a trajectory cannot be rendered, its logits are not finite, or the store cannot be written.
    """
    student = scorer.student
    label = f"{student.name}-{dataset.name}"
    artefact = find_or_begin(root, STAGE, label, store_key(scorer, dataset), process, barrier)
    names = (student.name, dataset.teacher, dataset.generation, len(dataset.skipped), dataset.unread)
    if artefact.manifest is not None:
        if on_error == "error":
            _refuse_left_out(dataset, {row["id"]: row["reason"] for row in artefact.facts["left_out"]})
        progress(sum(t.characters for t in dataset.trajectories) // process[1], 0)
        barrier()
        return TokenStore(artefact, *names)
    began, tokens = time.perf_counter(), 0
    index, processes = process
    shards = [dataset.trajectories[i : i + SHARD] for i in range(0, len(dataset.trajectories), SHARD)]
    mine = range(index, len(shards), processes)
    wanted = [i for i in mine if not artefact.holds(shard_name(i))]
    for i in sorted({*mine} - {*wanted}):
        if on_error == "error":
            _refuse_left_out(dataset, reasons(artefact, i))
        progress(sum(t.characters for t in shards[i]), 0)
    with ThreadPoolExecutor(1) as writer:
        written: Future[None] | None = None
        rendered = _ahead(lambda i: _render(scorer, dataset, shards[i], on_error), wanted)
        for i, (chats, left_out) in zip(wanted, rendered, strict=True):
            shard = _score_shard(scorer, dataset, shards[i], chats, left_out, progress)
            tokens += sum(min(n, scorer.max_length) for n in shard.chat_tokens)
            if written is not None:
                written.result()
            written = writer.submit(write_shard, artefact, i, shard)
        if written is not None:
            written.result()
    barrier()
    if index == 0:
        artefact = artefact.complete(**_facts(artefact, len(shards), scorer, dataset, began, tokens))
    barrier()
    return TokenStore(locate(root, STAGE, label, artefact.key), *names)


def _refuse_left_out(dataset: Dataset, left_out: Mapping[str, str]) -> None:
    """An earlier run may have been allowed to leave trajectories out."""
    for identity, reason in left_out.items():
        raise InputError(f"{dataset.name}, trajectory {identity}: {reason}")


def _ahead(make: Callable[[int], T], indices: Sequence[int]) -> Iterator[T]:
    """What is made of indices, in order; the next is made in a thread while one is used."""
    with ThreadPoolExecutor(1) as thread:
        coming = [thread.submit(make, i) for i in indices[:1]]
        for i in indices[1:]:
            coming.append(thread.submit(make, i))
            yield coming.pop(0).result()
        for last in coming:
            yield last.result()


def _render(
    scorer: Backend, dataset: Dataset, trajectories: Sequence[Trajectory], on_error: OnError
) -> tuple[list[RenderedChat], list[str | None]]:
    """Chats of trajectories, and why one was left out."""
    chats: list[RenderedChat] = []
    left_out: list[str | None] = []
    for t in trajectories:
        try:
            chats.append(scorer.student.renderer.render(t.messages, scorer.max_length))
            left_out.append(None)
        except InputError as error:
            if on_error == "error":
                raise InputError(f"{dataset.name}, trajectory {t.id}: {error}") from error
            chats.append(RenderedChat((), (), 0))
            left_out.append(str(error))
    return chats, left_out


def _score_shard(
    scorer: Backend,
    dataset: Dataset,
    trajectories: Sequence[Trajectory],
    chats: Sequence[RenderedChat],
    left_out: Sequence[str | None],
    progress: Advance,
) -> Shard:
    scored = [i for i, chat in enumerate(chats) if chat.turns]

    def done(chat: int) -> None:
        progress(trajectories[scored[chat]].characters, len(chats[scored[chat]].ids))

    try:
        tokens = scorer.score([chats[i] for i in scored], done)
    except NotFinite as error:
        raise InputError(f"{dataset.name}, trajectory {trajectories[scored[error.chat]].id}: {error.reason}") from error
    lengths = np.zeros(len(chats), np.int64)
    lengths[scored] = tokens.lengths
    return Shard(
        ids=[t.id for t in trajectories],
        problems=[t.problem for t in trajectories],
        chat_tokens=[chat.length for chat in chats],
        truncated=[chat.truncated for chat in chats],
        reasons=left_out,
        tokens=Tokens(tokens.rank, tokens.surprisal, tokens.entropy, np.concatenate([[0], np.cumsum(lengths)])),
    )


def _facts(
    artefact: Artefact, shards: int, scorer: Backend, dataset: Dataset, began: float, tokens: int
) -> dict[str, object]:
    """What the manifest says besides the key; seconds and speed are of the last run alone."""
    counts = {"trajectories": 0, "response_tokens": 0, "truncated": 0, "without_response_tokens": 0, "left_out": 0}
    left_out = []
    for shard in (read_shard(artefact, i) for i in range(shards)):
        counts["trajectories"] += len(shard.ids)
        counts["response_tokens"] += len(shard.tokens.rank)
        counts["truncated"] += sum(shard.truncated)
        counts["without_response_tokens"] += int((shard.tokens.lengths == 0).sum())
        left_out += [{"id": i, "reason": r} for i, r in zip(shard.ids, shard.reasons, strict=True) if r is not None]
    counts["left_out"] = len(left_out)
    unscored = {row["id"] for row in left_out}
    return {
        "student": scorer.student.name,
        "teacher": dataset.teacher,
        "generation": dataset.generation,
        "shards": shards,
        "counts": counts,
        "left_out": left_out,
        "malformed": [{"where": s.where, "reason": s.reason} for s in dataset.skipped],
        "notes": _notes(scorer.student, [t.messages for t in dataset.trajectories if t.id not in unscored]),
        "seconds": round(time.perf_counter() - began, 3),
        "tokens_in_those_seconds": tokens,
        "computed_with": scorer.computed_with,
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
    }


def _notes(student: AnyStudent, chats: Sequence[Sequence[Message]]) -> list[str]:
    """What a reader of the scores of these chats should know of the student and its template."""
    notes = [*student.notes]
    if chats and (lost := student.renderer.lost_beginning(chats[0])):
        notes.append(f"the tokenizer begins a text with {lost!r}, and the chat template does not")
    if any(messages[0].role != "system" for messages in chats):
        adds = "the chat template adds text of its own to chats without a system message"
        notes += [f"{adds}: {text!r}" for text in student.renderer.prose()]
    return notes
