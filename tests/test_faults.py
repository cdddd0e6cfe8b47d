"""A part of the battery of faults; the whole is `python -m benchmarks.faults`."""

import pytest

from benchmarks.faults import damage, settings
from benchmarks.faults.damage import Outcome
from benchmarks.faults.stages import World


@pytest.mark.full
def test_damage_is_seen_or_made_anew(tmp_path):
    world = World(tmp_path)
    subjects = [s for s in damage.subjects(world) if s.folder in ("tokens", "text", "known", "grades")]
    for i, subject in enumerate(subjects):
        cases = damage.tried(subject, tmp_path / str(i), flips=1)
        assert [case for case in cases if case.outcome in damage.WRONG] == []
        read = {case.file for case in cases if case.outcome is Outcome.SAME}
        assert read <= {"key.json"}  # which nobody reads of a complete one


@pytest.mark.full
def test_no_bad_setting_is_taken():
    found = settings.tried(settings.commands(), every=40)
    assert len(found) > 10
    assert [(override, outcome) for _, override, outcome in found if outcome != settings.REFUSED] == []
