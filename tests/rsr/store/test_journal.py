"""The journal: what was kept is there, what is damaged is made again."""

import pytest

from rsr.errors import InputError
from rsr.store.journal import Journal

RECORDS = [{"id": f"ü{i}", "tokens": list(range(i))} for i in range(5)]


@pytest.fixture
def journal(tmp_path):
    made = Journal(tmp_path / "answers" / "answers.jsonl")
    assert made.records() == []
    for record in RECORDS:
        made.append(record)
    return made


def test_a_line_cut_anywhere_costs_its_record_alone(journal):
    whole = journal.path.read_bytes()
    for end in range(len(whole)):
        journal.path.write_bytes(whole[:end])
        again = Journal(journal.path)
        kept = whole[: end + 1].count(b"\n")  # the line's end may be what is lacking
        assert again.records() == RECORDS[:kept]
        again.append({"new": True})
        assert again.records() == [*RECORDS[:kept], {"new": True}]


def test_a_changed_byte_is_seen(journal):
    whole = bytearray(journal.path.read_bytes())
    for at in range(0, len(whole), 7):
        changed = whole.copy()
        changed[at] ^= 1
        journal.path.write_bytes(changed)
        assert all(record in RECORDS for record in journal.records())
        assert len(journal.records()) >= len(RECORDS) - 2  # a changed line's end damages two


def test_what_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "answers").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        Journal(tmp_path / "answers" / "answers.jsonl")
