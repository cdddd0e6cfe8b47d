"""A text that is tokenised in pieces has the tokens that it has as a whole."""

import random

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from rsr.data.messages import Message
from rsr.errors import InputError
from rsr.student import chat
from rsr.student.chat import ChatRenderer
from rsr.student.tokenisation import tokenised
from tests import models as students


def byte_level(prefix_space):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(["so the answer is 1 + 2 = 3, and then the next\n\n"] * 9, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def texts():
    rng = random.Random(0)
    parts = [
        "so ",
        "the answer",
        " is\n",
        "\n\n  ",
        "12",
        "学生",
        "🦜",
        "e\u0301",
        "\t",
        "    ",
        "<|im_end|>",
        "a" * 40,
        ".",
    ]
    return ["".join(rng.choices(parts, k=600)) for _ in range(5)] + [
        "x" * 3000,
        " " * 3000,
        "",
        "\n" * 2000,
        "短" * 2000,
    ]


@pytest.mark.parametrize("tokenizer", [byte_level(False), byte_level(True), students.tokenizer()])
def test_pieces_are_tokenised_as_the_whole(tokenizer):
    for text in texts():
        whole = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        for piece in (100, 300):
            ids, offsets = tokenised(tokenizer, text, piece)
            assert ids.tolist() == whole["input_ids"]
            assert offsets.tolist() == [list(of) for of in whole["offset_mapping"]]


def test_a_long_text_is_cut(monkeypatch):
    tokenizer = byte_level(False)
    asked: list[int] = []
    called = type(tokenizer).__call__

    def noted(self, text, **options):
        asked.append(len(text))
        return called(self, text, **options)

    monkeypatch.setattr(type(tokenizer), "__call__", noted)
    tokenised(tokenizer, "so the answer is 3.\n" * 500, 200)
    assert max(asked) < 1000


def test_a_chat_that_is_spelt_in_parts_is_the_same(monkeypatch):
    renderer = ChatRenderer(students.tokenizer())
    messages = [Message("user", "?"), Message("assistant", "so 1 + 2 = 3.\nThe 学生 says 🦜 e\u0301.\n" * 30)]
    whole = renderer.render(messages, 200)
    monkeypatch.setattr(chat, "SPELT", 16)
    again = renderer.render(messages, 200)
    assert again == whole and again.turns[0].characters == whole.turns[0].characters
    assert len(whole.turns[0].characters) == 200 - whole.turns[0].start
    monkeypatch.setattr(ChatRenderer, "_decoded", lambda self, ids: "other" * len(ids))
    with pytest.raises(InputError, match="does not keep the response verbatim"):
        renderer.render(messages, 200)
