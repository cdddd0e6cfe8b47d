"""RSR of parts of trajectories, from token stores: since scoring is causal, the numbers of a prefix are those of the whole."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.app.shared_configs import BootstrapConfig
from rsr.data.trajectories import Dataset, Trajectory, dataset_name
from rsr.metrics.token import avg_surprisal, rsr
from rsr.stats.bootstrap import percentile_interval, resampled_sums
from rsr.student.chat import ChatRenderer
from rsr.tokens.token_store import TokenStore
from rsr.tokens.tokens import Tokens, divide

Floats = NDArray[np.float64]
ALL, SURPRISAL, BEFORE, AFTER = "all", "mean surprisal", "before the mark", "from the mark on"


@dataclass(frozen=True)
class Answers:
    """The trajectories of one dataset that have tokens.

    Attributes:
        problems: problem of each.
        lengths: response tokens.
        parts: per part of a trajectory numerators and denominators of RSR (of the mean surprisal: values and ones), shape
            (n, 2); 0 where a trajectory has no such part.
    """

    teacher: str
    generation: str
    problems: Sequence[str]
    lengths: NDArray[np.int64]
    parts: Mapping[str, Floats]

    @property
    def name(self) -> str:
        return dataset_name(self.teacher, self.generation)


def prefix(tokens: int) -> str:
    """Name of the part that is the first tokens of a trajectory; a shorter one counts whole."""
    return f"first {tokens}"


def answers(store: TokenStore, prefixes: Sequence[int], marks: Mapping[str, int]) -> Answers:
    """Measure every part.

    Args:
        marks: place of the mark's first token in each trajectory that has one, by id.
    """
    problems: list[str] = []
    lengths = [np.zeros(0, np.int64)]
    parts: dict[str, list[Floats]] = {}
    for shard in store:
        kept = shard.tokens.lengths > 0
        problems += [problem for problem, keep in zip(shard.problems, kept, strict=True) if keep]
        lengths.append(shard.tokens.lengths[kept])
        at = np.array([marks.get(i, -1) for i in shard.ids])
        for name, values in _parts(shard.tokens, prefixes, at):
            parts.setdefault(name, []).append(values[kept])
    return Answers(
        store.teacher,
        store.generation,
        problems,
        np.concatenate(lengths),
        {name: np.concatenate(rows) for name, rows in parts.items()},
    )


def _parts(tokens: Tokens, prefixes: Sequence[int], marks: NDArray[np.int64]) -> Iterator[tuple[str, Floats]]:
    place = np.arange(len(tokens.rank)) - np.repeat(tokens.offsets[:-1], tokens.lengths)
    mark = np.repeat(marks, tokens.lengths)
    yield ALL, _ratio(tokens)
    yield SURPRISAL, np.nan_to_num(np.stack([avg_surprisal(tokens).numerator, np.ones(len(tokens.lengths))], axis=1))
    for k in prefixes:
        yield prefix(k), _ratio(tokens.kept(place < k))
    yield BEFORE, _ratio(tokens.kept((mark >= 0) & (place < mark)))
    yield AFTER, _ratio(tokens.kept((mark >= 0) & (place >= mark)))


def _ratio(tokens: Tokens) -> Floats:
    ratio = rsr(tokens)
    assert ratio.denominator is not None
    return np.nan_to_num(np.stack([ratio.numerator, ratio.denominator], axis=1))


def marks(dataset: Dataset, renderer: ChatRenderer, pattern: str, max_length: int) -> dict[str, int]:
    """Where the mark begins, in response tokens, in each trajectory whose last turn has it (the first match counts)."""
    marked = (t for t in dataset.trajectories if re.search(pattern, t.messages[t.final].text))
    places = {t.id: _place(t, renderer, pattern, max_length) for t in marked}
    return {identity: place for identity, place in places.items() if place is not None}


def _place(trajectory: Trajectory, renderer: ChatRenderer, pattern: str, max_length: int) -> int | None:
    chats = renderer.chats(trajectory.messages, max_length, trajectory.tool_schemas)
    before = 0
    for turn in (turn for chat in chats for turn in chat.turns):
        if turn.message == trajectory.final:
            match = re.search(pattern, turn.text)
            return before + sum(start < match.start() for start in turn.characters) if match else None
        before += turn.end - turn.start
    return before


@dataclass(frozen=True)
class Resampled:
    """A score of every dataset under one part, and its bootstrap over problems.

    Attributes:
        value: (datasets,); NaN where no trajectory has that part.
        drawn: (resamples, datasets).
    """

    value: Floats
    drawn: Floats

    def interval(self, dataset: int) -> tuple[float, float]:
        return percentile_interval(self.drawn[:, dataset])


def resampled(data: Sequence[Answers], bootstrap: BootstrapConfig) -> dict[str, Resampled]:
    """Every part, with problems drawn for all datasets and parts at once."""
    problems = {problem: i for i, problem in enumerate(dict.fromkeys(p for dataset in data for p in dataset.problems))}
    n = len(problems)
    at = [np.array([problems[problem] for problem in dataset.problems]) for dataset in data]
    scores = {}
    for name in data[0].parts:
        columns = [_by_problem(dataset.parts[name], where, n) for dataset, where in zip(data, at, strict=True)]
        sums = np.concatenate(columns, axis=1)  # numerator and denominator of each dataset in turn
        drawn = resampled_sums(sums, bootstrap.resamples, bootstrap.seed)
        value = divide(*sums.sum(axis=0).reshape(-1, 2).T)
        scores[name] = Resampled(value, divide(drawn[:, ::2], drawn[:, 1::2]))
    return scores


def _by_problem(rows: Floats, at: NDArray[np.int64], n: int) -> Floats:
    return np.stack([np.bincount(at, column, minlength=n) for column in rows.T], axis=1)
