"""Rank, surprisal and entropy of tokens from a student's logits. Ties between logits are decided here.

Logits exist for some positions at a time and are swept once, in blocks that stay in a CPU's cache, so that memory does not
grow with length times vocabulary and the sweep costs a fraction of the product that makes them.
"""

import torch
from torch import Tensor

from rsr.student.head import Head

# The rank counts strictly larger logits as the head computes them, so equal logits do not raise it: the reference's rule.
TIE_RULE = "strictly-larger-logits"
CACHED_LOGITS = 2**18  # logits whose float32 copies stay in a CPU core's cache


def statistics_at(
    head: Head, hidden: Tensor, positions: Tensor, targets: Tensor, chunk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Rank (int32), surprisal and entropy (float32, nats) of targets, where these lie; a device is not waited for.

    Args:
        hidden: (tokens, width); positions: rows of it; targets: the token id that each of these predicts.
        chunk: logits in memory at a time.
    """
    rows = max(1, chunk // head.vocabulary)
    # Written in place: small results kept between large logits would hold the heap open, some GB on a long chat.
    out = [targets.new_empty(len(targets), dtype=dtype) for dtype in (torch.int32, torch.float32, torch.float32)]
    for start in range(0, len(targets), rows):
        part = slice(start, start + rows)
        logits = head(hidden[positions[part]])  # of a student that is spread, where its head lies
        for column, values in zip(out, token_statistics(logits, targets[part].to(logits.device)), strict=True):
            column[part] = values
    rank, surprisal, entropy = out
    return rank, surprisal, entropy


def token_statistics(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rank, surprisal and entropy of target tokens.

    Args:
        logits: (tokens, vocabulary), any floating dtype.
        targets: (tokens,), token ids.

    Returns:
        rank: int32, 1 + number of strictly larger logits in the dtype given; surprisal and entropy: float32, nats, from
        a log-sum-exp in float32.
    """
    tokens, vocabulary = logits.shape
    cached = max(1, CACHED_LOGITS * torch.get_num_threads() // vocabulary)
    rows = min(tokens, cached) if logits.device.type == "cpu" else tokens
    wide, work = logits.new_empty((2, rows, vocabulary), dtype=torch.float32)
    target = logits.gather(-1, targets[:, None]).float()
    larger, total, weighted = logits.new_empty((3, tokens), dtype=torch.float32)
    largest = torch.empty_like(target)
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
        # A logit of -inf (a token that the model rules out) weighs nothing, though 0 x inf is not a number.
        torch.nansum(y.mul_(x), -1, out=weighted[part])
    log_total = total.log()
    surprisal = log_total + (largest - target).squeeze(-1)
    return larger.int() + 1, surprisal, log_total - weighted / total  # H = ln Z - E[logit]
