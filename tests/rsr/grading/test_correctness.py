"""Which answer of a chat is graded, and what is not known of it."""

import pytest

from rsr.data.trajectories import parse
from rsr.grading.correctness import correctness


def chat(reply, answer, *after):
    return {
        "messages": [
            {"role": "user", "content": "1 + 1?"},
            {"role": "assistant", "content": reply},
            *({"role": "user", "content": text} for text in after),
        ],
        "answer": answer,
    }


def test_the_assistants_last_answer_is_graded_and_no_verdict_is_unknown():
    records = [
        chat("\\boxed{2}", "2", "Thank you."),
        chat("\\boxed{2}", "2", "Thank you: \\boxed{3}."),
        chat("\\boxed{3}", "2"),
        chat("No idea.", "2"),
        chat("\\boxed{?}", "5"),  # which no parser reads
        chat("\\boxed{2}", None),
    ]
    dataset = parse([(str(i), record) for i, record in enumerate(records)], "teacher")
    assert correctness(dataset.trajectories) == [True, True, False, None, None, None]


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("So the answer is 42.", True),
        ("The final answer is: $42$", True),
        ("The answer is 3.5. No, the answer is 42. Done.", True),
        ("**Answer:** 42", True),
        ("Final answer = 42\n", True),
        ("6 * 7 = 42\n#### 42", True),
        ("The answer is **42**.", True),
        ("The answer is 41.", False),
        ("**Answer:** She makes **$42** every day.", True),  # a sentence with one number
        ("Answer: 42 hats cost $84 in all.", None),  # which one is meant?
        (r"The answer is 41, or rather \boxed{42}.", True),  # a box is surest
        ("It must be 42", None),
        ("<think>The answer is 42.", None),
    ],
)
def test_answers_without_a_box_are_found_or_said_not_to_be(reply, right):
    dataset = parse([("0", chat(reply, "42"))], "teacher")
    assert correctness(dataset.trajectories) == [right]


def test_where_an_answer_is_can_be_said():
    dataset = parse([("0", chat("It must be 42, she said.", "42"))], "teacher")
    assert correctness(dataset.trajectories, answers=["boxed", "last number"]) == [True]
    assert correctness(dataset.trajectories, answers=[r"must be (\d)"]) == [False]
