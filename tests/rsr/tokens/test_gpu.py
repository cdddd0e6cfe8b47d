"""The engine on a GPU gives what it gives on a CPU: `pytest -m gpu` where there is one. The same tests run on a CPU."""

import numpy as np
import pytest
import torch

from benchmarks import gpu
from benchmarks.workload import chat
from rsr.student import student as students
from rsr.tokens.engine import Scorer
from rsr.tokens.settings import Scoring
from rsr.tokens.statistics import compiled, fused_statistics, sweep_over, token_statistics
from tests.models import save

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])])
def device(request):
    return request.param


@pytest.mark.parametrize("sweep", [token_statistics, fused_statistics])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_statistics_are_exact_for_ties_and_ruled_out_tokens(device, dtype, sweep):
    torch.manual_seed(0)
    logits = (4 * torch.randn(64, 5_000)).round().to(dtype)  # many ties
    logits[:, 100:200] = -torch.inf
    targets = torch.arange(64) % 100
    found = sweep(logits.to(device), targets.to(device), expectations=True)
    rank, surprisal, entropy, squares, expected_rank = (part.cpu() for part in found)
    exact = logits.double().log_softmax(-1)
    target = exact.gather(-1, targets[:, None])
    assert rank.equal((1 + (exact > target).sum(-1)).int())
    torch.testing.assert_close(surprisal.double(), -target.squeeze(-1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(entropy.double(), -(exact.exp() * exact).nansum(-1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(squares.double(), exact.exp().square().sum(-1), atol=1e-5, rtol=1e-5)
    best = exact.exp().sort(-1, descending=True).values[:, :100]
    expected = best @ torch.arange(1, 101, dtype=torch.double) + 100 * (1 - best.sum(-1))
    torch.testing.assert_close(expected_rank.double(), expected, atol=1e-3, rtol=1e-5)


def test_a_sweep_that_cannot_be_compiled_is_done_pass_by_pass_and_told_of(caplog):
    logits = torch.randn(4, 50)
    assert sweep_over(logits) is token_statistics  # on a CPU compiling gains nothing
    from torch._inductor import config

    with config.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}):
        assert compiled(logits) is token_statistics
    assert "the sweep over logits is not compiled, and takes longer: " in caplog.text


@pytest.mark.full
def test_a_compiled_sweep_gives_the_same_for_any_number_of_tokens(device):
    torch.manual_seed(0)
    sweep = compiled(torch.randn(16, 999, device=device))
    for tokens in (1, 2, 33):
        logits = (4 * torch.randn(tokens, 999, device=device)).round()
        targets = torch.arange(tokens, device=device)
        for ours, plain in zip(sweep(logits, targets), token_statistics(logits, targets), strict=True):
            torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)


def test_the_engine_agrees_with_the_cpu_whatever_the_budget(device, tmp_path):
    folder = save(tmp_path / "student")
    chats = gpu.drawn_chats(gpu.WORK["tiny"])
    vocabulary = students.load(folder, dtype="float32", device="cpu").model.config.vocab_size
    chats = [chat([i % vocabulary for i in c.ids]) for c in chats]
    there = Scorer(students.load(folder, dtype="float32", device="cpu"), Scoring()).score(chats)
    for settings in (Scoring(), Scoring(token_budget=500, head_chunk=999)):
        here = Scorer(students.load(folder, dtype="float32", device=device), settings).score(chats)
        assert (here.rank == there.rank).mean() >= 0.999
        np.testing.assert_allclose(here.surprisal, there.surprisal, atol=1e-4)
        np.testing.assert_allclose(here.entropy, there.entropy, atol=1e-4)


@pytest.mark.full
def test_the_benchmark_runs(device, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "RESULTS", tmp_path)
    gpu.main(["scoring", "parity", "files", "sampling", "--device", device, "--shape", "tiny"])
    printed = capsys.readouterr()
    assert '"engine"' in printed.out and '"ranks equal": 1.0' in printed.out
    assert list(tmp_path.iterdir()) if device == "cuda" else "nothing is written" in printed.err


def test_figures_that_have_changed_are_told_of():
    before = {"scoring": {"7B": {"engine": 100.0, "plain way": 10.0}}}
    assert gpu.differences(before, {"scoring": {"7B": {"engine": 89.0, "plain way": 10.5, "new": 1.0}}}) == [
        "scoring: 7B: engine: 89, before 100"
    ]
