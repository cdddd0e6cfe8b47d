"""Right answers of each dataset are counted as they are graded one by one."""

from functools import partial

from rsr.data import discovery
from rsr.grading.correctness import correctness
from rsr.selection.verdicts import Verdicts, by_dataset


def chat(reply, **facts):
    return {
        "messages": [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": reply}],
        **facts,
    }


def test_verdicts_of_datasets_and_of_teachers(tmp_path):
    data = {
        "a": [chat("\\boxed{2}", answer="2"), chat("\\boxed{3}", answer="2"), chat("Two.", answer="2")],
        "b": [chat("So it is.", correct=True), chat("\\boxed{2}"), chat("It must be 2.", answer="2")],
    }
    sources = discovery.read(data)
    read: list[int] = []
    counted = by_dataset(sources, correctness=partial(correctness, done=read.append))
    assert counted == {"a": Verdicts(1, 1, 1), "b": Verdicts(1, 0, 2)} and sum(read) == 6
    assert by_dataset(sources, correctness=partial(correctness, answers=["last number"]))["b"] == Verdicts(2, 0, 1)
    assert sum(counted.values(), Verdicts()) == Verdicts(2, 1, 3) and counted["a"].known == 2


def test_generations_of_a_teacher_are_counted_together(tmp_path):
    for generation in ("gen1", "gen2"):
        path = tmp_path / "a" / f"{generation}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            '{"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}], "correct": true}\n'
        )
    sources = discovery.read(tmp_path)
    assert by_dataset(sources) == {"a/gen1": Verdicts(1), "a/gen2": Verdicts(1)}
    assert by_dataset(sources, "teacher") == {"a": Verdicts(2)}
