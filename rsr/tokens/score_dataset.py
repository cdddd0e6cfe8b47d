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
from rsr.tokens.settings import CHARACTERS
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

T = TypeVar("T")
U = TypeVar("U")
# What is said of each of `Departures`, where there are any.
TOLD = (
    "the chat template drops {n:,} characters of responses, which are not scored (rendering=turn keeps what it drops of earlier turns)",
    "the chat template writes {n:,} characters of its own into responses",
    "the tokenizer joins {n:,} tokens from an end of a response and text of the template (boundary_tokens says if they are scored)",
    "the chat template does not show the student {n:,} messages, or lists of tools, in full",
)


class AnyBackend(Protocol):
    """What a token store is found and cut by: a backend, here or elsewhere."""

    @property
    def student(self) -> AnyStudent: ...
    @property
    def max_length(self) -> int: ...
    @property
    def token_budget(self) -> int: ...
    @property
    def identity(self) -> dict[str, Any]: ...


class Backend(AnyBackend, Protocol):
    """What computes token statistics: `rsr.tokens.engine.Scorer` or `rsr.tokens.vllm_engine.VllmScorer`."""

    @property
    def computed_with(self) -> dict[str, Any]: ...
    def score(self, chats: Sequence[RenderedChat], done: Callable[[int], None]) -> Tokens: ...


def store_key(scorer: AnyBackend, dataset: Dataset) -> dict[str, object]:
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


def is_scored(scorer: AnyBackend, dataset: Dataset, root: Path) -> bool:
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


@dataclass(frozen=True)
class DatasetScoring:
    """A dataset that is being scored.

    Attributes:
        student: its name.
        artefact: the token store, begun by this process; complete where all of it is scored already.
        shards: the trajectories of each shard.
        wanted: windows of shards that are scored together, those that are not there yet.
        known: trajectories that are scored already in other stores.
    """

    student: str
    dataset: Dataset
    artefact: Artefact
    on_error: OnError
    shards: Sequence[range] | Mapping[int, range] = ()
    wanted: Sequence[range] = ()
    known: Known | None = None

    def within(self, window: range) -> Sequence[Trajectory]:
        """The trajectories of a window of shards."""
        return self.dataset.trajectories[self.shards[window[0]].start : self.shards[window[-1]].stop]

    def part(self, window: range) -> "DatasetScoring":
        """What of it a process elsewhere needs to score a window."""
        trajectories, first = tuple(self.within(window)), self.shards[window[0]].start
        return replace(
            self,
            dataset=replace(self.dataset, trajectories=trajectories, skipped=(), unread=()),
            shards={i: range(self.shards[i].start - first, self.shards[i].stop - first) for i in window},
            wanted=[window],
            known=self.known and self.known.of(trajectories),
        )

    def store(self) -> TokenStore:
        """The token store, once it is complete."""
        complete = locate(self.artefact.path.parents[1], STAGE, "", self.artefact.key)
        dataset = self.dataset
        return TokenStore(
            complete, self.student, dataset.teacher, dataset.generation, len(dataset.skipped), dataset.unread
        )


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
    scoring = begin_scoring(scorer, dataset, root, on_error, progress, process, barrier)
    if scoring.artefact.manifest is None:
        began, tokens = time.perf_counter(), 0
        with ThreadPoolExecutor(1) as writer:
            written: Future[None] | None = None
            rendered = _ahead(lambda window: render(scorer, scoring, window), scoring.wanted)
            for window, of_window in zip(scoring.wanted, rendered, strict=True):
                scored = score_rendered(scorer, dataset, of_window, progress)
                tokens += of_window.tokens
                if written is not None:
                    written.result()
                written = writer.submit(write_window, scoring, window, scored)
            if written is not None:
                written.result()
        barrier()
        if process[0] == 0:
            complete(scoring, scorer, time.perf_counter() - began, tokens)
    barrier()
    return scoring.store()


def begin_scoring(
    scorer: AnyBackend,
    dataset: Dataset,
    root: Path,
    on_error: OnError,
    progress: Advance,
    process: tuple[int, int] = (0, 1),
    barrier: Callable[[], None] = lambda: None,
) -> DatasetScoring:
    """Find the token store of a dataset, or begin it and see what is wanted; for arguments and errors see `score_dataset`."""
    name = scorer.student.name
    artefact = find_or_begin(root, STAGE, f"{name}-{dataset.name}", store_key(scorer, dataset), process, barrier)
    if artefact.manifest is not None:
        if on_error == "error":
            _refuse_left_out(dataset, {row["id"]: row["reason"] for row in artefact.facts["left_out"]})
        progress(sum(t.characters for t in dataset.trajectories) // process[1], 0)
        return DatasetScoring(name, dataset, artefact, on_error)
    shards = _shards(scorer, dataset)
    size = _window(scorer, dataset, shards, process[1])
    windows = [range(i, min(i + size, len(shards))) for i in range(0, len(shards), size)][process[0] :: process[1]]
    # A window is scored whole, though some of its shards are there: in other batches its numbers would round otherwise.
    wanted = [w for w in windows if not all(artefact.holds(shard_name(i)) for i in w)]
    scoring = DatasetScoring(name, dataset, artefact, on_error, shards, wanted, Known(root, artefact.key))
    for window in windows:
        if window not in wanted:
            for i in window if on_error == "error" else ():
                _refuse_left_out(dataset, reasons(artefact, i))
            progress(sum(t.characters for t in scoring.within(window)), 0)
    return scoring


def complete(scoring: DatasetScoring, scorer: Backend, seconds: float, tokens: int) -> None:
    """Complete a token store of which every shard is there.

    Args:
        seconds, tokens: that scoring took in this run.

    Raises:
        InputError: a shard is damaged, or the store cannot be written.
    """
    facts = _facts(scoring.artefact, len(scoring.shards), scorer, scoring.dataset, seconds, tokens)
    scoring.artefact.complete(**facts)


def _lengths(scorer: AnyBackend, dataset: Dataset) -> list[int]:
    """Tokens of each trajectory, guessed before they are rendered."""
    return [min(t.characters // CHARACTERS, scorer.max_length) for t in dataset.trajectories]


def _shards(scorer: AnyBackend, dataset: Dataset) -> list[range]:
    """The trajectories of each shard, in their order."""
    lengths, starts, tokens = _lengths(scorer, dataset), list[int](), 0
    most = min(max(sum(lengths) // SHARE, LEAST), MOST)
    for i, length in enumerate(lengths):
        if not starts or tokens + length > most:
            starts.append(i)
            tokens = 0
        tokens += length
    return [range(*ends) for ends in pairwise([*starts, len(lengths)])]


def _window(scorer: AnyBackend, dataset: Dataset, shards: Sequence[range], processes: int) -> int:
    """Shards whose trajectories are sorted by length together, at most so many that every process has its share."""
    if scorer.token_budget <= SMALL:
        return 1
    tokens_of_a_shard = max(1, sum(_lengths(scorer, dataset)) // max(1, len(shards)))
    return max(1, min(WINDOW_BATCHES * scorer.token_budget // tokens_of_a_shard, -(-len(shards) // processes)))


def write_window(scoring: DatasetScoring, window: range, scored: Shard) -> None:
    """Write the shards of a window that are not there yet, in their order."""
    shards, artefact = scoring.shards, scoring.artefact
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

    @property
    def tokens(self) -> int:
        """Of all chats."""
        return sum(len(chat.ids) for of_one in self.chats for chat in of_one)


def render(scorer: Backend, scoring: DatasetScoring, window: range) -> _Window:
    """The chats of the trajectories of a window that are not known.

    Raises:
        InputError: one cannot be rendered, and is not to be left out.
    """
    dataset, trajectories = scoring.dataset, scoring.within(window)
    rows = scoring.known.rows(trajectories) if scoring.known else {}
    chats: list[list[RenderedChat]] = [[] for _ in trajectories]
    left_out: list[str | None] = [None for _ in trajectories]
    for i, t in enumerate(trajectories):
        if i in rows:
            continue
        try:
            chats[i] = scorer.student.renderer.chats(t.messages, scorer.max_length, t.tool_schemas)
        except InputError as error:
            if scoring.on_error == "error":
                raise InputError(f"{dataset.name}, trajectory {t.id}: {error}") from error
            left_out[i] = str(error)
    return _Window(trajectories, rows, chats, left_out)


def score_rendered(
    scorer: Backend, dataset: Dataset, window: _Window, progress: Advance = lambda characters, tokens: None
) -> Shard:
    """The statistics of a window.

    Raises:
        InputError: logits are not finite.
    """
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
    artefact: Artefact, shards: int, scorer: Backend, dataset: Dataset, seconds: float, tokens: int
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
        "seconds": round(seconds, 3),
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
        then = "it is not scored; train with this template, or give a system message of your own"
        notes += [f"{adds}: {text!r}; {then}" for text in template.prose()]
    return notes
