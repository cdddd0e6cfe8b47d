"""A part of the battery of faults; the whole is `python -m benchmarks.faults`."""

import pytest

from benchmarks.faults import commands, damage, injections, names, settings
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
    found = settings.tried(settings.overrides()[::40])
    assert len(found) > 10
    assert [(override, outcome) for _, override, outcome in found if outcome != settings.REFUSED] == []


def wrong(trials):
    return [(trial.kind, trial.case, trial.found) for trial in trials if not trial.right]


@pytest.mark.full
def test_a_killed_command_and_one_on_a_full_disk_go_on(tmp_path):
    score, *_ = commands.commands(World(tmp_path))
    assert wrong(commands.killed(score, tmp_path / "kills", 1)) == []
    assert wrong(commands.on_small_disks(score, tmp_path / "disks", [1 << 13])) == []


@pytest.mark.full
def test_odd_names_are_names(tmp_path):
    assert wrong(names.tried(World(tmp_path), tmp_path / "names", ["学生 [v2], 'x'", "\udcff"])) == []


@pytest.mark.full
def test_what_is_injected_does_nothing(tmp_path):
    kinds = (injections.templates, injections.models)
    assert wrong(injections.tried(World(tmp_path), tmp_path / "injections", kinds)) == []
