"""Answers under a student: means over their tokens, and what the student would write next."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from experiments.analysis.failure_examples import Answer, Examples
from experiments.app.shared_configs import BootstrapConfig
from rsr.data.messages import Message
from rsr.errors import InputError
from rsr.metrics import by_name
from rsr.stats.bootstrap import resampled_sums
from rsr.stats.effect import Effect, of_draws
from rsr.student.chat import RenderedChat
from rsr.tokens.tokens import Tokens, divide

if TYPE_CHECKING:
    from rsr.tokens.engine import Scorer


Floats = NDArray[np.float64]


BATCH = 25  # chats that are continued at a time
BESIDE = ("calibrated_rsr", "lark_learnability")  # with RSR, where expectations are kept (docs/calibrated_rsr.md)


@dataclass(frozen=True)
class TokenMeans:
    """Means over each answer's counted tokens, shape (answers,); 0 where none counts.

    Attributes:
        rank, surprisal: of the clipped rank and the surprisal.
        beside: numerators and denominators of `BESIDE`; nothing where expectations are not kept.
    """

    label: str
    rank: Floats
    surprisal: Floats
    beside: Mapping[str, tuple[Floats, Floats]] = field(default_factory=dict)

    def value_of(self, metric: str = "rsr") -> float:
        """The ratio of means (Eq. 9) of RSR, or of a metric beside it."""
        above, below = self._parts(metric)
        return float(above.sum() / below.sum())

    def draws(self, bootstrap: BootstrapConfig, metric: str = "rsr") -> Floats:
        """Bootstrap over answers: those to the same problems are drawn alike, for every metric."""
        sums = (resampled_sums(part, bootstrap.resamples, bootstrap.seed) for part in self._parts(metric))
        return divide(*sums)

    def effect(self, bootstrap: BootstrapConfig, metric: str = "rsr") -> Effect:
        return of_draws(self.value_of(metric), self.draws(bootstrap, metric))

    @property
    def value(self) -> float:
        """RSR."""
        return self.value_of()

    def _parts(self, metric: str) -> tuple[Floats, Floats]:
        return (self.rank, self.surprisal) if metric == "rsr" else self.beside[metric]


@dataclass(frozen=True)
class Scored:
    """Answers under the student: their tokens, flat, and the texts of these without spaces around."""

    tokens: Tokens
    texts: Sequence[str]

    def measured(self, label: str, counted: frozenset[str] | None) -> TokenMeans:
        """Of the tokens with these texts; None counts all.

        Raises:
            InputError: there are none.
        """
        mask = np.array([counted is None or text in counted for text in self.texts])
        if not mask.any():
            raise InputError(
                f"{label}: the student's tokenizer has no tokens for these alone, so that none can be counted"
            )
        return self._of(label, mask)

    def first(self, lengths: NDArray[np.int64]) -> TokenMeans:
        """Of the first tokens of each answer."""
        place = np.arange(len(self.texts)) - np.repeat(self.tokens.offsets[:-1], self.tokens.lengths)
        return self._of("", place < np.repeat(lengths, self.tokens.lengths))

    def _of(self, label: str, mask: NDArray[np.bool_]) -> TokenMeans:
        kept = self.tokens.kept(mask)
        beside = () if kept.expected_rank is None else BESIDE
        return TokenMeans(label, *_parts("rsr", kept), {name: _parts(name, kept) for name in beside})


def _parts(metric: str, tokens: Tokens) -> tuple[Floats, Floats]:
    """Numerators and denominators of a metric, 0 for an answer without tokens."""
    numerators, denominators = by_name(metric)(tokens)
    if denominators is None:
        denominators = np.isfinite(numerators).astype(np.float64)
    return np.nan_to_num(numerators), np.nan_to_num(denominators)


def scored(scorer: "Scorer", answers: Sequence[Answer]) -> Scored:
    """Score answers, each a chat of its own.

    Raises:
        InputError: the student's template does not render one verbatim.
    """
    renderer = scorer.student.renderer
    chats = [_rendered(scorer, answer) for answer in answers]
    ids = [chat.ids[position] for chat in chats for position in chat.positions()]
    texts = renderer.tokenizer.batch_decode([[i] for i in ids])
    return Scored(scorer.score(chats), [text.strip() for text in texts])


def _rendered(scorer: "Scorer", answer: Answer) -> RenderedChat:
    prompt, response = answer
    return scorer.student.renderer.render([Message("user", prompt), Message("assistant", response)], scorer.max_length)


def continued(scorer: "Scorer", shown: Examples, tokens: int) -> Iterator[Answer]:
    """Solutions, each followed by what the student most likely writes next."""
    import torch

    tokenizer = scorer.student.renderer.tokenizer
    model: Any = scorer.student.model
    answers = shown.known.answers
    for start in track(range(0, len(answers), BATCH), "continuing", console=Console(stderr=True)):
        batch = answers[start : start + BATCH]
        chats = [_rendered(scorer, answer) for answer in batch]
        longest = max(chat.turns[0].end for chat in chats)
        ids = torch.full((len(batch), longest), tokenizer.eos_token_id)
        mask = torch.zeros_like(ids)
        for row, chat in enumerate(chats):  # padded on the left
            ids[row, longest - chat.turns[0].end :] = torch.tensor(chat.ids[: chat.turns[0].end])
            mask[row, longest - chat.turns[0].end :] = 1
        written = model.generate(
            ids.to(scorer.student.device),
            attention_mask=mask.to(scorer.student.device),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            pad_token_id=tokenizer.eos_token_id,
        )
        for (prompt, _), chat, row in zip(batch, chats, written, strict=True):
            response = row[longest - chat.turns[0].end + chat.turns[0].start :]
            yield prompt, str(tokenizer.decode(response, skip_special_tokens=True))
