"""The chat renderer: the tokens under the mask are the response, verbatim, whatever the messages hold."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from rsr.data.messages import Message
from rsr.errors import InputError
from rsr.student.chat import ChatRenderer, Departures
from rsr.student.template import load_template
from tests.models import tokenizer
from tests.templates import keeping_line_ends

TOKENIZER = tokenizer()
CHATML = ChatRenderer(TOKENIZER)


def chat(reply="It is 2.", user="1 + 1?", system="Think."):
    messages = [Message("system", system)] if system is not None else []
    return [*messages, Message("user", user), Message("assistant", reply)]


def under_mask(renderer, rendered, mask="response"):
    return renderer.tokenizer.decode([rendered.ids[p] for p in rendered.positions(mask)])


def test_masks_with_and_without_end_of_turn():
    rendered = CHATML.render(chat())
    assert under_mask(CHATML, rendered) == "It is 2."
    assert under_mask(CHATML, rendered, "response+eot") == "It is 2.<|im_end|>"
    assert CHATML.tokenizer.decode(list(rendered.ids)) == (
        "<|im_start|>system\nThink.<|im_end|>\n<|im_start|>user\n1 + 1?<|im_end|>\n"
        "<|im_start|>assistant\nIt is 2.<|im_end|>\n"
    )


def test_the_prompt_is_what_stands_before_the_response():
    messages = chat()
    rendered = CHATML.render(messages)
    prompt = CHATML.prompt_ids(messages[:2])
    assert list(rendered.ids[: len(prompt)]) == prompt
    assert rendered.positions()[0] == len(prompt)


def test_every_assistant_turn_counts():
    messages = [*chat("one"), Message("user", "and?"), Message("assistant", "two")]
    assert under_mask(CHATML, CHATML.render(messages), "response+eot") == "one<|im_end|>two<|im_end|>"


@pytest.mark.parametrize(
    "messages",
    [
        chat(user="What does <|im_start|>assistant\nmean?<|im_end|>"),
        chat(reply="The marker <|im_start|>assistant\n is typed, and <|im_end|> too."),
        chat(reply="It is 2."[::-1], user="It is 2."[::-1]),  # the response stands in the prompt as well
        chat(reply="<think>\nperhaps\n</think>\n\nIt is 2."),
        chat(reply="naïve ∑ 😀 数学"),
        chat(system=None),
    ],
)
def test_nothing_in_the_messages_moves_the_mask(messages):
    rendered = CHATML.render(messages)
    assert under_mask(CHATML, rendered) == messages[-1].content


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=12), st.text(min_size=1, max_size=30)), min_size=1, max_size=3))
def test_the_mask_is_verbatim_or_what_is_missing_is_counted(turns):
    messages = [m for user, reply in turns for m in (Message("user", user), Message("assistant", reply))]
    rendered = CHATML.render(messages)
    if rendered.departures == Departures():
        assert under_mask(CHATML, rendered) == "".join(reply for _, reply in turns)
    assert rendered.departures.dropped == rendered.departures.added == 0


def test_truncation_is_on_the_right_and_flagged():
    whole = CHATML.render(chat())
    for length in range(len(whole.ids) + 1):
        cut = CHATML.render(chat(), length)
        assert cut.ids == whole.ids[:length]
        assert cut.truncated == (length < len(whole.ids))
        assert cut.positions() == [p for p in whole.positions() if p < length]
        if cut.turns:
            assert cut.positions("response+eot") == [p for p in whole.positions("response+eot") if p < length]


TRIMMING = load_template("chatml").replace("message['content']", "message['content'] | trim")
REWRITING = load_template("chatml").replace("message['content']", "message['content'].split('</think>')[-1]")
WRAPPING = load_template("chatml").replace(
    "'\\n' + message['content']",
    "'\\n' + ('<think>\\n\\n</think>\\n\\n' if message['role'] == 'assistant' else '') + message['content']",
)
DATED = "{{ strftime_now('%d %b %Y') }}\n" + load_template("chatml")
PINNED = "{{ date_string if date_string is defined else strftime_now('%d %b %Y') }}\n" + load_template("chatml")
SPACED = "{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}" + (
    "{% if add_generation_prompt %}<|im_start|>assistant:{% endif %}"
)
SPACED_PROMPT = SPACED.replace("assistant:", "assistant: ")
OPENED = REWRITING.replace("'<|im_start|>assistant\\n'", "'<|im_start|>assistant\\n<think>\\n'")
WRAPPING_UNLESS_THINKING = WRAPPING.replace("== 'assistant'", "== 'assistant' and '<think>' not in message['content']")
HISTORY = load_template("chatml").replace(
    "message['content']", "(message['content'] if loop.index > messages | length - 2 else 'earlier')"
)


@pytest.mark.parametrize(
    ("template", "messages", "expected"),
    [
        (
            load_template("chatml").replace("message['content']", "message['content'] | upper"),
            chat(),
            "expected 't is 2.'",
        ),
        ("{{ 'Hello!' }}", chat(), "writes nothing of the response: take another template"),
        ("{{ raise_exception('no system role') }}", chat(), "refuses the messages: no system role"),
        ("{{ messages[", chat(), "refuses the messages"),
        (DATED, chat(), "writes today's date"),
        ("{{ 1 // 0 }}", chat(), "the chat template fails: ZeroDivisionError: "),
        ("{% for i in range(999999) %}{% endfor %}", chat(), "the chat template fails: OverflowError: Range too big"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", chat(), "the chat template fails: RecursionError: "),
        ("{{ 'a'.encode('nope') }}", chat(), "the chat template fails: LookupError: unknown encoding: nope"),
    ],
)
def test_templates_that_change_a_response_are_refused(template, messages, expected):
    with pytest.raises(InputError) as error:
        ChatRenderer(TOKENIZER, template).render(messages)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("template", "messages", "scored", "lost"),
    [
        (TRIMMING, chat(reply=" It is 2. "), ["It is 2."], Departures(dropped=2)),
        (REWRITING, chat(reply="<think>a</think>b"), ["b"], Departures(dropped=16)),
        (WRAPPING, chat(), ["It is 2."], Departures(added=19)),
        (
            HISTORY,
            [*chat("one"), Message("user", "and?"), Message("assistant", "two")],
            ["two"],
            Departures(dropped=3, unseen=2),
        ),
        (SPACED, chat("final answer"), [" final answer"], Departures(added=1)),
        (SPACED_PROMPT, chat("final answer"), [" answer"], Departures(boundary=1)),
    ],
)
def test_what_a_template_changes_is_counted(template, messages, scored, lost):
    renderer = ChatRenderer(TOKENIZER, template)
    chat = renderer.render(messages)
    assert [renderer.tokenizer.decode(list(chat.ids[turn.start : turn.end])) for turn in chat.turns] == scored
    assert chat.departures == lost


@pytest.mark.parametrize("template", [TRIMMING, REWRITING, OPENED])
@pytest.mark.parametrize("reply", [" It is 2. ", "<think>\nOne.\n</think>\n\nIt is 2."])
def test_a_turn_is_to_the_letter_whatever_the_template_drops(template, reply):
    renderer = ChatRenderer(TOKENIZER, template, rendering="turn")
    (chat_of_turn,) = renderer.chats(chat(reply))
    assert under_mask(renderer, chat_of_turn) == (reply.removeprefix("<think>\n") if template == OPENED else reply)
    assert chat_of_turn.departures == Departures()
    assert list(chat_of_turn.ids[: chat_of_turn.turns[0].start]) == renderer.prompt_ids(chat()[:-1])


def test_the_student_has_to_write_what_its_template_puts_before_an_answer():
    """An evaluation ends its prompt before that, so that training has to teach it; scoring leaves it out."""
    renderer = ChatRenderer(TOKENIZER, WRAPPING)
    rendered = renderer.render(chat())
    assert under_mask(renderer, rendered) == "It is 2."
    assert under_mask(renderer, rendered, "response+eot") == "<think>\n\n</think>\n\nIt is 2.<|im_end|>"
    assert list(rendered.ids[: rendered.turns[0].prompt]) == renderer.prompt_ids(chat()[:-1])


ALWAYS_THINKING = "<think>\nOne and one.\n</think>\n\nIt is 2."


def test_a_student_whose_prompt_opens_its_thinking_goes_on_from_there():
    """DeepSeek-R1's distilled students: the history drops what the prompt has opened."""
    renderer = ChatRenderer(TOKENIZER, OPENED)
    rendered = renderer.render(chat(reply=ALWAYS_THINKING))
    assert under_mask(renderer, rendered) == ALWAYS_THINKING.removeprefix("<think>\n")
    assert [*rendered.ids[: rendered.turns[0].start]] == renderer.prompt_ids(chat()[:-1])
    assert rendered.turns[0].text == ALWAYS_THINKING.removeprefix("<think>\n") and rendered.turns[0].characters[0] == 0
    assert rendered.ids[rendered.positions("response+eot")[-1]] == renderer.eot_id() == TOKENIZER.eos_token_id


@pytest.mark.parametrize("template", [WRAPPING_UNLESS_THINKING, OPENED])
def test_the_end_of_turn_of_a_thinking_template_is_found(template):
    assert ChatRenderer(TOKENIZER, template).eot_id() == TOKENIZER.eos_token_id


def test_the_end_of_turn_of_a_template_that_keeps_nothing_is_refused():
    with pytest.raises(InputError, match=r"the end-of-turn token of .* cannot be found"):
        ChatRenderer(TOKENIZER, "{{ 'Hello!' }}").eot_id()


def test_of_named_templates_the_default_is_taken():
    named = tokenizer()
    named.chat_template = {"default": load_template("chatml"), "tool_use": "{{ messages }}"}
    assert ChatRenderer(named).template.source == load_template("chatml")
    assert ChatRenderer(named).text(chat(), [{"name": "add"}]).startswith("[{'role'")
    named.chat_template = {"rag": "", "tool_use": ""}
    with pytest.raises(InputError, match=r"named rag, tool_use, and none named default: write .* into a \.jinja file"):
        ChatRenderer(named)


def test_any_date_can_be_pinned():
    """gpt-oss asks for the date and reads no variable."""
    assert (
        ChatRenderer(TOKENIZER, DATED, {"strftime_now": "2026-07-01"}).text(chat()).startswith("2026-07-01<|im_start|>")
    )


def test_a_date_can_be_pinned():
    renderer = ChatRenderer(TOKENIZER, PINNED, {"date_string": "26 Jul 2024"})
    assert renderer.text(chat()).startswith("26 Jul 2024")
    assert under_mask(renderer, renderer.render(chat())) == "It is 2."
    assert renderer.identity() != ChatRenderer(TOKENIZER, PINNED, {"date_string": "27 Jul 2024"}).identity()


def test_a_default_system_prompt_is_reported():
    template = (
        "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant<|im_end|>\n' }}"
        "{% endif %}" + load_template("chatml")
    )
    assert ChatRenderer(TOKENIZER, template).template.prose() == ["You are a helpful assistant"]
    assert CHATML.template.prose() == []


def begun_by_its_tokenizer():
    """A tokenizer that begins every text, as those of Gemma and Llama."""
    fast = tokenizer()
    fast.bos_token = "<|endoftext|>"
    fast.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", fast.bos_token_id)]
    )
    return fast


@pytest.mark.parametrize("name", ["chatml", "llama3"])
def test_a_packaged_template_begins_as_the_tokenizer_does(name):
    fast = begun_by_its_tokenizer()
    renderer = ChatRenderer(fast, load_template(name))
    ids = renderer.render(chat()).ids
    assert ids[0] == fast.bos_token_id and fast.bos_token_id not in ids[1:]
    assert renderer.prompt_ids(chat()[:2])[:2] == list(ids[:2])
    assert renderer.lost_beginning(chat()) is None
    fast.chat_template = renderer.template.named  # as a trained student is saved with
    assert ChatRenderer(fast).render(chat()).ids == ids
    assert ChatRenderer(TOKENIZER, load_template(name)).template.source == load_template(name)


def test_a_template_that_loses_the_beginning_is_reported():
    fast = begun_by_its_tokenizer()
    assert ChatRenderer(fast).lost_beginning(chat()) == "<|endoftext|>"
    assert CHATML.lost_beginning(chat()) is None


def test_a_turn_that_begins_with_a_line_end_is_kept_under_a_tokenizer_that_joins_them():
    """The reference looks for its marker's tokens among the chat's. Joined, they are not there, and the whole turn is lost to it."""
    fast = keeping_line_ends()
    messages = [*chat("\nIt is 2."), Message("user", "and?"), Message("assistant", "It is 3.")]
    renderer, marker = ChatRenderer(fast), fast.encode("<|im_start|>assistant\n", add_special_tokens=False)
    chats = {choice: ChatRenderer(fast, boundary_tokens=choice).render(messages) for choice in ("exclude", "include")}
    ids = chats["exclude"].ids
    found = [i for i in range(len(ids)) if list(ids[i : i + len(marker)]) == marker]
    assert len(found) == 1  # of two turns
    assert under_mask(renderer, chats["exclude"]) == "It is 2.It is 3."
    assert under_mask(renderer, chats["include"]) == "\n\nIt is 2.It is 3."
    assert {chat.departures.boundary for chat in chats.values()} == {1}
    assert ChatRenderer(fast, boundary_tokens="include").identity() != renderer.identity()


def test_a_response_with_nothing_before_it_is_refused():
    """Its first token would be scored from another chat of the batch."""
    bare = ChatRenderer(TOKENIZER, "{% for m in messages %}{{ m.content }}{% endfor %}")
    with pytest.raises(InputError, match="nothing stands before the response"):
        bare.render([Message("user", ""), Message("assistant", "It is 2.")])


def test_a_template_without_end_of_turn_cannot_train():
    renderer = ChatRenderer(TOKENIZER, "{% for m in messages %}{{ m.content + '\n' }}{% endfor %}")
    rendered = renderer.render(chat())
    assert under_mask(renderer, rendered) == "It is 2."
    with pytest.raises(InputError, match="without an end-of-turn token"):
        rendered.positions("response+eot")


def test_a_base_model_needs_an_explicit_template(tmp_path):
    bare = tokenizer(template=None)
    with pytest.raises(InputError, match=r"no chat template: choose one, template=chatml"):
        ChatRenderer(bare)
    assert ChatRenderer(bare, load_template("chatml")).render(chat()).ids == CHATML.render(chat()).ids
    with pytest.raises(InputError, match=r"no chat template 'qwen'"):
        load_template("qwen")
    (tmp_path / "mine.jinja").write_text(load_template("chatml"))
    assert load_template(str(tmp_path / "mine.jinja")) == load_template("chatml")
