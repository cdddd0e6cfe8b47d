"""The engine against plain float64 computation, and equivalences that batching must keep."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
)

from rsr.data.messages import Message
from rsr.errors import InputError
from rsr.features.gradients import summed_loss
from rsr.student import pretrained
from rsr.student import student as students
from rsr.student.chat import RenderedChat, Turn
from rsr.tokens.engine import NotFinite, Scorer, batches
from rsr.tokens.settings import Scoring
from rsr.tokens.statistics import token_statistics
from tests.models import save

REPLIES = [
    "It is 2.",
    "<think>\nHm, perhaps not.\n</think>\n\nThe final answer is \\boxed{42}.",
    "x",
    "1 + 2 = 3. " * 30,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="module")
def student(folder):
    return students.load(folder, dtype="float32", device="cpu")


def chats(student, replies=REPLIES, limit=None):
    return [
        student.renderer.render([Message("user", f"Problem {i}"), Message("assistant", reply)], limit)
        for i, reply in enumerate(replies)
    ]


def plain(student, chat):
    """Rank, surprisal and entropy as one would write them down, in float64, from the model's own logits."""
    with torch.inference_mode():
        logits = student.model(torch.tensor([chat.ids])).logits[0].double().numpy()
    rows = []
    for position in chat.positions():
        row, target = logits[position - 1], chat.ids[position]
        p = np.exp(row - row.max())
        p /= p.sum()
        rows.append((1 + (row > row[target]).sum(), -np.log(p[target]), -(p * np.log(p)).sum()))
    return np.array(rows).T


def same(one, other, tolerance=2e-5):
    assert (one.offsets == other.offsets).all()
    assert (one.rank != other.rank).mean() <= 1e-3  # neighbours whose logits differ by rounding alone
    np.testing.assert_allclose(one.surprisal, other.surprisal, atol=tolerance)
    np.testing.assert_allclose(one.entropy, other.entropy, atol=tolerance)


@pytest.mark.parametrize("budget", [1, 100_000])
def test_a_prefix_that_runs_once_changes_nothing(student, budget):
    scorer = Scorer(student, Scoring(token_budget=budget))
    whole = [student.renderer.render([Message("user", "Problem"), Message("assistant", reply)]) for reply in REPLIES]
    prompt = whole[0].turns[0].start - 1
    cut = [
        RenderedChat(chat.ids[prompt:], tuple(Turn(t.start - prompt, t.end - prompt, None) for t in chat.turns), 0)
        for chat in whole
    ]
    same(scorer.score(cut, prefix=whole[0].ids[:prompt]), scorer.score(whole))


def test_the_worked_example():
    rank, surprisal, *_ = token_statistics(torch.tensor([[2.0, 1.0, 0.5, 0.1]]), torch.tensor([2]))
    assert rank.tolist() == [3]
    assert surprisal.item() == pytest.approx(2.054, abs=5e-4)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    vocabulary=st.integers(2, 300),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    ties=st.booleans(),
)
def test_statistics_agree_with_float64(seed, vocabulary, dtype, ties):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, vocabulary, generator=generator) * 4
    logits = (logits.round() if ties else logits).to(dtype)
    targets = torch.randint(vocabulary, (5,), generator=generator)
    before = logits.clone()
    found = token_statistics(logits, targets, expectations=True)
    rank, surprisal, entropy, squares, expected_rank = (part.numpy() for part in found)
    assert torch.equal(logits, before)
    assert all(
        torch.equal(one, other) for one, other in zip(found[:4], token_statistics(logits, targets), strict=False)
    )
    wide = logits.double().numpy()
    log_p = (
        wide - np.log(np.exp(wide - wide.max(-1, keepdims=True)).sum(-1, keepdims=True)) - wide.max(-1, keepdims=True)
    )
    at = np.arange(5), targets.numpy()
    assert (rank == 1 + (wide > wide[at][:, None]).sum(-1)).all()
    np.testing.assert_allclose(surprisal, -log_p[at], atol=1e-5)
    p = np.exp(log_p)
    np.testing.assert_allclose(entropy, -(p * log_p).sum(-1), atol=1e-4)
    np.testing.assert_allclose(squares, (p**2).sum(-1), rtol=1e-5)
    ranks = np.minimum(np.arange(1, vocabulary + 1), 100)  # each of tied tokens has a rank of its own
    np.testing.assert_allclose(expected_rank, (np.sort(p)[:, ::-1] * ranks).sum(-1), rtol=1e-5, atol=1e-4)


def test_tied_logits_share_the_best_rank():
    rank, _, entropy, *_ = token_statistics(torch.zeros(1, 50, dtype=torch.bfloat16), torch.tensor([49]))
    assert rank.item() == 1
    assert entropy.item() == pytest.approx(np.log(50), abs=1e-5)


def test_tokens_that_the_model_rules_out_weigh_nothing():
    logits = torch.tensor([[1.0, 2.0, -torch.inf]])
    found = token_statistics(logits, torch.tensor([0]), expectations=True)
    alone = token_statistics(logits[:, :2], torch.tensor([0]), expectations=True)
    assert [part.item() for part in found] == pytest.approx([part.item() for part in alone])


def test_engine_agrees_with_the_models_own_logits(student):
    rendered = chats(student)
    tokens = Scorer(student, Scoring()).score(rendered)
    expected = [plain(student, chat) for chat in rendered]
    assert tokens.lengths.tolist() == [len(e[0]) for e in expected]
    rank, surprisal, entropy = np.concatenate(expected, axis=1)
    assert (tokens.rank != rank).sum() <= 1
    np.testing.assert_allclose(tokens.surprisal, surprisal, atol=2e-5)
    np.testing.assert_allclose(tokens.entropy, entropy, atol=2e-5)


@pytest.mark.parametrize(
    "settings",
    [dict(token_budget=1), dict(token_budget=700), dict(head_chunk=1), dict(head_chunk=5000), dict(token_budget=10**6)],
)
def test_batching_and_chunks_do_not_matter(student, settings):
    rendered = chats(student)
    same(Scorer(student, Scoring(**settings)).score(rendered), Scorer(student, Scoring()).score(rendered))


def test_order_and_neighbours_do_not_matter(student):
    rendered = chats(student)
    scorer = Scorer(student, Scoring(token_budget=10**6))
    together = scorer.score(rendered)
    backwards = scorer.score(rendered[::-1])
    for i, chat in enumerate(rendered):
        alone = scorer.score([chat])
        for whole, at in ((together, i), (backwards, len(rendered) - 1 - i)):
            part = slice(whole.offsets[at], whole.offsets[at + 1])
            assert (whole.rank[part] != alone.rank).sum() <= 1
            np.testing.assert_allclose(whole.surprisal[part], alone.surprisal, atol=2e-5)


def test_truncation_scores_a_prefix(student):
    whole = Scorer(student, Scoring()).score(chats(student))
    cut = Scorer(student, Scoring()).score(chats(student, limit=60))
    for i in range(len(REPLIES)):
        n = cut.lengths[i]
        np.testing.assert_allclose(
            cut.surprisal[cut.offsets[i] : cut.offsets[i + 1]], whole.surprisal[whole.offsets[i] :][:n], atol=2e-5
        )


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_tied_and_untied_heads_in_every_dtype(tmp_path, tied, dtype):
    loaded = students.load(save(tmp_path / "s", tied=tied), dtype=dtype, device="cpu")
    tokens = Scorer(loaded, Scoring()).score(chats(loaded))
    assert np.isfinite(tokens.surprisal).all()
    reference = students.load(tmp_path / "s", dtype="float32", device="cpu")
    exact = Scorer(reference, Scoring()).score(chats(reference))
    assert (
        np.abs(tokens.surprisal - exact.surprisal).mean() < {"float32": 1e-6, "float16": 0.02, "bfloat16": 0.1}[dtype]
    )


def test_a_float32_head_breaks_ties(folder):
    half = students.load(folder, dtype="bfloat16", device="cpu")
    as_model, in_float32 = (Scorer(half, Scoring(head_dtype=d)).score(chats(half)) for d in ("model", "float32"))
    # Where bfloat16 ties, the strict comparison gives the better rank.
    assert (as_model.rank.astype(int) - in_float32.rank.astype(int)).mean() < 0


def test_batches_keep_to_the_budget():
    lengths = [5, 100, 7, 50, 100, 1]
    groups = batches(lengths, 200)
    assert sorted(i for group in groups for i in group) == list(range(6))
    assert all(len(g) == 1 or len(g) * max(lengths[i] for i in g) <= 200 for g in groups)
    assert groups[0] == [1, 4]
    assert batches([300], 200) == [[0]]
    packed = batches(lengths, 200, padded=False)
    assert packed == [[1, 4], [3, 2, 0, 5]]


def test_logits_that_are_not_finite_name_chat_and_token(folder):
    broken = students.load(folder, dtype="float32", device="cpu")
    rendered = chats(broken)
    scorer = Scorer(broken, Scoring())
    with torch.no_grad():
        broken.model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(NotFinite, match=r"the logits at response token 0 are not finite \(try float32"):
        scorer.score(rendered)


def of_family(folder, family, tied):
    """A tiny model whose head does something after the product, and does it strongly."""
    shape: dict[str, Any] = dict(
        vocab_size=323, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
    )
    families: dict[str, Any] = {
        "gemma": (Gemma2Config(**shape, head_dim=8, final_logit_softcapping=2.0), Gemma2ForCausalLM),
        "cohere": (CohereConfig(**shape, logit_scale=3.0), CohereForCausalLM),
        "granite": (GraniteConfig(**shape, logits_scaling=0.3), GraniteForCausalLM),
    }
    config, model = families[family]
    torch.manual_seed(0)
    config.tie_word_embeddings, config.initializer_range, config.num_key_value_heads = tied, 0.3, 2
    model(config).save_pretrained(save(folder))  # over the weights of the Llama whose tokenizer it takes
    return students.load(folder, dtype="float32", device="cpu", attention="eager")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["gemma", "cohere", "granite"])
def test_what_a_model_does_to_its_logits_is_done(tmp_path, family, tied):
    loaded = of_family(tmp_path, family, tied)
    scorer, rendered = Scorer(loaded, Scoring()), chats(loaded)
    assert scorer.head.after
    tokens = scorer.score(rendered)
    rank, surprisal, entropy = np.concatenate([plain(loaded, chat) for chat in rendered], axis=1)
    assert (tokens.rank != rank).mean() <= 0.01
    np.testing.assert_allclose(tokens.surprisal, surprisal, atol=5e-5)
    np.testing.assert_allclose(tokens.entropy, entropy, atol=5e-5)
    same(Scorer(loaded, Scoring(head_dtype="float32")).score(rendered), tokens)
    losses = np.array([summed_loss(scorer, chat.ids, chat.positions()).item() for chat in rendered])
    np.testing.assert_allclose(losses, tokens.sum(tokens.surprisal.astype(np.float64)), rtol=1e-5)


def test_what_a_head_does_unknown_to_us_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("rsr.student.head.AFTER_PRODUCT", {})
    for family in ("gemma", "cohere", "granite"):
        with pytest.raises(InputError, match="its head does something that is not supported"):
            Scorer(of_family(tmp_path, family, tied=True), Scoring())


def test_packing_without_padding_changes_nothing(student):
    rendered = chats(student)
    packing = Scorer(student, Scoring(token_budget=700))
    packing.packs = True
    rows = []
    hook = packing.body.register_forward_pre_hook(lambda _, args, given: rows.append(given), with_kwargs=True)
    tokens = packing.score(rendered)
    hook.remove()
    assert {len(given["input_ids"]) for given in rows} == {1}
    assert sum(given["input_ids"].numel() for given in rows) == sum(len(chat.ids) for chat in rendered)
    assert len(rows) < len(rendered)
    same(tokens, Scorer(student, Scoring()).score(rendered))


class Memory:
    """A forward that runs out of memory beyond some tokens, as the allocator of a CPU or of a device says it."""

    def __init__(self, scorer, tokens, error):
        self.sizes, self.tokens, self.error = [], tokens, error
        self.handle = scorer.body.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, module, args, given):
        if given["input_ids"].numel() > self.tokens:
            raise self.error
        self.sizes.append(given["input_ids"].numel())


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_out_of_memory_halves_the_budget_and_goes_on(student, caplog, error):
    rendered = chats(student, [f"{i} " * (5 + i) for i in range(24)])
    expected = Scorer(student, Scoring()).score(rendered)
    scorer = Scorer(student, Scoring(token_budget=10**6))
    longest = max(len(chat.ids) for chat in rendered)
    memory, done = Memory(scorer, 3 * longest, error), list[Any]()
    try:
        same(scorer.score(rendered, done.append), expected)
        assert sorted(done) == list(range(24))
        assert longest < scorer.least_budget <= 3 * longest
        assert f"out of memory: going on with {scorer.least_budget} tokens a batch" in caplog.text
        memory.tokens = longest - 1
        with pytest.raises(InputError, match=f"out of memory on one chat of {longest} tokens alone"):
            scorer.score(rendered)
    finally:
        memory.handle.remove()


def test_the_budget_recovers_after_one_long_chat(student, caplog):
    """Attention takes memory with the square of the length: a batch of long chats runs out, one of short ones does not."""
    long = chats(student, ["1 + 2 = 3. " * 60] * 2)
    longest = len(long[0].ids)
    scorer, sizes = Scorer(student, Scoring(token_budget=2 * longest)), []

    def allocate(module, args, given):
        rows, length = given["input_ids"].shape
        if rows * length**2 > 1.5 * longest**2:
            raise OUT_OF_MEMORY[0]
        sizes.append(rows * length)

    handle = scorer.body.register_forward_pre_hook(allocate, with_kwargs=True)
    try:
        scorer.score(long)
        assert max(sizes) == scorer.least_budget == longest
        sizes.clear()
        scorer.score(chats(student, ["x"] * 40))
    finally:
        handle.remove()
    assert max(sizes) > scorer.least_budget
    assert caplog.text.count("out of memory") == 1


def test_max_length_beyond_the_models_positions(student):
    assert Scoring().max_length_for(student) == 2048
    assert Scoring(max_length=100).max_length_for(student) == 100
    with pytest.raises(InputError, match="max_length 4096 is beyond the 2048 positions"):
        Scoring(max_length=4096).max_length_for(student)
    assert Scoring(max_length=4096, beyond_positions=True).max_length_for(student) == 4096


def test_identity_tells_students_apart(tmp_path, folder):
    base = students.load(folder, dtype="float32", device="cpu").identity
    assert students.load(folder, dtype="float32", device="cpu", name="other").identity == base
    assert students.load(save(tmp_path / "same"), dtype="float32", device="cpu").identity == base
    different = [
        students.load(folder, dtype="bfloat16", device="cpu").identity,
        students.load(save(tmp_path / "other", seed=1), dtype="float32", device="cpu").identity,
        students.load(folder, dtype="float32", device="cpu", template="llama3").identity,
        students.load(folder, dtype="float32", device="cpu", attention="eager").identity,
    ]
    assert all(d != base for d in different)
    other_words = save(tmp_path / "words")
    words = json.loads((other_words / "tokenizer.json").read_text())
    words["model"]["merges"] = words["model"]["merges"][:-1]
    (other_words / "tokenizer.json").write_text(json.dumps(words))
    assert students.load(other_words, dtype="float32", device="cpu").identity != base


def test_without_sdpa_the_models_own_attention_is_taken_and_said(tmp_path, caplog):
    own = of_family(tmp_path / "gemma", "gemma", True).identity
    student = students.load(tmp_path / "gemma", dtype="float32", device="cpu")
    assert student.identity == own and own["attention"] == "eager" == pretrained.own_attention(tmp_path / "gemma")
    assert "gemma has no attention by sdpa: going on with eager" in caplog.text
    with pytest.raises(
        InputError, match="no such attention implementation: leave attention out, or take attention=eager"
    ):
        students.load(tmp_path / "gemma", dtype="float32", device="cpu", attention="sdpa")


@pytest.mark.parametrize("device", ["nonsense", "cuda:77"])
def test_a_device_that_is_not_there_is_refused(folder, device):
    with pytest.raises(InputError, match=f"device '{device}' cannot be used"):
        students.load(folder, device=device)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "holds no weights"),
        (lambda f: (f / "model.safetensors").write_bytes(b"0" * 100), "cannot be loaded"),
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be loaded"),
        (lambda f: (f / "tokenizer.json").write_text("{"), "cannot be loaded"),
        (lambda f: (f / "tokenizer_config.json").write_text("[]"), "cannot be loaded"),
        (
            lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-9]),
            "cannot be loaded",
        ),
        (lambda f: [p.unlink() for p in f.iterdir()], "config.json is missing"),
    ],
)
def test_damaged_model_folders_are_refused(tmp_path, damage, message):
    folder = save(tmp_path / "s")
    damage(folder)
    with pytest.raises(InputError, match=message) as error:
        students.load(folder)
    assert "\n" not in str(error.value)


def test_pickled_weights_are_refused(tmp_path):
    folder = save(tmp_path / "s")
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"holds no weights .* other formats are not read"):
        students.load(folder)


def test_a_missing_or_unreachable_model_is_refused(monkeypatch):
    with pytest.raises(InputError, match="no such model folder"):
        students.load("./nowhere")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="nobody/nothing: no folder here, and cannot be loaded from the hub"):
        students.load("nobody/nothing")


@pytest.mark.parametrize(("width", "tokens"), [(576, 29_127), (3_584, 4_681), (16_384, 2_048)])
def test_a_budget_suits_the_device_unless_it_is_given(width, tokens):
    assert Scoring().token_budget_on("cuda", width) == tokens
    assert (
        Scoring().token_budget_on("cpu", width) == Scoring(token_budget=2_048).token_budget_on("cuda", width) == 2_048
    )
    assert Scoring().head_chunk_on("cpu") < Scoring().head_chunk_on("cuda")
    assert Scoring(head_chunk=5).head_chunk_on("cuda") == 5
