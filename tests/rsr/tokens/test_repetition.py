"""Repeats against a direct search for earlier runs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rsr.student.chat import RenderedChat, Turn
from rsr.tokens.repetition import RUN, repeated, repeats


def directly(ids):
    """Each run is looked for in all that begin before it."""
    found = [False] * len(ids)
    for k in range(len(ids) - RUN + 1):
        if any(ids[before : before + RUN] == ids[k : k + RUN] for before in range(k)):
            found[k : k + RUN] = [True] * RUN
    return found


@given(st.lists(st.integers(0, 1) | st.sampled_from([7, 150_000, 2**31 - 1]), max_size=60) | st.text("ab", max_size=80))
def test_repeats_are_those_of_a_direct_search(ids):
    ids = [ord(i) if isinstance(i, str) else i for i in ids]
    assert repeated(np.array(ids, np.int64)).tolist() == directly(ids)


def test_a_loop_is_a_repeat_from_its_second_round_on():
    assert repeated(np.tile(np.arange(5), 4)).tolist() == [False] * 5 + [True] * 15
    assert not repeated(np.tile(np.arange(5), 2)).any()  # 5 tokens again are no run
    assert not repeated(np.array([], np.int64)).any()


def test_a_run_goes_on_from_turn_to_turn_and_ends_with_the_trajectory():
    """Prompts and ends of turns between the responses are no part of it; neither are other trajectories."""

    def chat(*turns):
        ids: list[int] = []
        found = []
        for response in turns:
            ids += [90, 91, len(ids)]
            found.append(Turn(len(ids), len(ids) + len(response), None))
            ids += [*response, 92]
        return RenderedChat(tuple(ids), tuple(found), len(ids))

    looping = [chat([1, 2, 3], [1, 2, 3], [1, 2, 3]), chat([1, 2, 3])]  # of one trajectory by turn
    assert repeats([looping, [], [chat([1, 2, 3])]]).tolist() == [False] * 3 + [True] * 9 + [False] * 3
    assert repeats([]).shape == (0,)
