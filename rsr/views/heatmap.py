"""Trajectories as coloured tokens: each with its rank, surprisal and clipped token RSR (the form of Table 12)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from rsr.metrics.token import R_MAX
from rsr.student.chat import ChatRenderer, RenderedChat
from rsr.tokens.tokens import Tokens
from rsr.views.html import render

# Fills from pale to dark orange in equal steps, readable under black text, told apart without colour by lightness.
SHADES = ("#ffffff", "#fff1e0", "#fddcb5", "#fbbf82", "#f59d4f", "#e67a1f")
PART, UNREADABLE, BYTES = "\N{DOTTED CIRCLE}", "\N{REPLACEMENT CHARACTER}", 4  # at most, of a character in UTF-8
EDGES = (1.5, 2.5, 5.0, 10.0, 30.0)


@dataclass(frozen=True)
class Token:
    """One response token.

    Attributes:
        text: what it spells; of tokens that are parts of a character the last spells it, and those before it `PART`.
        ratio: min(r, r_max) / s, infinite where the surprisal is 0 in float32.
    """

    text: str
    rank: int
    surprisal: float
    ratio: float

    @property
    def quoted(self) -> str:
        """The text with every space and line break to be seen."""
        return repr(self.text)

    @property
    def ratio_text(self) -> str:
        """As the paper writes it: ">100" where the surprisal is near zero."""
        return ">100" if self.ratio > 100 else f"{self.ratio:.2f}"


def tokens_of(
    renderer: ChatRenderer, chat: RenderedChat, tokens: Tokens, index: int, r_max: int = R_MAX
) -> list[Token]:
    """The response tokens of one chat, with the statistics of trajectory `index`."""
    part = slice(tokens.offsets[index], tokens.offsets[index + 1])
    rows = zip(_spellings(renderer, chat), tokens.rank[part], tokens.surprisal[part], strict=True)
    return [
        Token(
            text=text,
            rank=int(rank),
            surprisal=float(surprisal),
            ratio=min(int(rank), r_max) / float(surprisal) if surprisal > 0 else float("inf"),
        )
        for text, rank, surprisal in rows
    ]


def _spellings(renderer: ChatRenderer, chat: RenderedChat) -> Iterator[str]:
    """What each response token adds to the text; the last of a character's parts spells it."""
    begun = last = -2  # positions: where the parts of a character began, and of the token before
    for position in chat.positions():
        if begun < 0 or position > last + 1:
            begun = position
        text, last = _spelling(renderer, chat, begun, position), position
        if text.endswith(UNREADABLE) and position - begun + 1 < BYTES:
            yield PART
        else:
            yield text
            begun = -2


def _spelling(renderer: ChatRenderer, chat: RenderedChat, first: int, last: int) -> str:
    """What tokens add to the text: decoded alone they would lose the space before them where the tokenizer keeps that apart."""
    ids = list(chat.ids[first - 1 : last + 1])
    before, alone, both = (str(renderer.tokenizer.decode(part)) for part in (ids[:1], ids[1:], ids))
    return both.removeprefix(before) if both.startswith(before) else alone


def shade(token: Token) -> str:
    """Fill of a token: the darker, the worse its rank."""
    return SHADES[int(np.searchsorted(EDGES, token.rank))]


def to_html(tokens: Sequence[Token]) -> Markup:
    """Tokens as HTML; values show on hover."""
    return render("rsr.views", "heatmap.jinja", tokens=tokens, shade=shade)


def legend() -> Markup:
    """Which colour stands for which ranks."""
    firsts = (1, *(int(edge) + 1 for edge in EDGES))
    lasts = [str(int(edge)) for edge in EDGES]
    spans = [
        first if first == last else f"{first} to {last}" for first, last in zip(map(str, firsts), lasts, strict=False)
    ]
    return render(
        "rsr.views", "legend.jinja", shades=list(zip(SHADES, [*spans, f"{firsts[-1]} and more"], strict=True))
    )
