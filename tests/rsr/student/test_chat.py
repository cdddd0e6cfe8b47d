"""The chat renderer: the tokens under the mask are the response, verbatim, whatever the messages hold."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from rsr.data.messages import Message
from rsr.errors import InputError
from rsr.student.chat import ChatRenderer, load_template
from tests.models import tokenizer

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
def test_the_mask_is_verbatim_or_refused(turns):
    messages = [m for user, reply in turns for m in (Message("user", user), Message("assistant", reply))]
    try:
        rendered = CHATML.render(messages)
    except InputError as error:
        assert "joins the response" in str(error)  # noqa: PT017
        return
    assert under_mask(CHATML, rendered) == "".join(reply for _, reply in turns)


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
            TRIMMING,
            chat(reply=" It is 2. "),
            "trims the response: remove white space at the ends of the response",
        ),
        (REWRITING, chat(reply="<think>a</think>b"), "does not keep the response verbatim"),
        (WRAPPING, chat(), "does not keep the response verbatim"),
        (HISTORY, [*chat("one"), Message("user", "and?"), Message("assistant", "two")], "message 2: "),
        ("{{ raise_exception('no system role') }}", chat(), "refuses the messages: no system role"),
        ("{{ messages[", chat(), "refuses the messages"),
        (DATED, chat(), "writes today's date"),
        (
            SPACED,
            chat(),
            "writes white space between its header and the response, which its generation prompt does not",
        ),
        (SPACED_PROMPT, chat(reply="final answer"), "(' final'): take the white space out of the template"),
        (OPENED, chat(), r"prompt ends in '<think>\n', and the response does not begin with it"),
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


ALWAYS_THINKING = "<think>\nOne and one.\n</think>\n\nIt is 2."


def test_a_student_whose_prompt_opens_its_thinking_goes_on_from_there():
    """DeepSeek-R1's distilled students: the history drops what the prompt has opened."""
    renderer = ChatRenderer(TOKENIZER, OPENED)
    rendered = renderer.render(chat(reply=ALWAYS_THINKING))
    assert under_mask(renderer, rendered) == ALWAYS_THINKING.removeprefix("<think>\n")
    assert [*rendered.ids[: rendered.turns[0].start]] == renderer.prompt_ids(chat()[:-1])
    assert rendered.turns[0].characters[0] == len("<think>\n")
    assert rendered.ids[rendered.positions("response+eot")[-1]] == renderer.eot_id() == TOKENIZER.eos_token_id


@pytest.mark.parametrize("template", [WRAPPING_UNLESS_THINKING, OPENED])
def test_the_end_of_turn_of_a_thinking_template_is_found(template):
    assert ChatRenderer(TOKENIZER, template).eot_id() == TOKENIZER.eos_token_id


def test_the_end_of_turn_of_a_template_that_keeps_nothing_is_refused():
    with pytest.raises(InputError, match=r"the end-of-turn token of .* cannot be found"):
        ChatRenderer(TOKENIZER, WRAPPING).eot_id()


def test_of_named_templates_the_default_is_taken():
    named = tokenizer()
    named.chat_template = {"default": load_template("chatml"), "tool_use": "{{ messages }}"}
    assert ChatRenderer(named).template == load_template("chatml")
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
    assert ChatRenderer(TOKENIZER, template).prose() == ["You are a helpful assistant"]
    assert CHATML.prose() == []


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
    fast.chat_template = renderer.template  # as a trained student is saved with
    assert ChatRenderer(fast).render(chat()).ids == ids
    assert ChatRenderer(TOKENIZER, load_template(name)).template == load_template(name)


def test_a_template_that_loses_the_beginning_is_reported():
    fast = begun_by_its_tokenizer()
    assert ChatRenderer(fast).lost_beginning(chat()) == "<|endoftext|>"
    assert CHATML.lost_beginning(chat()) is None


def test_white_space_joined_with_the_header_is_refused():
    raw = tokenizer()
    raw.add_tokens(["\n\n"])  # a tokenizer that writes two line ends as one token, as many do
    with pytest.raises(InputError, match="joins the response with the template's text"):
        ChatRenderer(raw).render(chat(reply="\nIt is 2."))


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
