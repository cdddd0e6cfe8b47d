"""The page of one's own ranking and selection."""

import re

import pytest

import rsr.cli
from tests.clients import teachers
from tests.models import save

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
    assert re.findall(r"<td>(.*?)</td>", terse[0])[-4:-1] == ["3", "3", "0"]


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
