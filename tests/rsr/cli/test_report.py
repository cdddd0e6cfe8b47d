"""The page of one's own ranking and selection."""

import re

import pytest

import rsr.cli
from tests.clients import teachers, write
from tests.models import save, save_seeing
from tests.rsr.tokens.test_images import SAYING, asking, shown
from tests.templates import QWEN3

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    student, data = save(folder / "student"), teachers(folder / "data")
    arguments = ["report", data, "--student", student, "--outputs", folder / "outputs", "-o", folder / "report.html"]
    assert rsr.cli.run([str(a) for a in [*arguments, "--dtype", "float32", "--correct", "first"]]) == 0
    return folder / "report.html"


def test_it_says_what_to_do_and_shows_why(written):
    page = written.read_text()
    assert len(page) < 500_000
    assert re.search(r'class="decision">Train on \S+', page)
    assert "Whether answers are right is known for 12 of 12 trajectories" in page
    assert (
        "<img" not in page and page.count('class="track"') == 2
    )  # a chart that takes the colours and the width of the page
    assert page.count("<article>") == 6  # three problems, two answers each
    assert '<span class="right">right</span>' in page and '<span class="wrong">wrong</span>' in page
    assert "31 and more" in page  # the legend
    assert "6 trajectories, of 6 of 6 problems" in page
    assert "6 left out: not among the best 1 of the problem" in page
    terse = re.search(r"<td>terse/gen1</td>.*?</tr>", page, re.DOTALL)
    assert terse is not None
    assert re.findall(r"<td>(.*?)</td>", terse[0])[-5:-2] == ["3", "3", "0"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_read_on_a_phone_and_asks_nothing_of_a_host(written, browser, scheme):
    tab = browser.new_page(color_scheme=scheme)
    problems: list[str] = []
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on(
        "request", lambda request: None if request.url.startswith(("file:", "data:")) else problems.append(request.url)
    )
    tab.goto(f"file://{written}")
    for width in (390, 1280):
        tab.set_viewport_size({"width": width, "height": 900})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
    back = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") == (scheme == "light")
    assert tab.locator("figure").get_attribute("aria-label")
    assert tab.locator(".track b").first.bounding_box()["width"] > 5
    assert problems == []


def test_tokens_are_told_apart_in_the_rendering_that_was_scored(tmp_path):
    """By turn there are more of them than in the whole, and tools move them."""
    student = save(tmp_path / "student")
    (tmp_path / "qwen3.jinja").write_text(QWEN3)
    for teacher in ("a", "b"):
        reply = {"role": "assistant", "content": f"<think>\nHm.\n</think>\n\nIt is {teacher}."}
        said = [{"role": "user", "content": "1?"}, reply] * 3
        tool = {"type": "function", "function": {"name": teacher, "parameters": {"type": "object"}}}
        write(
            tmp_path / "data" / f"{teacher}.json",
            [{"id": f"p{i}", "messages": said, "tools": [tool]} for i in range(3)],
        )
    arguments = ["report", tmp_path / "data", "--student", student, "--outputs", tmp_path / "outputs"]
    arguments += ["-o", tmp_path / "report.html", "--dtype", "float32", "--correct", "ignore"]
    arguments += ["--template", tmp_path / "qwen3.jinja", "--rendering", "turn"]
    assert rsr.cli.run([str(a) for a in arguments]) == 0
    assert (tmp_path / "report.html").read_text().count("<article>") == 6


def test_what_was_cut_is_said(tmp_path):
    student, data = save(tmp_path / "student"), teachers(tmp_path / "data")
    arguments = ["report", data, "--student", student, "--outputs", tmp_path / "outputs", "--max-length", 60]
    assert rsr.cli.run([str(a) for a in [*arguments, "-o", tmp_path / "report.html", "--dtype", "float32"]]) == 0
    assert re.search(
        r"<li>\S+/gen1: \d truncated at 60 tokens \(--max-length\)", (tmp_path / "report.html").read_text()
    )


def test_chats_with_images_have_their_place(tmp_path):
    student = save_seeing(tmp_path / "student")
    for teacher in ("a", "b"):
        records = [{"id": f"p{i}", "messages": asking(SAYING, shown(i), reply=f"It is {teacher}.")} for i in range(3)]
        write(tmp_path / "data" / f"{teacher}.json", records)
    arguments = ["report", tmp_path / "data", "--student", student, "--outputs", tmp_path / "outputs"]
    arguments += ["-o", tmp_path / "report.html", "--dtype", "float32", "--correct", "ignore"]
    assert rsr.cli.run([str(a) for a in arguments]) == 0
    assert (tmp_path / "report.html").read_text().count("<article>") == 6
