"""Results of a user's own student or data stay out of the tracked ones, and lead nowhere."""

from pathlib import Path

import pytest
from markdown_it import MarkdownIt

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


@pytest.mark.parametrize(
    "name",
    [
        "![x](http://e/x.png)",
        "[x](http://e)",
        "![x][y]\n\n[y]: http://e/x.png",
        "- [y]: http://e/x.png\n\n![y]",
        "![y\nz]\n\n[y\nz]: http://e/x.png",
        "<img src=http://e/x.png>",
        "\\\\<img src=http://e/x.png>",
        "</td><script>",
        "<http://e>",
    ],
)
def test_no_name_makes_a_result_load_or_lead_anywhere(name):
    everything = MarkdownIt("commonmark", {"html": True}).enable("table")
    for text in (name, result_folder.markdown_table(["teacher"], [[name.replace("\n", " ")]])):
        shown = everything.render(result_folder.inert(text))
        assert not any(mark in shown for mark in ("<img", "<a", "<script", "</td><")), shown
        assert result_folder.inert(result_folder.inert(text)) == result_folder.inert(text)


def test_results_that_lead_nowhere_stay_as_they_are():
    for path in (ROOT / "results").rglob("table.md"):
        text = path.read_text(encoding="utf-8")
        assert result_folder.inert(text) == text
