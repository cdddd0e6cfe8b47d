"""All results on one page, as HTML and as Markdown."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from markdown_it import MarkdownIt
from markupsafe import Markup

from experiments.app import result_folder
from experiments.app.conclusions import summary
from experiments.app.page import BODY
from rsr.views.html import render
from rsr.views.page import data_of

# What stands in a result leads nowhere: a page asks nothing of any host.
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "link", "autolink"])
FOUND = "What the experiments found"
NAMES = ("table.md", "scale.md")


@dataclass(frozen=True)
class Section:
    """A part of the page: the folders whose results it shows, and the command that makes them."""

    title: str
    folders: str  # pattern under results/
    command: str


SECTIONS = (
    Section("Every printed number that follows from other print", "tables", "python experiments/tables.py"),
    Section(
        "Correlation with accuracy after training", "correlation/*", "python experiments/correlation.py student=all"
    ),
    Section("How robust the correlations are", "robustness/*", "python experiments/robustness.py student=all"),
    Section("Ablations", "ablation/*", "python experiments/ablation.py student=all"),
    Section("Accuracy by teacher and student", "distillation", "python experiments/distillation.py"),
    Section("Teacher selection", "teacher_selection", "python experiments/teacher_selection.py"),
    Section(
        "Trajectory selection, as printed and measured",
        "trajectory_selection/*",
        "python experiments/trajectory_selection.py",
    ),
    Section("Validation on a few teachers", "validation/*", "python experiments/validation.py student=miniature"),
    Section(
        "Choices within one teacher",
        "within_teacher/*",
        "python experiments/within_teacher.py student=miniature 'within.teachers=[mixed]'",
    ),
    Section("Calibrated RSR, pre-registered", "calibrated/*", "python experiments/calibrated.py student=miniature"),
    Section("Scores under another student", "mismatch/*", "python experiments/mismatch.py"),
    Section("Length", "length/*", "python experiments/length.py student=miniature teachers=miniature_lengths run=true"),
    Section("Beyond fine-tuning", "beyond_sft/*", "python experiments/beyond_sft.py student=miniature"),
    Section("Where RSR goes wrong", "failures/*", "python experiments/failures.py"),
    Section("Simulation", "simulation", "python experiments/simulation.py"),
    Section("A student's own family", "sanity/*", "python experiments/sanity.py student=all"),
    Section("Cost", "cost", "python experiments/cost.py"),
    Section("Speed, memory and growth", "benchmarks/**", "python benchmarks/scoring.py FOLDER"),
    Section(
        "Trajectories, token by token",
        "case_study/*",
        "python experiments/case_study.py student=smollm2 teachers=FOLDER",
    ),
)


CAPTIONS = {
    "scatter.png": "Scatter plot of scores against accuracy after training, teachers named; the numbers are in table.csv",
    "coefficients.png": "Spearman coefficient of each metric with its interval and the printed value, as in the table",
    "growth.png": "Seconds, peak memory and disk of six tasks over their size, both axes logarithmic, as in the table",
    "mixture.png": "Bars of predicted probability by rank: the dominant habit holds the first rank, the minor one the second",
    "grid.png": "Probability that rank over surprisal prefers the minor habit, by Zipf exponent, share and overlap",
}


def html(results: Path) -> Markup:
    """The body of the page."""
    return render(
        "experiments.reports",
        "results_page.jinja",
        facts=result_folder.provenance(),
        conclusions_title=FOUND,
        conclusions=_tables(summary(results)),
        sections=[(s, [_folder_html(folder, results) for folder in _folders(results, s)]) for s in SECTIONS],
    )


def _tables(markdown: str) -> Markup:
    """Markdown as HTML whose tables scroll by themselves. The renderer escapes HTML in it."""
    rendered = MARKDOWN.render(markdown)
    return Markup(rendered.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>"))


def _folders(results: Path, section: Section) -> list[Path]:
    """Folders of a section that hold results; the summary over all students comes first."""
    folders = [p for p in results.glob(section.folders) if p.is_dir() and (_texts(p) or (p / BODY).is_file())]
    return sorted(folders, key=lambda p: (p.name != "all", p.name))


def _texts(folder: Path) -> list[Path]:
    return [folder / name for name in NAMES if (folder / name).is_file()]


def _body(text: Path) -> str:
    """Markdown without the mark of its title, its parts one level below."""
    return result_folder.inert(text.read_text(encoding="utf-8")).replace("\n## ", "\n#### ").removeprefix("# ").strip()


def _folder_html(folder: Path, results: Path) -> Markup:
    body = folder / BODY
    return render(
        "experiments.reports",
        "results_folder.jinja",
        name=folder.relative_to(results),
        texts=[_tables("### " + _body(text)) for text in _texts(folder)],
        figures=[
            (data_of(figure.read_bytes()), CAPTIONS.get(figure.name, figure.stem))
            for figure in sorted(folder.glob("*.png"))
        ],
        body=Markup(body.read_text(encoding="utf-8")) if body.is_file() else "",
    )


def markdown(results: Path) -> str:
    """The same for those who read text, with links to the figures."""
    parts = ["# The rank-surprisal ratio study"]
    if findings := summary(results):
        parts += [f"## {FOUND}", result_folder.inert(findings)]
    for section in SECTIONS:
        parts.append(f"## {section.title}")
        folders = [f for f in _folders(results, section) if _texts(f)]  # coloured tokens need the page
        for folder in folders:
            parts += ["### " + _body(text) for text in _texts(folder)]
            parts += [
                f"![{figure.stem}]({quote(figure.relative_to(results).as_posix())})"
                for figure in sorted(folder.glob("*.png"))
            ]
        if not folders:
            parts.append(f"Not made yet: `{section.command}`")
    return "\n\n".join(parts) + "\n"
