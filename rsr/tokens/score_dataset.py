"""Score a dataset under a student, into a token store that can be resumed."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from rsr.data.trajectories import Advance, Dataset, OnError, Trajectory
from rsr.errors import InputError
from rsr.store.artefacts import MANIFEST, Artefact, find_or_begin, locate, reading
from rsr.store.locks import locking
from rsr.student.chat import Departures, RenderedChat
from rsr.student.student import AnyStudent
from rsr.tokens.engine import NotFinite
from rsr.tokens.repetition import repeats
from rsr.tokens.token_store import SHARD, STAGE, Shard, TokenStore, read_shard, reasons, shard_name, write_shard
from rsr.tokens.tokens import LATER, Tokens

# Raised when what a token store holds for the same key changes its meaning.
VERSION = 3
# Trajectories are sorted by length over the tokens of so many batches, in whole shards: over fewer, the few long ones of a heavy
# tail are padded to one another (docs/scoring.md).
WINDOW_BATCHES = 128
# Tokens of a batch, as on a CPU: so few find their like within a shard, and a kill is to lose little there.
SMALL = 4096
CHARACTERS = 3  # of a token, roughly: it settles the window alone, and the same one in every run

T = TypeVar("T")
U = TypeVar("U")
# What is said of each of `Departures`, where there are any.
TOLD = (
    "the chat template drops {n:,} characters of responses, which are not scored (rendering=turn keeps what it drops of earlier turns)",
    "the chat template writes {n:,} characters of its own into responses",
    "the tokenizer joins {n:,} tokens from an end of a response and text of the template (boundary_tokens says if they are scored)",
    "the chat template does not show the student {n:,} messages, or lists of tools, in full",
)


class Backend(Protocol):
    """What computes token statistics: `rsr.tokens.engine.Scorer` or `rsr.tokens.vllm_engine.VllmScorer`."""

    @property
    def student(self) -> AnyStudent: ...
    @property
    def max_length(self) -> int: ...
    @property
    def token_budget(self) -> int: ...
    @property
    def identity(self) -> dict[str, Any]: ...
    @property
    def computed_with(self) -> dict[str, Any]: ...
    def score(self, chats: Sequence[RenderedChat], done: Callable[[int], None]) -> Tokens: ...


def store_key(scorer: Backend, dataset: Dataset) -> dict[str, object]:
    """Everything that shapes a token store."""
    processor = scorer.student.renderer.processor if any(t.images for t in dataset.trajectories) else None
    return {
        "stage": STAGE,
        "version": VERSION,
        "student": dict(scorer.student.identity),
        "scoring": scorer.identity,
        "data": dataset.digest(),
        **({} if processor is None else {"processor_sha256": processor.identity()}),
    }


def other_dtypes(scorer: Backend, dataset: Dataset, root: Path) -> set[str]:
    """The dtypes in which a dataset is scored like this otherwise, where it is not in the student's own."""
    key = json.loads(json.dumps(store_key(scorer, dataset)))
    if locate(root, STAGE, "", key).manifest is not None:
        return set()
    found = set()
    for path in (root / STAGE).glob(f"*/{MANIFEST}"):
        with reading(path, KeyError, TypeError):
            held = json.loads(path.read_text(encoding="utf-8"))["key"]
            dtype = held["student"]["dtype"]
        if held == key | {"student": key["student"] | {"dtype": dtype}}:
            found.add(dtype)
    return found


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
    """Score a dataset, or find it scored; killed and called again, it loses at most the window of shards in flight.

    While one window is scored, the next is rendered and the one before is written.

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
    shards = -(-len(dataset.trajectories) // SHARD)
    size = _window(scorer, dataset, -(-shards // processes))
    windows = [range(i, min(i + size, shards)) for i in range(0, shards, size)][index::processes]
    # A window is scored whole, though some of its shards are there: in other batches its numbers would round otherwise.
    wanted = [w for w in windows if not all(artefact.holds(shard_name(i)) for i in w)]
    for window in windows:
        if window not in wanted:
            for i in window if on_error == "error" else ():
                _refuse_left_out(dataset, reasons(artefact, i))
            progress(sum(t.characters for t in _within(dataset, window)), 0)
    with ThreadPoolExecutor(1) as writer:
        written: Future[None] | None = None
        rendered = _ahead(lambda window: _render(scorer, dataset, _within(dataset, window), on_error), wanted)
        for window, (chats, left_out) in zip(wanted, rendered, strict=True):
            scored = _score(scorer, dataset, _within(dataset, window), chats, left_out, progress)
            tokens += sum(len(chat.ids) for of_one in chats for chat in of_one)
            if written is not None:
                written.result()
            written = writer.submit(_write, artefact, window, scored)
        if written is not None:
            written.result()
    barrier()
    if index == 0:
        artefact = artefact.complete(**_facts(artefact, shards, scorer, dataset, began, tokens))
    barrier()
    return TokenStore(locate(root, STAGE, label, artefact.key), *names)


def _window(scorer: Backend, dataset: Dataset, most: int) -> int:
    """Shards whose trajectories are sorted by length together, at most so many: every process has its share."""
    if scorer.token_budget <= SMALL:
        return 1
    lengths = [min(t.characters // CHARACTERS, scorer.max_length) for t in dataset.trajectories]
    tokens_of_a_shard = max(1, SHARD * sum(lengths) // max(1, len(lengths)))
    return max(1, min(WINDOW_BATCHES * scorer.token_budget // tokens_of_a_shard, most))


def _within(dataset: Dataset, window: range) -> Sequence[Trajectory]:
    """The trajectories of a window of shards."""
    return dataset.trajectories[window.start * SHARD : window.stop * SHARD]


def _write(artefact: Artefact, window: range, scored: Shard) -> None:
    """Write the shards of a window that are not there yet, in their order."""
    for i in window:
        if not artefact.holds(shard_name(i)):
            start = (i - window.start) * SHARD
            write_shard(artefact, i, scored.part(start, start + SHARD))


def _refuse_left_out(dataset: Dataset, left_out: Mapping[str, str]) -> None:
    """An earlier run may have been allowed to leave trajectories out."""
    for identity, reason in left_out.items():
        raise InputError(f"{dataset.name}, trajectory {identity}: {reason}")


def _ahead(make: Callable[[U], T], items: Sequence[U]) -> Iterator[T]:
    """What is made of items, in order; the next is made in a thread while one is used."""
    with ThreadPoolExecutor(1) as thread:
        coming = [thread.submit(make, item) for item in items[:1]]
        for item in items[1:]:
            coming.append(thread.submit(make, item))
            yield coming.pop(0).result()
        for last in coming:
            yield last.result()


def _render(
    scorer: Backend, dataset: Dataset, trajectories: Sequence[Trajectory], on_error: OnError
) -> tuple[list[list[RenderedChat]], list[str | None]]:
    """The chats of each trajectory, and why one was left out."""
    chats: list[list[RenderedChat]] = []
    left_out: list[str | None] = []
    for t in trajectories:
        try:
            chats.append(scorer.student.renderer.chats(t.messages, scorer.max_length, t.tool_schemas))
            left_out.append(None)
        except InputError as error:
            if on_error == "error":
                raise InputError(f"{dataset.name}, trajectory {t.id}: {error}") from error
            chats.append([])
            left_out.append(str(error))
    return chats, left_out


def _score(
    scorer: Backend,
    dataset: Dataset,
    trajectories: Sequence[Trajectory],
    chats: Sequence[Sequence[RenderedChat]],
    left_out: Sequence[str | None],
    progress: Advance,
) -> Shard:
    scored = [(i, chat) for i, of_one in enumerate(chats) for chat in of_one if chat.turns]
    trajectory = np.array([i for i, _ in scored], np.int64)

    def done(at: int) -> None:
        i, chat = scored[at]
        progress(trajectories[i].characters if at == np.searchsorted(trajectory, i) else 0, len(chat.ids))

    try:
        tokens = scorer.score([chat for _, chat in scored], done)
    except NotFinite as error:
        failed = trajectories[scored[error.chat][0]].id
        raise InputError(f"{dataset.name}, trajectory {failed}: {error.reason}") from error
    lengths = np.bincount(trajectory, tokens.lengths, minlength=len(chats)).astype(np.int64)
    return Shard(
        ids=[t.id for t in trajectories],
        problems=[t.problem for t in trajectories],
        chat_tokens=[max((chat.length for chat in of_one), default=0) for of_one in chats],
        truncated=[any(chat.truncated for chat in of_one) for of_one in chats],
        departures=[sum((chat.departures for chat in of_one), Departures()) for of_one in chats],
        reasons=left_out,
        tokens=replace(tokens.parted(lengths), repeated=repeats(chats)),
    )


def _facts(
    artefact: Artefact, shards: int, scorer: Backend, dataset: Dataset, began: float, tokens: int
) -> dict[str, object]:
    """What the manifest says besides the key; seconds and speed are of the last run alone."""
    counts = {"trajectories": 0, "response_tokens": 0, "truncated": 0, "without_response_tokens": 0, "left_out": 0}
    left_out, departures, columns = [], Departures(), set(LATER)
    for shard in (read_shard(artefact, i) for i in range(shards)):
        counts["trajectories"] += len(shard.ids)
        counts["response_tokens"] += len(shard.tokens.rank)
        counts["truncated"] += sum(shard.truncated)
        departures = sum(shard.departures, departures)
        counts["without_response_tokens"] += int((shard.tokens.lengths == 0).sum())
        columns -= {name for name in LATER if getattr(shard.tokens, name) is None}
        left_out += [{"id": i, "reason": r} for i, r in zip(shard.ids, shard.reasons, strict=True) if r is not None]
    counts["left_out"] = len(left_out)
    unscored = {row["id"] for row in left_out}
    return {
        "student": scorer.student.name,
        "teacher": dataset.teacher,
        "generation": dataset.generation,
        "shards": shards,
        "rendering": scorer.student.renderer.rendering,
        "columns": sorted(columns),  # of those that not every store has
        "counts": counts | {f"rendering_{name}": number for name, number in vars(departures).items()},
        "left_out": left_out,
        "malformed": [{"where": s.where, "reason": s.reason} for s in dataset.skipped],
        "notes": _notes(scorer.student, [t for t in dataset.trajectories if t.id not in unscored], departures),
        "seconds": round(time.perf_counter() - began, 3),
        "tokens_in_those_seconds": tokens,
        "computed_with": scorer.computed_with,
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
    }


def _notes(student: AnyStudent, trajectories: Sequence[Trajectory], departures: Departures) -> list[str]:
    """What a reader of the scores of these trajectories should know of the student and its template."""
    notes, template = [*student.notes], student.renderer.template
    first = trajectories[0] if trajectories else None
    if first and (lost := student.renderer.lost_beginning(first.messages, first.tool_schemas)):
        notes.append(f"the tokenizer begins a text with {lost!r}, and the chat template does not")
    notes += [told.format(n=number) for told, number in zip(TOLD, astuple(departures), strict=True) if number]
    if template.tool_use != template.source and (of_tools := sum(bool(t.tools) for t in trajectories)):
        notes.append(f"{of_tools} trajectories with tools are rendered with the template named tool_use")
    if any(t.messages[0].role != "system" for t in trajectories):
        adds = "the chat template adds text of its own to chats without a system message"
        notes += [f"{adds}: {text!r}" for text in template.prose()]
    return notes
