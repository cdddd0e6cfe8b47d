"""Which answer of a chat is graded, and what is not known of it."""

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
    assert correctness(dataset.trajectories) == [True, True, False, False, None, None]
