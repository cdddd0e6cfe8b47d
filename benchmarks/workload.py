"""What is scored: chats of drawn lengths, cut from the project's own documentation, so that predictions are those of text."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from experiments.app.shared_configs import ROOT
from rsr.student.chat import RenderedChat, Turn
from rsr.student.student import Student

PROMPT = 64  # tokens before the response


@dataclass(frozen=True)
class Lengths:
    """Log-normal lengths of chats, in tokens.

    Attributes:
        median, spread: of the length; spread is the standard deviation of its logarithm.
        shortest, longest: draws beyond are cut to these.
    """

    what: str
    median: float
    spread: float
    shortest: int
    longest: int
    chats: int

    def draw(self) -> list[int]:
        drawn = np.random.default_rng(0).lognormal(np.log(self.median), self.spread, self.chats)
        return [int(n) for n in drawn.round().clip(self.shortest, self.longest)]


LENGTHS: Mapping[str, Lengths] = {
    "short": Lengths("answers without long reasoning", 300, 0.5, 100, 1024, 12),
    # Eleven teachers' mean lengths as printed are 2,552 to 13,146 tokens, 9,000 on average, cut at 32,768: here over 8.
    "long tail": Lengths("the paper's lengths over 8", 900, 0.75, 100, 4096, 5),
}


def chats(student: Student, lengths: list[int]) -> list[RenderedChat]:
    """Chats of these lengths out of the documentation; what comes after the prompt is the response."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md")))
    ids = student.renderer.tokenizer(text, verbose=False)["input_ids"]
    ids = np.resize(ids, sum(lengths)).tolist()
    starts = np.cumsum([0, *lengths])
    return [chat(ids[start : start + n]) for start, n in zip(starts, lengths, strict=False)]


def chat(ids: list[int]) -> RenderedChat:
    return RenderedChat(tuple(ids), (Turn(min(PROMPT, len(ids) // 2), len(ids), None),), len(ids))
