"""Score a dataset under a student, into a token store that can be resumed."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from importlib.metadata import version
from itertools import pairwise
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
from rsr.tokens.known import Known
from rsr.tokens.repetition import repeats
from rsr.tokens.token_store import STAGE, Shard, TokenStore, joined, read_shard, reasons, shard_name, write_shard
from rsr.tokens.tokens import LATER, Tokens

# Raised when what a token store holds for the same key changes its meaning.
VERSION = 3
# Tokens of a shard: this share of its dataset, but so many at least and at most. A kill loses little of a small dataset, of a large one
# not more than a share, and a shard fits into memory.
SHARE = 32
LEAST, MOST = 2**15, 2**20
# Trajectories are sorted by length over the tokens of so many batches, in whole shards: over fewer, the few long ones of a heavy
# tail are padded to one another (docs/scoring.md).
WINDOW_BATCHES = 128
# Tokens of a batch, as on a CPU: so few find their like within a shard, and a kill is to lose little there.
SMALL = 4096
CHARACTERS = 3  # of a token, roughly: it settles shards and windows alone, and the same ones on every machine

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


def is_scored(scorer: Backend, dataset: Dataset, root: Path) -> bool:
    """Whether a dataset has its token store."""
    return locate(root, STAGE, "", store_key(scorer, dataset)).manifest is not None


def other_dtypes(scorer: Backend, dataset: Dataset, root: Path) -> set[str]:
    """The dtypes besides the student's own in which a dataset is scored, and otherwise alike."""
    key = json.loads(json.dumps(store_key(scorer, dataset)))
    found = set()
    for path in (root / STAGE).glob(f"*/{MANIFEST}"):
        with reading(path, KeyError, TypeError):
            held = json.loads(path.read_text(encoding="utf-8"))["key"]
            dtype = held["student"]["dtype"]
        if dtype != key["student"]["dtype"] and held == key | {"student": key["student"] | {"dtype": dtype}}:
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

    While one window is scored, the next is rendered and the one before is written. What is scored already as a part of another dataset
    is taken from its store.

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
    shards, known = _shards(scorer, dataset), Known(root, artefact.key)
    size = _window(scorer, dataset, shards, processes)
    windows = [range(i, min(i + size, len(shards))) for i in range(0, len(shards), size)][index::processes]
    # A window is scored whole, though some of its shards are there: in other batches its numbers would round otherwise.
    wanted = [w for w in windows if not all(artefact.holds(shard_name(i)) for i in w)]
    for window in windows:
        if window not in wanted:
            for i in window if on_error == "error" else ():
                _refuse_left_out(dataset, reasons(artefact, i))
            progress(sum(t.characters for t in _within(dataset, shards, window)), 0)
    with ThreadPoolExecutor(1) as writer:
        written: Future[None] | None = None
        rendered = _ahead(lambda w: _render(scorer, dataset, _within(dataset, shards, w), on_error, known), wanted)
        for window, of_window in zip(wanted, rendered, strict=True):
            scored = _score(scorer, dataset, of_window, progress)
            tokens += sum(len(chat.ids) for of_one in of_window.chats for chat in of_one)
            if written is not None:
                written.result()
            written = writer.submit(_write, artefact, shards, window, scored)
        if written is not None:
            written.result()
    barrier()
    if index == 0:
        artefact = artefact.complete(**_facts(artefact, len(shards), scorer, dataset, began, tokens))
    barrier()
    return TokenStore(locate(root, STAGE, label, artefact.key), *names)


def _lengths(scorer: Backend, dataset: Dataset) -> list[int]:
    """Tokens of each trajectory, guessed before they are rendered."""
    return [min(t.characters // CHARACTERS, scorer.max_length) for t in dataset.trajectories]


def _shards(scorer: Backend, dataset: Dataset) -> list[range]:
    """The trajectories of each shard, in their order."""
    lengths, starts, tokens = _lengths(scorer, dataset), list[int](), 0
    most = min(max(sum(lengths) // SHARE, LEAST), MOST)
    for i, length in enumerate(lengths):
        if not starts or tokens + length > most:
            starts.append(i)
            tokens = 0
        tokens += length
    return [range(*ends) for ends in pairwise([*starts, len(lengths)])]


def _window(scorer: Backend, dataset: Dataset, shards: Sequence[range], processes: int) -> int:
    """Shards whose trajectories are sorted by length together, at most so many that every process has its share."""
    if scorer.token_budget <= SMALL:
        return 1
    tokens_of_a_shard = max(1, sum(_lengths(scorer, dataset)) // max(1, len(shards)))
    return max(1, min(WINDOW_BATCHES * scorer.token_budget // tokens_of_a_shard, -(-len(shards) // processes)))


def _within(dataset: Dataset, shards: Sequence[range], window: range) -> Sequence[Trajectory]:
    """The trajectories of a window of shards."""
    return dataset.trajectories[shards[window[0]].start : shards[window[-1]].stop]


def _write(artefact: Artefact, shards: Sequence[range], window: range, scored: Shard) -> None:
    """Write the shards of a window that are not there yet, in their order."""
    first = shards[window[0]].start
    for i in window:
        if not artefact.holds(shard_name(i)):
            write_shard(artefact, i, scored.part(shards[i].start - first, shards[i].stop - first))


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


@dataclass(frozen=True)
class _Window:
    """Trajectories that are scored together.

    Attributes:
        known: by place, those that are scored already.
        chats: of each of the others.
        left_out: why one of the others has none.
    """

    trajectories: Sequence[Trajectory]
    known: Mapping[int, Shard]
    chats: Sequence[Sequence[RenderedChat]]
    left_out: Sequence[str | None]


def _render(
    scorer: Backend, dataset: Dataset, trajectories: Sequence[Trajectory], on_error: OnError, known: Known
) -> _Window:
    rows = known.rows(trajectories)
    chats: list[list[RenderedChat]] = [[] for _ in trajectories]
    left_out: list[str | None] = [None for _ in trajectories]
    for i, t in enumerate(trajectories):
        if i in rows:
            continue
        try:
            chats[i] = scorer.student.renderer.chats(t.messages, scorer.max_length, t.tool_schemas)
        except InputError as error:
            if on_error == "error":
                raise InputError(f"{dataset.name}, trajectory {t.id}: {error}") from error
            left_out[i] = str(error)
    return _Window(trajectories, rows, chats, left_out)


def _score(scorer: Backend, dataset: Dataset, window: _Window, progress: Advance) -> Shard:
    for i in window.known:
        progress(window.trajectories[i].characters, 0)
    if len(window.known) == len(window.trajectories):
        return joined([window.known[i] for i in range(len(window.known))])
    shard = _score_new(scorer, dataset, window, progress)
    if not window.known:
        return shard
    return joined([window.known.get(i) or shard.part(i, i + 1) for i in range(len(window.trajectories))])


def _score_new(scorer: Backend, dataset: Dataset, window: _Window, progress: Advance) -> Shard:
    """The window scored but for what is known, which has no tokens in it."""
    scored = [(i, chat) for i, of_one in enumerate(window.chats) for chat in of_one if chat.turns]
    trajectory = np.array([i for i, _ in scored], np.int64)

    def done(at: int) -> None:
        i, chat = scored[at]
        progress(window.trajectories[i].characters if at == np.searchsorted(trajectory, i) else 0, len(chat.ids))

    try:
        tokens = scorer.score([chat for _, chat in scored], done)
    except NotFinite as error:
        failed = window.trajectories[scored[error.chat][0]].id
        raise InputError(f"{dataset.name}, trajectory {failed}: {error.reason}") from error
    lengths = np.bincount(trajectory, tokens.lengths, minlength=len(window.chats)).astype(np.int64)
    return Shard(
        ids=[t.id for t in window.trajectories],
        problems=[t.problem for t in window.trajectories],
        sha256=[t.sha256 for t in window.trajectories],
        chat_tokens=[max((chat.length for chat in of_one), default=0) for of_one in window.chats],
        truncated=[any(chat.truncated for chat in of_one) for of_one in window.chats],
        departures=[sum((chat.departures for chat in of_one), Departures()) for of_one in window.chats],
        reasons=window.left_out,
        tokens=replace(tokens.parted(lengths), repeated=repeats(window.chats)),
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
