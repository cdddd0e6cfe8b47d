"""What is scored already is found without loading the model, under the key of the loaded one."""

import pytest

import rsr
from rsr.errors import InputError
from rsr.student import pretrained
from rsr.student import student as students
from rsr.student.settings import Loading
from rsr.tokens.engine import Scorer
from rsr.tokens.late_scorer import LateScorer
from rsr.tokens.settings import Scoring
from tests.clients import chat, replies, teachers
from tests.models import save


@pytest.fixture
def places(tmp_path):
    save(tmp_path / "student")
    teachers(tmp_path / "data")
    return tmp_path / "student", tmp_path / "data", tmp_path / "out"


def refuse(*arguments, **options):
    raise AssertionError("the model is loaded")


def test_scores_are_found_without_the_model(places, monkeypatch):
    student, data, outputs = places
    scores = rsr.score(student, data, outputs=outputs)
    monkeypatch.setattr(pretrained, "load_model", refuse)
    assert rsr.score(student, data, outputs=outputs).artefact == scores.artefact
    assert rsr.rank(rsr.score(student, data, outputs=outputs)) == rsr.rank(scores)
    with pytest.raises(AssertionError, match="the model is loaded"):
        rsr.score(student, [chat(i, reply) for i, reply in enumerate(replies("other", 2))], outputs=outputs)


@pytest.mark.parametrize("settings", [{}, {"attention": "eager"}, {"template": "chatml"}, {"dtype": "float16"}])
def test_a_described_student_is_known_as_the_loaded_one(places, settings):
    loading, scoring = Loading(device="cpu", **settings), Scoring(max_length=77, head_dtype="float32")
    late = LateScorer(places[0], loading, scoring)
    engine = Scorer(students.load(places[0], device="cpu", **settings), scoring)
    assert (late.student.identity, late.student.name) == (engine.student.identity, engine.student.name)
    assert (late.identity, late.max_length) == (engine.identity, engine.max_length)
    assert late.student.max_positions == engine.student.max_positions
    assert late.scorer.student.identity == late.student.identity


def test_a_model_that_has_become_another_one_is_refused(places, monkeypatch):
    late = LateScorer(places[0], Loading(device="cpu"), Scoring())
    monkeypatch.setitem(late.student.identity, "attention", "flash_attention_2")
    with pytest.raises(InputError, match="its attention was flash_attention_2 and is sdpa once it is loaded"):
        late.score([])
