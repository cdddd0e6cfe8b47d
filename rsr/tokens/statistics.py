"""Rank, surprisal and moments of the predictive distribution of tokens from a student's logits. Ties between logits are decided here.

Logits exist for some positions at a time and are swept once, so that memory does not grow with length times vocabulary and the
sweep costs a fraction of the product that makes them: on a CPU in blocks that stay in its cache, on a GPU in compiled kernels.
"""

import logging
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from rsr.student.head import Head
from rsr.tokens.tokens import EXPECTED_UP_TO

# The rank counts strictly larger logits as the head computes them, so equal logits do not raise it: the reference's rule.
TIE_RULE = "strictly-larger-logits"
CACHED_LOGITS = 2**18  # logits whose float32 copies stay in a CPU core's cache
LOG = logging.getLogger(__name__)


class Statistics(NamedTuple):
    """Statistics of target tokens, each of shape (tokens,).

    Attributes:
        rank: int32, 1 + number of strictly larger logits in the dtype given.
        surprisal, entropy: float32, nats, from a log-sum-exp in float32.
        squares: float32, sum of squared probabilities.
        expected_rank: float32, what min(rank, 100) is expected to be under the predictive distribution; empty where it was not
            asked for.
    """

    rank: Tensor
    surprisal: Tensor
    entropy: Tensor
    squares: Tensor
    expected_rank: Tensor


class Sweep(Protocol):
    """Statistics of target tokens (tokens,) from logits (tokens, vocabulary)."""

    def __call__(self, logits: Tensor, targets: Tensor, *, expectations: bool = False) -> Statistics: ...


def sweep_over(logits: Tensor) -> Sweep:
    """The sweep that suits logits like these: on a GPU `fused_statistics`, compiled; elsewhere `token_statistics`."""
    return compiled(logits) if logits.device.type == "cuda" else token_statistics


def compiled(logits: Tensor) -> Sweep:
    """`fused_statistics` compiled for logits like these; `token_statistics`, and a line, where nothing can be compiled."""
    sweep = torch.compile(fused_statistics, dynamic=True)
    try:
        sweep(logits, logits.argmin(-1))
    except Exception as error:  # torch's compilers, Triton and the C compiler that they start have no error in common
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        LOG.warning("the sweep over logits is not compiled, and takes longer: %s", reason)
        return token_statistics
    return sweep


def statistics_at(
    head: Head,
    hidden: Tensor,
    positions: Tensor,
    targets: Tensor,
    chunk: int,
    *,
    expectations: bool = False,
    sweep: Sweep,
) -> Statistics:
    """Statistics of targets, where these lie; a device is not waited for.

    Args:
        hidden: (tokens, width); positions: rows of it; targets: the token id that each of these predicts.
        chunk: logits in memory at a time.
        expectations: compute the expected rank too.
        sweep: what is done with a chunk of logits.
    """
    rows = max(1, chunk // head.vocabulary)
    # Written in place: small results kept between large logits would hold the heap open, some GB on a long chat.
    rank = targets.new_empty(len(targets), dtype=torch.int32)
    sizes = [*[len(targets)] * 3, len(targets) if expectations else 0]
    out = Statistics(rank, *(targets.new_empty(size, dtype=torch.float32) for size in sizes))
    for start in range(0, len(targets), rows):
        part = slice(start, start + rows)
        logits = head(hidden[positions[part]])  # of a student that is spread, where its head lies
        found = sweep(logits, targets[part].to(logits.device), expectations=expectations)
        for column, values in zip(out, found, strict=True):
            column[part] = values
    return out


def token_statistics(logits: Tensor, targets: Tensor, *, expectations: bool = False) -> Statistics:
    """Statistics of target tokens, by passes that write in place.

    Args:
        logits: (tokens, vocabulary), any floating dtype.
        targets: (tokens,), token ids.
        expectations: compute the expected rank too.
    """
    tokens, vocabulary = logits.shape
    cached = max(1, CACHED_LOGITS * torch.get_num_threads() // vocabulary)
    rows = min(tokens, cached) if logits.device.type == "cpu" else tokens
    wide, work = logits.new_empty((2, rows, vocabulary), dtype=torch.float32)
    target = logits.gather(-1, targets[:, None]).float()
    larger, total, weighted, norm = logits.new_empty((4, tokens), dtype=torch.float32)
    largest = torch.empty_like(target)
    best = logits.new_empty((tokens if expectations else 0, min(EXPECTED_UP_TO, vocabulary)), dtype=torch.float32)
    # Each pass reads and writes float32 alone: those that mix dtypes or make booleans are not vectorised on a CPU and cost
    # ten times as much. Widening keeps the order and the ties of the logits, and a count below 2^24 is exact.
    for at in range(0, tokens, rows):
        part = slice(at, min(at + rows, tokens))
        x, y = wide[: part.stop - at], work[: part.stop - at]
        torch.gt(x.copy_(logits[part]), target[part], out=y)
        torch.sum(y, -1, out=larger[part])
        torch.amax(x, -1, keepdim=True, out=largest[part])
        torch.exp(x.sub_(largest[part]), out=y)
        torch.sum(y, -1, out=total[part])
        torch.linalg.vector_norm(y, dim=-1, out=norm[part])
        if expectations:
            best[part] = torch.topk(y, best.shape[1], dim=-1).values
        # A logit of -inf (a token that the model rules out) weighs nothing, though 0 x inf is not a number.
        torch.nansum(y.mul_(x), -1, out=weighted[part])
    log_total = total.log()
    return Statistics(
        rank=larger.int() + 1,
        surprisal=log_total + (largest - target).squeeze(-1),
        entropy=log_total - weighted / total,  # H = ln Z - E[logit]
        squares=(norm / total) ** 2,
        expected_rank=_expected_rank(best / total[:, None]) if expectations else total.new_empty(0),
    )


def fused_statistics(logits: Tensor, targets: Tensor, *, expectations: bool = False) -> Statistics:
    """As `token_statistics`, in a form of which a compiler makes few kernels; uncompiled it takes some times as long."""
    target = logits.gather(-1, targets[:, None])
    larger = (logits > target).sum(-1, dtype=torch.int32)
    wide = logits.float()
    largest = wide.amax(-1, keepdim=True)
    below = wide - largest
    weight = below.exp()
    total = weight.sum(-1)
    weighted = torch.where(weight > 0, weight * below, 0.0).sum(-1)
    best = weight.topk(min(EXPECTED_UP_TO, weight.shape[1]), dim=-1).values if expectations else weight[:, :0]
    return Statistics(
        rank=larger + 1,
        surprisal=total.log() + (largest - target.float()).squeeze(-1),
        entropy=total.log() - weighted / total,
        squares=weight.square().sum(-1) / total.square(),
        expected_rank=_expected_rank(best / total[:, None]) if expectations else total[:0],
    )


def _expected_rank(best: Tensor) -> Tensor:
    """What the clipped rank is expected to be, from the largest probabilities (tokens, k) in falling order: all others have the
    clip's rank. Of equal probabilities each has a rank of its own.
    """
    ranks = torch.arange(1, best.shape[1] + 1, device=best.device, dtype=best.dtype)
    return best @ ranks + EXPECTED_UP_TO * (1 - best.sum(-1)).clamp(min=0)
