"""Token ids and character offsets of a text of any length, a piece of it at a time: in Python a token takes 200 bytes.

A text is cut where the tokenizer gives the same for what is around the cut as for its two sides. A tokenizer that gives the same
nowhere, as one that writes a space before every text, has the whole text at once.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Ints = NDArray[np.int64]

PIECE = 2**17  # characters; what is shorter than two is not cut
AROUND = 256  # characters on each side of a cut that are compared
TRIES = 32  # cuts, before a text is left whole
CUTS = re.compile(r"(?<=\n)(?=\S)|(?<=\S)(?=\s)")  # where a line begins, or a word has ended


def tokenised(tokenizer: "PreTrainedTokenizerFast", text: str, piece: int = PIECE) -> tuple[Ints, Ints]:
    """Token ids of a text, shape (tokens,), and the characters that each token spells, from and to, shape (tokens, 2)."""
    ids, offsets = [], []
    for start, end in pairwise(_cuts(tokenizer, text, piece)):
        encoding = _encoded(tokenizer, text[start:end])
        ids.append(np.array(encoding["input_ids"], np.int64))
        offsets.append(np.array(encoding["offset_mapping"], np.int64).reshape(-1, 2) + start)
    return np.concatenate(ids), np.concatenate(offsets)


def _cuts(tokenizer: "PreTrainedTokenizerFast", text: str, piece: int) -> list[int]:
    """Where the pieces of a text begin, and its end."""
    cuts = [0]
    while len(text) - cuts[-1] >= 2 * piece:
        near = cuts[-1] + piece
        cut = next((at for at in _candidates(text, near, piece) if _parts(tokenizer, text, at)), None)
        if cut is None:
            return [0, len(text)]
        cuts.append(cut)
    return [*cuts, len(text)]


def _candidates(text: str, near: int, piece: int) -> Iterator[int]:
    found = CUTS.finditer(text, near, near + piece)
    yield from (match.start() for match, _ in zip(found, range(TRIES), strict=False))


def _parts(tokenizer: "PreTrainedTokenizerFast", text: str, at: int) -> bool:
    """Whether the tokenizer does the same on both sides of a place as over it."""
    before, after = text[max(0, at - AROUND) : at], text[at : at + AROUND]
    whole, *sides = (_encoded(tokenizer, part)["input_ids"] for part in (before + after, before, after))
    return bool(whole == [*sides[0], *sides[1]])


def _encoded(tokenizer: "PreTrainedTokenizerFast", text: str) -> Any:
    return tokenizer(
        text,
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
