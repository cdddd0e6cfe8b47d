"""Turns that branch off one chat: the beginning that they share is read once, and the numbers stay."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from rsr.data.messages import Message
from rsr.student import student as students
from rsr.tokens.branches import trees
from rsr.tokens.engine import NotFinite, Scorer
from rsr.tokens.settings import Scoring
from tests.templates import FAMILIES

REPLY = "<think>\nHm, perhaps not.\n</think>\n\nLet us add: 1 + 2 = 3."
MESSAGES = [m for i in range(6) for m in (Message("user", f"Problem {i}, and then?"), Message("assistant", REPLY))]


def student(family, window=None):
    tokenizer = FAMILIES[family].tokenizer()
    shape: dict[str, Any] = dict(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2)
    shape |= dict(num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048, initializer_range=0.3)
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(LlamaConfig(**shape))
    if window is not None:
        model = Gemma2ForCausalLM(Gemma2Config(**shape, head_dim=8, sliding_window=window))
        model.set_attn_implementation("eager")
    return students.of_model(model, tokenizer, rendering="turn")


@pytest.mark.parametrize("window", [None, 16])
@pytest.mark.parametrize("family", ["qwen3", "r1"])
def test_a_beginning_that_turns_share_is_read_once(family, window):
    """A model that forgets (a sliding window) as well."""
    loaded = student(family, window)
    scorer = Scorer(loaded, Scoring())
    read: list[int] = []
    done: list[int] = []
    chats = loaded.renderer.chats(MESSAGES)
    alone = loaded.renderer.turns(MESSAGES)
    other = loaded.renderer.chats(MESSAGES[:2])
    loaded.model.get_decoder().register_forward_pre_hook(
        lambda module, args, given: read.append(given["input_ids"].numel()), with_kwargs=True
    )
    tokens = scorer.score([*other, *chats, *other], done.append)
    trunk = len(chats[-1].ids)
    written = sum(len(chat.ids) - chat.turns[0].start + 1 for chat in chats[:-1])
    assert sum(read) <= trunk + written + 8 * len(chats) + 2 * len(other[0].ids)
    assert sum(read) < sum(len(chat.ids) for chat in alone) / 1.5
    assert sorted(done) == list(range(len(chats) + 2)) and [len(tree) for tree in trees(chats)] == [len(chats)]
    apart = Scorer(loaded, Scoring()).score([*other, *alone, *other])
    np.testing.assert_allclose(tokens.surprisal, apart.surprisal, atol=1e-4)
    assert (tokens.rank != apart.rank).mean() <= 0.01


def test_truncation_leaves_the_turns_that_are_there():
    loaded = student("qwen3")
    lengths = [chat.length for chat in loaded.renderer.turns(MESSAGES)]
    chats = loaded.renderer.chats(MESSAGES, lengths[2])
    assert [len(tree) for tree in trees([chat for chat in chats if chat.turns])] == [sum(bool(c.turns) for c in chats)]
    apart = Scorer(loaded, Scoring()).score(loaded.renderer.turns(MESSAGES, lengths[2]))
    tokens = Scorer(loaded, Scoring()).score([chat for chat in chats if chat.turns])
    np.testing.assert_allclose(tokens.surprisal, apart.surprisal, atol=1e-4)


def test_a_branch_whose_logits_are_not_finite_is_named():
    loaded = student("qwen3")
    chats = loaded.renderer.chats(MESSAGES)
    scorer = Scorer(loaded, Scoring())
    loaded.model.lm_head.weight.data[:] = torch.nan
    with pytest.raises(NotFinite) as error:
        scorer.score(chats[1:])
    assert error.value.chat == 0
