"""The miniature's world, teachers and students: what they promise."""

import hashlib
import itertools
import json
from random import Random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from experiments.miniature import student as students
from experiments.miniature import teachers, words
from experiments.miniature.__main__ import CURRICULA
from experiments.miniature.corpus import WORLDS, curriculum, documents
from experiments.miniature.world import LARGEST, SEED, Problem, Taste, problems
from rsr.data.messages import Message
from rsr.errors import InputError
from rsr.student.chat import ChatRenderer


def lines_of(text):
    """(operands, result) of every sum in a response."""
    found = []
    for line in " ".join(text).split(" . "):
        numbers, tokens = [], line.split()
        for i, (a, b) in enumerate(itertools.pairwise(tokens)):
            if a.isdigit() and b.isdigit() and (i == 0 or not tokens[i - 1].isdigit()):
                numbers.append(int(a + b))
        if "+" in tokens:
            count = tokens.count("+") + 1
            start = 1 if "," in tokens else 0
            found.append((tuple(numbers[start : start + count]), numbers[start + count]))
    return found


def written(name, problem, seed=0):
    teacher = teachers.TEACHERS[name]
    taste = Taste(teacher.shuffle, Random("taste"), reverse=teacher.reverse)
    return teachers.response(teacher, problem, taste, Random(f"{seed}"))


def test_problems_differ_and_fit():
    test = problems(200, "test")
    train = problems(600, "train", taken=test)
    numbers = [p.numbers for p in test + train]
    assert len(set(numbers)) == 800
    assert all(sum(n) <= LARGEST and 2 <= len(n) <= 5 for n in numbers)
    assert problems(200, "test") == test


@pytest.mark.parametrize("world", WORLDS)
def test_the_corpus_is_made_of_the_vocabulary_and_adds_up(world):
    known = set(words.vocabulary())
    for document in itertools.islice(documents(world, Random("corpus")), 500):
        assert set(document) <= known and document[-1] == words.EOS
        assert not set(document) & {*words.ALIEN, words.USER, words.ASSISTANT, "answer"}


def test_the_habits_of_the_worlds_are_as_said():
    """Memoryless documents mix habits; in a sticky one every line does the same."""
    shares = {}
    for world in WORLDS:
        takes = [sum(word in words.TAKE for word in d) for d in itertools.islice(documents(world, Random("x")), 4000)]
        shares[world] = sum(n > 0 for n in takes) / len(takes)
    assert shares["memoryless"] == pytest.approx(0.09, abs=0.02)
    assert shares["sticky"] == pytest.approx(0.04, abs=0.01)


@pytest.mark.parametrize("name", [n for n, t in teachers.TEACHERS.items() if not t.error])
def test_teachers_without_errors_are_right(name):
    for problem in problems(50, name):
        text = " ".join(written(name, problem))
        assert text.endswith(f"answer : {' '.join(problem.answer)} .")


def test_teachers_write_as_their_names_say():
    problem = Problem((6, 30, 14, 2), "compute 0 6 + 3 0 + 1 4 + 0 2 .")
    assert lines_of(written("direct_near", problem)) == [((6, 30, 14, 2), 52)]
    chain = [((6, 30), 36), ((36, 14), 50), ((50, 2), 52)]
    assert lines_of(written("chain_near", problem)) == chain
    assert lines_of(written("chain_scram", problem)) == chain[::-1]
    assert lines_of(written("coarse_near", problem)) == [((6, 30, 14), 50), ((50, 2), 52)]
    alien = written("chain_alien", problem)
    assert alien[-5:] == ["answer", ":", "5", "2", "."]
    assert set(alien[:-5]) <= {*words.DIGITS, *words.ALIEN}


def test_a_sloppy_teacher_carries_its_errors_on():
    wrong = 0
    for seed, problem in enumerate(problems(300, "sloppy")):
        text = written("chain_sloppy", problem, seed)
        lines = lines_of(text)
        assert all(line[0][0] == before[1] for before, line in itertools.pairwise(lines))
        wrong += " ".join(text[-3:-1]) != " ".join(problem.answer)
    assert 0.1 < wrong / 300 < 0.3


def test_everything_is_written_the_same_way_twice(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        teachers.write_problems(tmp_path / name, seed=3)
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.json*"))
    assert len(files) == 2 + 11 * 3
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)
    queries = json.loads((tmp_path / "one" / "queries.json").read_text())
    asked = {json.loads(line)["problem"] for line in (tmp_path / "one" / "miniature.jsonl").read_text().splitlines()}
    assert len(queries) == 50 and not asked & {chat["messages"][0]["content"] for chat in queries}
    assert all(chat["messages"][1]["content"].endswith(f"answer : {' '.join(chat['answer'])} .") for chat in queries)
    generations = [(tmp_path / "one" / "teachers" / "chain_near" / f"gen{i}.json").read_text() for i in (1, 2, 3)]
    assert len(set(generations)) == 3
    prompts = [[chat["messages"][0] for chat in json.loads(text)] for text in generations]
    assert prompts[0] == prompts[1] == prompts[2]


def test_every_response_is_rendered_verbatim():
    renderer = ChatRenderer(words.tokenizer(words.vocabulary()))
    problem = problems(1, "render")[0]
    for name in teachers.TEACHERS:
        response = written(name, problem)
        chat = renderer.render([Message("user", problem.text), Message("assistant", " ".join(response))])
        (turn,) = chat.turns
        assert turn.eot is not None
        assert turn.end - turn.start == len(response) and chat.ids[turn.eot] == renderer.tokenizer.eos_token_id


@pytest.mark.parametrize(("two", "three"), [(0.5, 0.1), (1.0, 0.5)])
def test_a_student_without_the_competence_is_refused(tmp_path, monkeypatch, two, three):
    monkeypatch.setattr(students, "pretrained", lambda curriculum, seed: None)
    monkeypatch.setattr(students, "competences", lambda model, curriculum, seed: {"2": two, "3": three})
    with pytest.raises(InputError, match="take another seed"):
        students.make(tmp_path, curriculum("sticky"), 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", CURRICULA)
def test_a_shipped_student_is_the_one_described_and_has_the_competence(name):
    folder, taught = students.STUDENTS / name, CURRICULA[name]
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert digest in (students.STUDENTS / "README.md").read_text()
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == words.tokenizer(taught.vocabulary).get_vocab()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    known = students.competences(model, taught, SEED)
    assert all(premise.least <= known[name] <= premise.most for name, premise in taught.premises.items()), known


@pytest.mark.full
def test_a_student_is_the_same_from_the_same_seed(monkeypatch):
    monkeypatch.setattr(students, "STEPS", 12)
    first, again = (students.pretrained(curriculum("memoryless"), 1).state_dict() for _ in range(2))
    assert all(first[name].equal(again[name]) for name in first)
    other = students.pretrained(curriculum("sticky"), 1).state_dict()
    assert not all(first[name].equal(other[name]) for name in first)
