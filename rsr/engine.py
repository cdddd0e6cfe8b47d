"""The engine: token statistics from one forward pass of the student.

The body of the model runs over whole chats; its head, the product with the vocabulary, only over response positions and
in chunks, so that memory does not grow with length times vocabulary. A chat is padded on the right without a mask: under
causal attention no real token sees what follows it.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from rsr.chat import RenderedChat
from rsr.errors import InputError
from rsr.tokens import Tokens

if TYPE_CHECKING:
    from transformers import Cache

    from rsr.student import Student

HeadDtype = Literal["model", "float32"]

# The rank counts strictly larger logits as the head computes them, so equal logits do not raise it: the reference's rule.
TIE_RULE = "strictly-larger-logits"
PAPER_MAX_LENGTH = 32_768
CACHED_LOGITS = 2**21  # logits whose float32 copies stay in a CPU's cache


@dataclass(frozen=True)
class Scoring:
    """How scores are computed; what shapes them is part of their identity.

    Attributes:
        max_length: tokens of a chat that are kept, cut on the right; None takes the paper's 32,768, or all positions of
            a model that has fewer.
        beyond_positions: allow a max_length beyond the model's positions.
        head_dtype: "model" compares logits in the model's dtype, as the reference does; "float32" computes the head in
            float32, which breaks ties that bfloat16 makes.
        token_budget: padded tokens per forward pass.
        head_chunk: logits (positions x vocabulary) in memory at a time.
    """

    max_length: int | None = None
    beyond_positions: bool = False
    head_dtype: HeadDtype = "model"
    token_budget: int = 4_096
    head_chunk: int = 2**24

    def max_length_for(self, student: "Student") -> int:
        """Tokens of a chat that are kept for this student.

        Raises:
            InputError: more than the model has positions for, without `beyond_positions`.
        """
        positions = student.max_positions
        if self.max_length is None:
            return min(PAPER_MAX_LENGTH, positions or PAPER_MAX_LENGTH)
        if positions and self.max_length > positions and not self.beyond_positions:
            raise InputError(
                f"max_length {self.max_length} is beyond the {positions} positions of {student.name}: lower it, or ask for "
                "it with beyond_positions=true"
            )
        return self.max_length

    def identity(self, student: "Student") -> dict[str, Any]:
        """Settings that shape the scores; batching changes them only within rounding."""
        return {"max_length": self.max_length_for(student), "head_dtype": self.head_dtype, "tie_rule": TIE_RULE}


class Scorer:
    """Scores rendered chats under one student.

    Raises:
        InputError: max_length is beyond the model's positions; or head and body, called apart, do not give the model's
            own logits (its head does more than a product, such as capping logits).
    """

    def __init__(self, student: "Student", scoring: Scoring) -> None:
        self.student, self.scoring = student, scoring
        self.max_length = scoring.max_length_for(student)
        self.body = student.model.get_decoder()
        head = student.model.get_output_embeddings()
        if head is None:
            raise InputError(f"{student.name}: the model has no output head")
        self.head = _in_float32(head) if scoring.head_dtype == "float32" else head
        self._check_logits(head)

    @torch.inference_mode()
    def score(
        self,
        chats: Sequence[RenderedChat],
        done: Callable[[int], None] = lambda chat: None,
        prefix: Sequence[int] = (),
    ) -> Tokens:
        """Statistics of the response tokens of chats, in their order.

        Args:
            done: called with the index of each chat that is scored.
            prefix: tokens that stand before every chat and run only once; a chat's own positions start behind them.

        Raises:
            NotFinite: logits that are not finite, naming chat (by its index) and token.
        """
        rows: list[ChatStatistics] = [_EMPTY] * len(chats)
        before = self._cache(prefix) if prefix else None
        for batch in batches([len(prefix) + len(chat.ids) for chat in chats], self.scoring.token_budget):
            for i, row in zip(batch, self._score_batch([chats[i] for i in batch], before), strict=True):
                if not (np.isfinite(row.surprisal).all() and np.isfinite(row.entropy).all()):
                    at = int(np.flatnonzero(~np.isfinite(row.surprisal) | ~np.isfinite(row.entropy))[0])
                    raise NotFinite(i, at)
                rows[i] = row
                done(i)
        parts = [_EMPTY, *rows]  # so that nothing can be concatenated too
        return Tokens(
            rank=np.concatenate([r.rank for r in parts]),
            surprisal=np.concatenate([r.surprisal for r in parts]),
            entropy=np.concatenate([r.entropy for r in parts]),
            offsets=np.concatenate([[0], np.cumsum([len(r.rank) for r in rows])]).astype(np.int64),
        )

    def _score_batch(self, chats: Sequence[RenderedChat], before: "Cache | None") -> "list[ChatStatistics]":
        longest = max(len(chat.ids) for chat in chats)
        ids = torch.zeros((len(chats), longest), dtype=torch.long)
        for row, chat in enumerate(chats):
            ids[row, : len(chat.ids)] = torch.tensor(chat.ids)
        ids = ids.to(self.student.device)
        hidden = self._hidden(ids, before).flatten(0, 1)
        # The logits at one position predict the token at the next.
        targets = [torch.tensor(chat.positions(), dtype=torch.long) + row * longest for row, chat in enumerate(chats)]
        positions = torch.cat(targets).to(ids.device)
        statistics = self._statistics(hidden, positions - 1, ids.flatten()[positions])
        split = [part.numpy() for part in statistics]
        ends = np.cumsum([len(t) for t in targets])[:-1]
        return [ChatStatistics(*row) for row in zip(*(np.split(part, ends) for part in split), strict=True)]

    def _cache(self, prefix: Sequence[int]) -> "Cache":
        ids = torch.tensor([prefix], device=self.student.device)
        cache: Cache = self.body(input_ids=ids, use_cache=True).past_key_values
        return cache

    def _hidden(self, ids: Tensor, before: "Cache | None" = None) -> Tensor:
        if before is not None:
            before = copy.deepcopy(before)  # the body appends to it
            before.batch_repeat_interleave(len(ids))
        body = self.body(input_ids=ids, past_key_values=before, use_cache=before is not None)
        hidden: Tensor = body.last_hidden_state
        return hidden

    def _statistics(self, hidden: Tensor, positions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rank, surprisal and entropy of targets at positions, on the CPU."""
        vocabulary = self.student.model.config.get_text_config().vocab_size
        rows = max(1, self.scoring.head_chunk // vocabulary)
        # On a CPU the passes over the logits are several times faster while these stay in its cache.
        cached = max(1, CACHED_LOGITS // vocabulary) if hidden.device.type == "cpu" else rows
        # Written in place: small results kept between large logits would hold the heap open, some GB on a long chat.
        out = tuple(torch.empty(len(targets), dtype=dtype) for dtype in (torch.int32, torch.float32, torch.float32))
        for start in range(0, len(targets), rows):
            logits = self._logits(hidden[positions[start : start + rows]])
            for at in range(start, start + len(logits), cached):
                part = slice(at, min(at + cached, start + len(logits)))
                found = token_statistics(logits[part.start - start : part.stop - start], targets[part])
                for column, values in zip(out, found, strict=True):
                    column[part] = values
        rank, surprisal, entropy = out
        return rank.to(torch.uint32), surprisal, entropy

    def _logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.head(hidden.float() if self.scoring.head_dtype == "float32" else hidden)
        return logits

    @torch.inference_mode()
    def _check_logits(self, head: torch.nn.Module) -> None:
        """Compare with the model's own forward on a short probe."""
        vocabulary = self.student.model.config.get_text_config().vocab_size
        probe = (torch.arange(16) * 7919 % vocabulary)[None].to(self.student.device)
        own = self.student.model(input_ids=probe, use_cache=False).logits.float()
        apart = head(self._hidden(probe)).float()
        difference, spread = (own - apart).abs().max().item(), own.std().item()
        if not difference <= 0.02 * spread and not torch.isnan(own).any():
            raise InputError(
                f"{self.student.name}: body and head, called apart, differ from the model's own logits by {difference:.3g} "
                f"(spread {spread:.3g}): its head does more than a product, which is not supported"
            )


def token_statistics(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rank, surprisal and entropy of target tokens.

    Args:
        logits: (tokens, vocabulary), any floating dtype.
        targets: (tokens,), token ids.

    Returns:
        rank: int32, 1 + number of strictly larger logits in the dtype given; surprisal and entropy: float32, nats, from
        a log-sum-exp in float32.
    """
    # Every pass over the vocabulary costs as much as the exponential, so there are as few as will do, all in place.
    # Widening keeps the order and the ties of the logits: the rank is that of the dtype given.
    wide = logits.float()
    target = wide.gather(-1, targets[:, None])
    rank = (wide > target).sum(-1, dtype=torch.int32) + 1
    largest = wide.amax(-1, keepdim=True)
    wide = wide.sub_(largest) if wide is not logits else wide - largest
    weights = wide.exp()
    total = weights.sum(-1)
    surprisal = total.log() + (largest - target).squeeze(-1)
    # H = ln Z - E[logit]; a logit of -inf (a token that the model rules out) weighs nothing.
    entropy = total.log() - torch.linalg.vecdot(weights, wide.clamp_min_(-1e30)) / total
    return rank, surprisal, entropy


def batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Indices grouped by similar length, longest first, at most `token_budget` padded tokens a group (or one chat)."""
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= token_budget:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


class NotFinite(InputError):
    """Logits of a chat that are not finite.

    Attributes:
        chat: index of the chat in what was scored.
        token: index of the response token.
        reason: the message without the chat.
    """

    def __init__(self, chat: int, token: int) -> None:
        self.chat, self.token = chat, token
        self.reason = f"the logits at response token {token} are not finite (try float32; are the weights damaged?)"
        super().__init__(f"chat {chat}: {self.reason}")


@dataclass(frozen=True)
class ChatStatistics:
    """Statistics of one chat."""

    rank: np.ndarray[Any, np.dtype[np.uint32]]
    surprisal: np.ndarray[Any, np.dtype[np.float32]]
    entropy: np.ndarray[Any, np.dtype[np.float32]]


_EMPTY = ChatStatistics(np.empty(0, np.uint32), np.empty(0, np.float32), np.empty(0, np.float32))


def _in_float32(head: torch.nn.Module) -> torch.nn.Module:
    """A float32 copy of a head, whose weights may be shared with the embeddings."""
    assert isinstance(head, torch.nn.Linear)
    copy = torch.nn.Linear(head.in_features, head.out_features, bias=head.bias is not None, device=head.weight.device)
    copy.load_state_dict({name: value.float() for name, value in head.state_dict().items()})
    return copy
