"""What the benchmarks promise, without clocks."""

import numpy as np
import pytest

from benchmarks.contenders import Contender, run_together, workers
from benchmarks.scoring import check
from benchmarks.workload import chat

VOCABULARY = 50_000
pytestmark = pytest.mark.full


def run(*contenders, lengths=(64, 96, 64, 200, 80)):
    rng = np.random.default_rng(0)
    chats = [chat(rng.integers(VOCABULARY, size=n).tolist()) for n in lengths]
    with workers([(contender, chats) for contender in contenders]) as started:
        return run_together(started)


def test_the_contenders_compute_the_same_and_a_difference_ends_the_run():
    ways = [Contender(way, VOCABULARY, budget=200, dtype="float32", threads=1) for way in ("scoring", "plain")]
    _, _, (scored, plain) = run(*ways)
    assert check(scored, plain, "float32").startswith("float32: surprisal ")
    rank, surprisal = scored
    with pytest.raises(SystemExit, match="differ beyond rounding"):
        check((rank, surprisal * 1.001), plain, "float32")


def test_memory_does_not_grow_with_length_times_vocabulary():
    scoring = Contender("scoring", VOCABULARY, threads=1)
    (_, short, _), (_, long, _) = (run(scoring, lengths=(64, n)) for n in (1024, 8192))
    all_logits = (8192 - 1024) * VOCABULARY * 6 / 2**20
    assert long - short < 0.05 * all_logits
