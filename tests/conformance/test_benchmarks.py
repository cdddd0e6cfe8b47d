"""The benchmarks from local copies: sizes as published, and every gold answer accepted by the grader as its own answer."""

import pytest

from eval import benchmarks
from rsr.grading.grader import Grader

SIZES = {"aime24": 30, "aime25": 30, "amc23": 40, "math500": 500}


@pytest.mark.full
@pytest.mark.parametrize("name", SIZES)
def test_gold_answers_are_their_own_answers(shared, name):
    benchmark = benchmarks.load(name, shared / "data" / "benchmarks")
    assert len(benchmark.documents) == SIZES[name]
    with Grader() as grader:
        grades = grader.grade([(d["answer"], f"So it is \\boxed{{{d['answer']}}}.") for d in benchmark.documents])
    assert [d["id"] for d, grade in zip(benchmark.documents, grades, strict=True) if not grade.correct] == []
