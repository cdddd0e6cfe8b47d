"""Results of a user's own student or data stay out of the tracked ones."""

from pathlib import Path

import pytest

from experiments.app import result_folder
from experiments.app.shared_configs import ROOT, PathsConfig, ScoreConfig, StudentConfig, TeacherConfig, TeachersConfig

TABLE = [TeacherConfig("one", "One")]


@pytest.mark.parametrize(
    ("student", "teachers", "folder"),
    [
        ("qwen3b", TeachersConfig("paper", None, teachers=TABLE), "results/ablation/qwen3b"),
        ("qwen3b", TeachersConfig("mine", "data"), "outputs/results/ablation/qwen3b-mine"),
        ("my-student", TeachersConfig("paper", None, teachers=TABLE), "outputs/results/ablation/my-student"),
    ],
)
def test_own_results_go_to_the_outputs(student, teachers, folder):
    config = ScoreConfig(StudentConfig(student, None), teachers)
    assert result_folder.folder_of(config, "ablation") == ROOT / folder
    config.paths = PathsConfig(results=Path("here"))
    assert result_folder.folder_of(config, "ablation") == Path("here", *Path(folder).parts[-2:])
