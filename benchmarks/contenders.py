"""Ways to run a model over chats, each in a process of its own, which keeps its time and peak memory apart."""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rsr.student import student as students
from rsr.student.chat import RenderedChat
from rsr.student.device import weights_dtype
from rsr.student.settings import WeightsDtype
from rsr.student.student import Student
from rsr.tokens.engine import Scorer, batches
from rsr.tokens.settings import Scoring

DTYPE = weights_dtype("auto", "cpu")
CLIP = 100  # the plain way knows ranks up to here
PLAIN_BATCH = 4

# Clipped ranks and surprisals of all response tokens, in order; None of what does not score.
Numbers = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None


@dataclass(frozen=True)
class Contender:
    """What is run, and how.

    Attributes:
        way: "body" (no head), "body and head" (the product alone, on response positions), "scoring", or "plain".
        budget: tokens a batch, where the way has one.
        model: folder, or the vocabulary of a random model whose body is tiny.
    """

    way: str
    model: str | int
    budget: int = 1
    dtype: WeightsDtype = DTYPE
    threads: int = 2

    def load(self) -> Student:
        if isinstance(self.model, str):
            return students.load(self.model, dtype=self.dtype, device="cpu")
        return tiny(self.model, self.dtype)


def tiny(vocabulary: int, dtype: str, width: int = 256) -> Student:
    """A random model of two layers: next to its head there is hardly a body."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape: dict[str, Any] = dict(
        hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=width // 64
    )
    config = LlamaConfig(vocab_size=vocabulary, max_position_embeddings=65_536, tie_word_embeddings=True, **shape)
    model = LlamaForCausalLM(config).to(getattr(torch, dtype)).eval()
    return Student("tiny", model, None, {})  # type: ignore[arg-type]


@torch.inference_mode()
def body(scorer: Scorer, chats: Sequence[RenderedChat], budget: int, head: bool = False) -> None:
    """The floor: the body over padded batches of similar length."""
    for group in batches([len(c.ids) for c in chats], budget):
        rows = [torch.tensor(chats[i].ids) for i in group]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(scorer.student.device)
        hidden = scorer.body(input_ids=ids, use_cache=False).last_hidden_state
        if head:
            states = torch.cat([hidden[k, torch.tensor(chats[i].positions()) - 1] for k, i in enumerate(group)])
            for part in states.split(max(1, scorer.head_chunk // scorer.head.vocabulary)):
                scorer.head(part)


def scoring(scorer: Scorer, chats: Sequence[RenderedChat]) -> Numbers:
    tokens = scorer.score(chats)
    return np.minimum(tokens.rank, CLIP), tokens.surprisal


@torch.inference_mode()
def plain(scorer: Scorer, chats: Sequence[RenderedChat]) -> Numbers:
    """The plain way, as the reference implementation does it: padded batches in order, all logits, the largest of each."""
    ranks, surprisals = [], []
    for group in (chats[i : i + PLAIN_BATCH] for i in range(0, len(chats), PLAIN_BATCH)):
        rows = [torch.tensor(chat.ids) for chat in group]
        device = scorer.student.device
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True).to(device)
        logits = scorer.student.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
        target = logits.gather(-1, ids[:, 1:, None])
        rank = 1 + (logits.topk(CLIP - 1, dim=-1).values > target).sum(-1)
        wide = logits.float()
        surprisal = wide.logsumexp(-1) - target.squeeze(-1).float()
        for row, chat in enumerate(group):
            at = torch.tensor(chat.positions()) - 1
            ranks.append(rank[row, at].cpu().numpy())
            surprisals.append(surprisal[row, at].cpu().numpy())
    return np.concatenate(ranks), np.concatenate(surprisals)


class Worker:
    """A process that runs one contender over its chats whenever it is told to."""

    def __init__(self, contender: Contender, chats: Sequence[RenderedChat]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["benchmarks.contenders", "transformers.models.llama.modeling_llama"])
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_work, args=(contender, chats, other), daemon=True)
        self.process.start()
        other.close()
        self.connection.recv()  # it is ready

    def start(self) -> None:
        self.connection.send(True)

    def finish(self) -> tuple[float, Numbers]:
        """Peak memory that the runs so far have added (MB), and what was computed."""
        try:
            result: tuple[float, Numbers] = self.connection.recv()
        except EOFError as error:
            raise RuntimeError("a contender died, see above") from error
        return result

    def stop(self) -> None:
        self.process.terminate()
        self.process.join()


@contextmanager
def workers(contenders: Sequence[tuple[Contender, Sequence[RenderedChat]]]) -> Iterator[list[Worker]]:
    """Contenders, each with its chats, ready to run and idle."""
    started: list[Worker] = []
    try:
        for contender, chats in contenders:
            started.append(Worker(contender, chats))
        yield started
    finally:
        for worker in started:
            worker.stop()


def run_together(running: Sequence[Worker]) -> tuple[float, float, list[Numbers]]:
    """Seconds until all have run once, the peak memory (MB) that they have added together, and what each computed."""
    began = time.perf_counter()
    for worker in running:
        worker.start()
    results = [worker.finish() for worker in running]
    return time.perf_counter() - began, sum(peak for peak, _ in results), [numbers for _, numbers in results]


def _work(contender: Contender, chats: Sequence[RenderedChat], connection: Connection) -> None:
    torch.set_num_threads(contender.threads)
    scorer = Scorer(contender.load(), Scoring(token_budget=contender.budget))
    ways: dict[str, Callable[[Sequence[RenderedChat]], Numbers]] = {
        "body": partial(body, scorer, budget=contender.budget),
        "body and head": partial(body, scorer, budget=contender.budget, head=True),
        "scoring": partial(scoring, scorer),
        "plain": partial(plain, scorer),
    }
    run = ways[contender.way]
    run([min(chats, key=lambda chat: len(chat.ids))])  # warm
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark starts anew
    before = _status("VmRSS")
    connection.send(True)
    while True:
        connection.recv()
        numbers = run(chats)
        connection.send((_status("VmHWM") - before, numbers))


def _status(name: str) -> float:
    """A memory figure of this process, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024
