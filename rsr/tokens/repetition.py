"""Which response tokens of a trajectory repeat it: those in a run of tokens that its responses held before.

Loops move RSR, first down and then up: what is said again has low ranks, and with each time less surprisal (docs/agent_traces.md).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rsr.student.chat import RenderedChat

# Tokens of a run: about the five or six words from which on pre-training filters take duplicates for repetition (arXiv
# 2112.11446, Table A1). Runs of four, as in seq-rep-4 (arXiv 1908.04319), recur more often in what is no loop.
RUN = 8


def repeats(chats: Sequence[Sequence[RenderedChat]]) -> NDArray[np.bool_]:
    """`repeated` of the response tokens of trajectories, one trajectory after the other.

    Args:
        chats: those of each trajectory; its turns are in order.
    """
    responses = [[chat.ids[at] for chat in of_one for at in chat.positions()] for of_one in chats]
    return np.concatenate([np.empty(0, np.bool_), *(repeated(np.array(ids, np.int64)) for ids in responses)])


def repeated(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each token lies in a run of `RUN` tokens that begins earlier in these ids as well; shape (tokens,)."""
    marks = np.zeros(len(ids) + 1, np.int64)
    if len(ids) >= RUN:
        again = np.flatnonzero(_recurs(ids))
        marks[again] += 1
        marks[again + RUN] -= 1
    return np.cumsum(marks[:-1]) > 0


def _recurs(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the run that begins at each place begins earlier, too; shape (tokens - RUN + 1,)."""
    first, runs = _numbered(ids)
    width = 1
    while width < RUN:  # runs of twice the width are equal where both their halves are
        first, runs = _numbered(runs[:-width] * len(ids) + runs[width:])
        width *= 2
    return np.asarray(first[runs] < np.arange(len(runs)))


def _numbered(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each distinct value is first, and the number of the distinct value at each place."""
    _, first, numbers = np.unique(values, return_index=True, return_inverse=True)
    return first, numbers
