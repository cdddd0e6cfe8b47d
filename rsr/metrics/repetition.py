"""How much a trajectory repeats itself, and RSR of what it does not repeat (`rsr.tokens.repetition`)."""

import numpy as np
from numpy.typing import NDArray

from rsr.metrics.base import Parts, metric
from rsr.metrics.token import BOTH, rsr
from rsr.tokens.repetition import RUN
from rsr.tokens.tokens import Tokens


def _repeated(tokens: Tokens) -> NDArray[np.bool_]:
    assert tokens.repeated is not None  # the metric declares it
    return tokens.repeated


@metric(
    name="repetition",
    title="Repetition",
    formula=f"share of response tokens in a run of {RUN} tokens that the trajectory's responses held before",
    unit="",
    direction="lower",
    levels=BOTH,
    needs="tokens",
    columns=("repeated",),
    per_student=True,
    source="arXiv 2112.11446, Table A1: share of a text in duplicate n-grams; compare seq-rep-n, arXiv 1908.04319",
    note="The first of equal runs is no repeat. A run may go on from one turn into the next. seq-rep-n counts n-grams, of which a "
    f"long copy in a longer text has as many as tokens; it is 1 less distinct over all n-grams, with n = 4, where {RUN} tokens are "
    "about five or six words. Tokens are those of the student's tokenizer.",
)
def repetition(tokens: Tokens) -> Parts:
    return Parts(tokens.mean(_repeated(tokens).astype(np.float64)))


@metric(
    name="rsr_without_repeats",
    title="RSR without repeats",
    formula="RSR over the tokens that repetition does not count",
    unit="ranks per nat",
    direction="lower",
    levels=BOTH,
    needs="tokens",
    columns=("repeated",),
    per_student=True,
    source="this project; Eq. 7, Eq. 9",
    note="The student still reads the repeats: ranks and surprisals of what follows them are unchanged.",
)
def rsr_without_repeats(tokens: Tokens) -> Parts:
    return rsr(tokens.kept(~_repeated(tokens)))
