"""Turns that branch off one chat: where a template rewrites earlier turns, each has a prefix of its own, and these begin alike.

The last chat of a trajectory is the trunk; `RenderedChat.shared` says how far each of the others goes along with it.
"""

from collections.abc import Sequence
from dataclasses import replace

from rsr.student.chat import RenderedChat


def trees(chats: Sequence[RenderedChat]) -> list[list[int]]:
    """Indices of chats that share a trunk, which is the last of them; a chat of no branches stands alone."""
    found: list[list[int]] = [[]]
    for i, chat in enumerate(chats):
        found[-1].append(i)
        if not chat.shared:
            found.append([])
    return [tree for tree in found if tree]


def beyond(chat: RenderedChat, length: int) -> RenderedChat:
    """What of a chat follows its first tokens, which hold no response."""
    moved = [
        replace(
            turn, start=turn.start - length, end=turn.end - length, eot=None if turn.eot is None else turn.eot - length
        )
        for turn in chat.turns
    ]
    return replace(chat, ids=chat.ids[length:], turns=tuple(moved), length=chat.length - length)
