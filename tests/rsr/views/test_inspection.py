"""A trajectory is found in whatever dataset it is, and its tokens spell what was said."""

import pytest

import rsr
from rsr.data.messages import Message
from rsr.data.trajectories import Dataset, Trajectory
from rsr.errors import InputError
from rsr.views.heatmap import PART
from rsr.views.inspection import also_in, find
from tests.models import save


def dataset(name, *ids):
    said = (Message("user", "1 + 1?"), Message("assistant", "2"))
    return Dataset(name, "", tuple(Trajectory(i, i, said) for i in ids))


DATASETS = [dataset("a", "p1", "p2"), dataset("b", "p2", "p3")]


@pytest.mark.parametrize(
    ("which", "found"),
    [
        ("p2", ("a", "p2")),
        ("p3", ("b", "p3")),
        ("b:p2", ("b", "p2")),
        ("1", ("a", "p2")),
        ("b:1", ("b", "p3")),
    ],
)
def test_by_id_or_place_in_any_dataset(which, found):
    dataset, trajectory = find(DATASETS, which)
    assert (dataset.name, trajectory.id) == found


def test_other_datasets_of_the_same_id_are_named():
    assert also_in(DATASETS, *find(DATASETS, "p2")) == ("b",)
    assert also_in(DATASETS, *find(DATASETS, "p3")) == ()


@pytest.mark.parametrize("which", ["p4", "b:p1", "2", "b:2", "c:p1", "-1"])
def test_what_is_not_there_is_said(which):
    with pytest.raises(InputError, match=f"no trajectory '{which}': .*a holds 2, b holds 2"):
        find(DATASETS, which)


def test_the_parts_of_a_character_spell_it_once(tmp_path):
    """The tokenizer of the tests knows bytes: whatever is no ASCII has several tokens."""
    said = "It’s 9 × 2 = 18 \N{GRINNING FACE}, 三 \N{REPLACEMENT CHARACTER}."
    chat = [{"role": "user", "content": "9 × 2?"}, {"role": "assistant", "content": said}]
    tokens = rsr.inspect(
        save(tmp_path / "student"), [{"messages": chat}], settings=rsr.Settings(dtype="float32")
    ).tokens
    spelled = "".join(token.text for token in tokens)
    assert spelled.replace(PART, "").startswith(said)
    # What is no character of several tokens is told from a part by the token behind it.
    assert 0 < spelled.count(PART) <= len(said.encode()) - len(said) + 1
