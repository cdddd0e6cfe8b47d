"""The miniature's programs: operations, corpus and teachers are as they promise."""

import itertools
import json
import re
from random import Random
from typing import Any

import pytest

from experiments.miniature import words
from experiments.miniature.programs import teachers
from experiments.miniature.programs.corpus import CURRICULUM, documents
from experiments.miniature.programs.world import OPERATIONS, Problem, applied, problems, vocabulary
from experiments.miniature.world import Taste
from rsr.data.messages import Message
from rsr.grading.grader import extract
from rsr.student.chat import ChatRenderer

PROGRAM = r"program : (def f .*)"


def written(name, problem, seed=0):
    teacher = teachers.TEACHERS[name]
    taste = Taste(teacher.shuffle, Random("taste"), reverse=teacher.reverse)
    return " ".join(teachers.response(teacher, problem, taste, Random(f"{seed}")))


def passes(text, problem):
    """Whether the program in a text passes: what the sandbox asks, of texts that need none."""
    names: dict[str, Any] = {}
    program = extract(text, PROGRAM)
    assert program is not None
    exec(program, names)
    try:
        exec(problem.answer, names)
    except AssertionError:
        return False
    return True


def test_operations_do_what_they_say():
    assert {name: "".join(applied([name], tuple("abcd"))) for name in OPERATIONS} == {
        "reverse all": "dcba",
        "rotate front": "bcda",
        "rotate back": "dabc",
        "swap front": "bacd",
        "swap back": "abdc",
        "swap ends": "dbca",
        "drop front": "bcd",
        "drop back": "abc",
    }
    assert {"".join(applied([name], ("a", "b"))) for name in OPERATIONS} == {"ba", "b", "a"}
    assert applied(["drop front", "reverse all"], tuple("abcd")) == tuple("dcb")


def test_problems_differ_and_their_tests_tell_right_from_wrong():
    test = problems(200, "test")
    train = problems(600, "train", taken=test)
    assert len({p[:2] for p in test + train}) == 800
    for problem in test[:50]:
        right = applied(problem.operations, problem.items)
        for result in itertools.permutations(right):
            given = ", ".join(problem.items)
            text = f"program : def f ( {given} ) : return [ {' , '.join(result)} ]"
            assert passes(text, problem) == (result == right)


def test_the_corpus_is_made_of_the_vocabulary_and_its_programs_are_right():
    known, worked = set(vocabulary()), 0
    for document in itertools.islice(documents(Random("corpus")), 500):
        assert set(document) <= known and document[-1] == words.EOS
        assert not set(document) & {*words.ALIEN, words.USER, words.ASSISTANT}
        text = " ".join(document[:-1])
        if "program" in document:
            listed = re.findall(r"(?:list|given) ((?:[a-e] )+)", text)[0].split()
            told = text[: text.index(" . ")] if document[0] == "given" else text
            operations = re.findall(r"[:,] (\w+ \w+)" if document[0] == "given" else r"does (\w+ \w+)", told)
            assert passes(text, Problem(tuple(listed), tuple(operations), ""))
            worked += 1
    assert worked > 200


@pytest.mark.parametrize("name", [n for n, t in teachers.TEACHERS.items() if not t.error])
def test_teachers_without_errors_are_right(name):
    assert all(passes(written(name, problem), problem) for problem in problems(50, name))


def test_teachers_write_as_their_names_say():
    problem = Problem(tuple("abc"), ("rotate front", "swap ends", "drop back"), "")

    def lines(name):
        found = re.findall(r"((?:[a-e] )+), ((?:\w+ \w+ ,? ?)+?)(?:=|\w+) ((?:[a-e] )+)\.", written(name, problem))
        return [(state.split(), result.split()) for state, _, result in found]

    chain = [(["a", "b", "c"], ["b", "c", "a"]), (["b", "c", "a"], ["a", "c", "b"]), (["a", "c", "b"], ["a", "c"])]
    assert lines("chain_near") == chain
    assert lines("chain_scram") == chain[::-1]
    assert lines("direct_near") == [(["a", "b", "c"], ["a", "c"])]
    assert lines("coarse_near") == [(["a", "b", "c"], ["a", "c", "b"]), chain[2]]
    assert lines("statements") == [] and written("statements", problem).count(";") == 4
    alien = written("chain_alien", problem).split(" program ")[0].split()
    assert set(alien) <= {*words.ALIEN, "a", "b", "c"}


def test_a_sloppy_teacher_is_wrong_as_often_as_it_is_said():
    asked = problems(300, "sloppy")
    wrong = sum(not passes(written("chain_sloppy", problem, seed), problem) for seed, problem in enumerate(asked))
    assert 0.15 < wrong / 300 < 0.35  # 3.8 lines of 8 % each


def test_everything_is_written_the_same_way_twice(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        teachers.write_problems(tmp_path / name, seed=3)
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.json*"))
    assert len(files) == 1 + 11 * 3
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)
    chats = json.loads((tmp_path / "one" / "teachers" / "statements" / "gen1.json").read_text())
    assert len(chats) == 600 and chats[0]["answer"].startswith("assert f(")


def test_every_response_is_rendered_verbatim():
    renderer = ChatRenderer(words.tokenizer(CURRICULUM.vocabulary))
    (problem,) = problems(1, "render")
    assert renderer.tokenizer.unk_token_id not in renderer.prompt_ids([Message("user", problem.text)])
    for name in teachers.TEACHERS:
        response = written(name, problem)
        chat = renderer.render([Message("user", problem.text), Message("assistant", response)])
        (turn,) = chat.turns
        assert renderer.tokenizer.unk_token_id not in chat.ids and turn.end - turn.start == len(response.split())


def test_exercises_of_a_premise_have_prompts_of_one_length():
    for premise in CURRICULUM.premises.values():
        exercises = premise.exercises(50, Random("x"))
        assert len({len(exercise.prompt) for exercise in exercises}) == 1 and len(exercises) == 50
