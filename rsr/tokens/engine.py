"""The engine: token statistics from one forward pass of the student.

The body of the model runs over whole chats, grouped by length under a budget of tokens; its head (`rsr.student.head`) only over
response positions. A chat is padded on the right without a mask: under causal attention no real token sees what follows it.
Where the attention implementation keeps chats in one row apart (varlen flash-attention), they are packed without padding.
"""

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rsr.errors import InputError
from rsr.student.chat import RenderedChat
from rsr.student.device import copied
from rsr.student.head import Head
from rsr.tokens.branches import beyond, trees
from rsr.tokens.settings import Scoring
from rsr.tokens.statistics import TIE_RULE, Statistics, Sweep, statistics_at, sweep_over, token_statistics
from rsr.tokens.tokens import Tokens

if TYPE_CHECKING:
    from transformers import Cache

    from rsr.student.student import Student

LOG = logging.getLogger(__name__)
PACKING = "flash"  # in names of attention that keeps packed chats apart at no cost: flash_attention_2, hub kernels


class Scorer:
    """Scores rendered chats under one student.

    Attributes:
        token_budget: padded tokens per forward pass, as set or as suits the device.
        least_budget: the least that memory has left of it so far, in one call of `score`; the next begins with all of it.
        head_chunk: logits in memory at a time.
        packs: chats of a batch share one row, without padding.
        sweep: what gives the statistics of a chunk of logits.

    Raises:
        InputError: max_length is beyond the model's positions; or head and body, called apart, do not give the model's
            own logits (its head does something that is not known here).
    """

    def __init__(self, student: "Student", scoring: Scoring) -> None:
        self.student, self.scoring = student, scoring
        self.max_length = scoring.max_length_for(student)
        self.token_budget = scoring.token_budget_on(
            student.device.type, student.model.config.get_text_config().hidden_size
        )
        self.least_budget = self.token_budget
        self.head_chunk = scoring.head_chunk_on(student.device.type)
        self.packs = PACKING in (student.model.config._attn_implementation or "")
        self.body = student.model.get_decoder()
        self.head = Head(student.model, scoring.head_dtype)
        self.sweep: Sweep = token_statistics
        self._check_logits()

    @property
    def identity(self) -> dict[str, Any]:
        """Settings that shape the scores; batching changes them only within rounding."""
        return identity_of(self.scoring, self.max_length)

    @property
    def computed_with(self) -> dict[str, Any]:
        """What shapes the scores within rounding only."""
        return {
            "attention": self.student.model.config._attn_implementation,
            "device": self.student.device.type,
            "token_budget": self.token_budget,
            "token_budget_left": self.least_budget,  # lower where memory ran out
            "packed": self.packs,
            "compiled": self.sweep is not token_statistics,
        }

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
            InputError: memory runs out on one chat alone.
            NotFinite: logits that are not finite, naming chat (by its index) and token.
        """
        if any(chat.shared for chat in chats):
            rows = self._branching(chats, done)
        else:
            rows = self._rows(chats, range(len(chats)), done, self._grown(prefix) if prefix else None)
        parts = [_EMPTY, *rows]  # so that nothing can be concatenated too
        columns = ChatStatistics(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        return Tokens(
            rank=columns.rank,
            surprisal=columns.surprisal,
            entropy=columns.entropy,
            offsets=np.concatenate([[0], np.cumsum([len(r.rank) for r in rows])]).astype(np.int64),
            squares=columns.squares,
            expected_rank=columns.expected_rank if self.scoring.expectations else None,
        )

    def _branching(self, chats: Sequence[RenderedChat], done: Callable[[int], None]) -> "list[ChatStatistics]":
        """Rows of chats of which some begin as others do: the cache of a trunk grows from branch to branch."""
        rows: list[ChatStatistics] = [_EMPTY] * len(chats)
        found = trees(chats)
        alone = [tree[0] for tree in found if len(tree) == 1]
        for i, row in zip(alone, self._rows([chats[i] for i in alone], alone, done), strict=True):
            rows[i] = row
        for tree in found:
            before, length = None, 0
            for i in tree if len(tree) > 1 else ():
                if chats[i].shared > length:
                    before = self._grown(chats[tree[-1]].ids[length : chats[i].shared], before)
                    length = chats[i].shared
                (rows[i],) = self._rows([beyond(chats[i], length)], [i], done, before)
        return rows

    def _rows(
        self,
        chats: Sequence[RenderedChat],
        names: Sequence[int],
        done: Callable[[int], None],
        before: "Cache | None" = None,
    ) -> "list[ChatStatistics]":
        """Statistics of each chat behind what is in a cache.

        Args:
            names: indices of the chats as they are called outside.
        """
        rows: list[ChatStatistics] = [_EMPTY] * len(chats)
        prefix = 0 if before is None else before.get_seq_length()
        budget = self.token_budget
        waiting = self._batches(chats, range(len(chats)), prefix, budget)
        batch = self._batch(chats, waiting[-1], before) if waiting else None
        while batch is not None:
            statistics = self._within_memory(batch, before)
            if statistics is None:
                budget = self._lowered(budget, len(batch.chats), prefix + max(batch.lengths))
                waiting = self._batches(chats, sorted(chain(*waiting)), prefix, budget)
                batch = self._batch(chats, waiting[-1], before)
                continue
            waiting.pop()
            # A GPU is still at work while the next batch is copied to it; only then is it waited for.
            following = self._batch(chats, waiting[-1], before) if waiting else None
            for i, row in zip(batch.chats, _split(statistics, batch.counts), strict=True):
                if not (np.isfinite(row.surprisal).all() and np.isfinite(row.entropy).all()):
                    at = int(np.flatnonzero(~np.isfinite(row.surprisal) | ~np.isfinite(row.entropy))[0])
                    raise NotFinite(names[i], at)
                rows[i] = row
                done(names[i])
            batch = following
        return rows

    def _batches(
        self, chats: Sequence[RenderedChat], indices: Sequence[int], before: int, budget: int
    ) -> list[list[int]]:
        """Groups of the chats at indices, the longest last; one with images stands alone, since these differ in size."""
        alone = [[i] for i in indices if chats[i].images]
        blind = [i for i in indices if not chats[i].images]
        groups = batches([before + len(chats[i].ids) for i in blind], budget, padded=not self.packs or before > 0)
        return [*alone, *([blind[i] for i in group] for group in reversed(groups))]

    def _batch(self, chats: Sequence[RenderedChat], indices: Sequence[int], before: "Cache | None") -> "Batch":
        """The chats at indices as one forward pass takes them, on the device."""
        rows = [torch.tensor(chats[i].ids) for i in indices]
        shown = chats[indices[0]].images
        packed = self.packs and before is None and shown is None
        ids = torch.cat(rows)[None] if packed else torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = [len(row) for row in rows]
        starts = np.cumsum([0, *lengths])[:-1] if packed else np.arange(len(rows)) * ids.shape[1]
        responses = [
            torch.tensor(chats[i].positions(), dtype=torch.long) + int(at)
            for i, at in zip(indices, starts, strict=True)
        ]
        positions = torch.cat(responses)
        ids, positions, targets = (
            copied(tensor, self.student.device) for tensor in (ids, positions, ids.flatten()[positions])
        )
        counts = [len(response) for response in responses]
        images = {} if shown is None else self._images(shown.tensors(lengths[0]))
        return Batch(tuple(indices), ids, lengths, packed, positions, targets, counts, images)

    def _images(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What shows the model its images, as it computes: on its device, in its dtype."""
        model = self.student.model
        return {k: v.to(model.device, model.dtype if v.is_floating_point() else v.dtype) for k, v in tensors.items()}

    def _within_memory(self, batch: "Batch", before: "Cache | None") -> Statistics | None:
        """Statistics of a batch, or None where memory ran out."""
        try:
            if batch.images:
                hidden = self._seeing(batch).flatten(0, 1)
            else:
                hidden = self._hidden(batch.ids, before, batch.lengths if batch.packed else None).flatten(0, 1)
            # The logits at one position predict the token at the next.
            positions = batch.positions.to(hidden.device) - 1
            return statistics_at(
                self.head,
                hidden,
                positions,
                batch.targets,
                self.head_chunk,
                expectations=self.scoring.expectations,
                sweep=self.sweep,
            )
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            return None

    def _lowered(self, budget: int, chats: int, longest: int) -> int:
        """The token budget after a batch of so many chats, padded to the longest, ran out of memory."""
        if chats == 1:
            raise InputError(f"out of memory on one chat of {longest} tokens alone: lower max_length")
        budget = min(budget, chats * longest) // 2
        if budget < self.least_budget:
            self.least_budget = budget
            LOG.warning("out of memory: going on with %d tokens a batch", budget)
        return budget

    def _grown(self, prefix: Sequence[int], before: "Cache | None" = None) -> "Cache":
        """The cache of what is in a cache, which it takes, and these tokens."""
        ids = torch.tensor([prefix], device=self.student.device)
        try:
            cache: Cache = self.body(input_ids=ids, past_key_values=before, use_cache=True).past_key_values
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            raise InputError(
                f"out of memory on a prefix of {len(prefix)} tokens alone: it has to be shorter"
            ) from error
        return cache

    def _hidden(self, ids: Tensor, before: "Cache | None" = None, packed: Sequence[int] | None = None) -> Tensor:
        """Hidden states (rows, tokens, width) of ids (rows, tokens); of one row that packs chats of these lengths."""
        if before is not None:
            before = copy.deepcopy(before)  # the body appends to it
            before.batch_repeat_interleave(len(ids))
        # Positions that start anew are what tells packed chats apart.
        positions = None if packed is None else torch.cat([torch.arange(n, device=ids.device) for n in packed])[None]
        body = self.body(input_ids=ids, position_ids=positions, past_key_values=before, use_cache=before is not None)
        hidden: Tensor = body.last_hidden_state
        return hidden

    def _seeing(self, batch: "Batch") -> Tensor:
        """Hidden states (1, tokens, width) of a chat with images: from all of the model but its head."""
        body = self.student.model.base_model(input_ids=batch.ids, use_cache=False, **batch.images)
        hidden: Tensor = body.last_hidden_state
        return hidden

    @torch.inference_mode()
    def _check_logits(self) -> None:
        """Compare with the model's own forward on a short probe, packed where chats are packed, and choose the sweep over logits."""
        name, model = self.student.name, self.student.model
        probe = (torch.arange(16) * 7919 % self.head.vocabulary)[None].to(self.student.device)
        own = model(input_ids=probe, use_cache=False).logits.float()
        if torch.isnan(own).any():
            return  # said of the first chat
        head = Head(model)
        spread = own.std().item()
        difference = (own - head(self._hidden(probe)).float().to(own.device)).abs().max().item()
        if not difference <= 0.02 * spread:
            raise InputError(
                f"{name}: body and head, called apart, differ from the model's own logits by {difference:.3g} "
                f"(spread {spread:.3g}): its head does something that is not supported"
            )
        self.sweep = sweep_over(self.head(self._hidden(probe)[0]))
        if self.packs:
            twice = (
                head(self._hidden(torch.cat([probe, probe], dim=1), packed=[16, 16])).float().view(2, *own.shape[1:])
            )
            self.packs = bool(((twice - own).abs().max() <= 0.1 * spread).item())


def identity_of(scoring: Scoring, max_length: int) -> dict[str, Any]:
    """Settings that shape the scores of `Scorer`."""
    identity = {"max_length": max_length, "head_dtype": scoring.head_dtype, "tie_rule": TIE_RULE}
    # Said where it adds a column: stores that were made without it keep their keys.
    return identity | ({"expectations": True} if scoring.expectations else {})


def batches(lengths: Sequence[int], token_budget: int, *, padded: bool = True) -> list[list[int]]:
    """Indices grouped by similar length, longest first, at most `token_budget` tokens a group (or one chat).

    Args:
        padded: count the tokens after padding to the longest of a group.
    """
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        last = groups[-1] if groups else []
        size = (len(last) + 1) * lengths[last[0]] if padded and last else sum(lengths[k] for k in last) + lengths[i]
        if last and size <= token_budget:
            last.append(i)
        else:
            groups.append([i])
    return groups


def _out_of_memory(error: RuntimeError) -> bool:
    """Of a device, its matrix library, or a CPU; the latter two raise no error of a kind of their own."""
    signs = ("DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED", "MPS backend out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in signs)


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
class Batch:
    """Chats of one forward pass.

    Attributes:
        chats: their indices; lengths: their tokens; counts: their response tokens.
        ids: (rows, tokens), a chat a row, or all packed into one.
        positions: of the response tokens, in ids flattened; targets: the ids there.
        images: what shows the model the images of its one chat; empty where it has none.
    """

    chats: tuple[int, ...]
    ids: Tensor
    lengths: Sequence[int]
    packed: bool
    positions: Tensor
    targets: Tensor
    counts: Sequence[int]
    images: Mapping[str, Tensor]


class ChatStatistics(NamedTuple):
    """Statistics of one chat."""

    rank: np.ndarray[Any, np.dtype[np.uint32]]
    surprisal: np.ndarray[Any, np.dtype[np.float32]]
    entropy: np.ndarray[Any, np.dtype[np.float32]]
    squares: np.ndarray[Any, np.dtype[np.float32]]
    expected_rank: np.ndarray[Any, np.dtype[np.float32]]


_EMPTY = ChatStatistics(np.empty(0, np.uint32), *(np.empty(0, np.float32) for _ in range(4)))


def _split(statistics: Statistics, counts: Sequence[int]) -> list[ChatStatistics]:
    """Statistics of each chat on the CPU, from those of a batch; here a device is waited for."""
    rank, *others = (part.cpu().numpy() for part in statistics)
    ends = np.cumsum(counts)[:-1]
    columns = (np.split(part, ends) for part in (rank.astype(np.uint32), *others))
    return [ChatStatistics(*row) for row in zip(*columns, strict=True)]
