"""The page, opened in a browser."""

import shutil
from html import unescape

import numpy as np
import pytest
from markupsafe import Markup

from experiments.app.page import page
from experiments.app.shared_configs import PathsConfig
from experiments.miniature import words
from rsr.data.messages import Message
from rsr.student.chat import ChatRenderer
from rsr.tokens.tokens import Tokens
from rsr.views.heatmap import to_html, tokens_of
from tests.models import tokenizer

pytestmark = pytest.mark.full
HOSTILE = 'a <script>alert(1)</script> </textarea> </pre> & "quoted"'


def hostile_tokens():
    renderer = ChatRenderer(tokenizer())
    chat = renderer.render([Message("user", "?"), Message("assistant", HOSTILE)])
    n = len(chat.positions())
    tokens = Tokens(
        np.arange(1, n + 1, dtype=np.uint32), np.full(n, 0.5, np.float32), np.ones(n, np.float32), np.array([0, n])
    )
    return tokens_of(renderer, chat, tokens, 0)


def test_tokens_spell_the_trajectory_and_stay_text():
    tokens = hostile_tokens()
    assert "".join(t.text for t in tokens) == HOSTILE
    assert "<script" not in to_html(tokens)
    assert [t.ratio_text for t in tokens][:3] == ["2.00", "4.00", "6.00"]
    assert unescape(to_html(tokens)).count("rank 1, surprisal 0.50, RSR 2.00") == 1


def test_the_page_in_a_browser(browser, run, tmp_path):
    results = tmp_path / "results"
    for name in ("tables", "correlation", "simulation"):
        shutil.copytree(PathsConfig().results / name, results / name)
    case = results / "case_study" / "tiny"
    case.mkdir(parents=True)
    (case / "body.html").write_text(to_html(hostile_tokens()))
    assert run("report.py", f"paths.results={results}").returncode == 0

    tab = browser.new_page()
    problems: list[str] = []
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on(
        "request", lambda request: None if request.url.startswith(("file:", "data:")) else problems.append(request.url)
    )
    tab.on("dialog", lambda dialog: problems.append("a dialog opened"))
    tab.goto(f"file://{results / 'report.html'}")

    assert tab.locator("pre.tokens").inner_text() == HOSTILE
    assert tab.locator("pre.tokens span").first.get_attribute("title") == "rank 1, surprisal 0.50, RSR 2.00"
    table = tab.locator("#s0 table").first
    head = table.locator("th button").last
    for expected in (sorted, lambda values: sorted(values, reverse=True)):
        head.click()
        values = [int(text) for text in table.locator("tbody tr td:last-child").all_inner_texts()]
        assert values == expected(values)
    assert all(image.get_attribute("alt") for image in tab.locator("img").all())
    assert tab.locator(".missing").count() > 0
    assert "python experiments/robustness.py" in tab.locator(".missing").first.inner_text()
    for width in (390, 1280):
        tab.set_viewport_size({"width": width, "height": 900})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert problems == []


def test_a_page_loads_and_runs_nothing_that_has_found_its_way_in(browser, tmp_path):
    found = '<img src="http://127.0.0.1:9/x.png"><script>alert(1)</script><p onclick="alert(2)" style="background:url(http://127.0.0.1:9/y)">p</p>'
    (tmp_path / "page.html").write_text(page("Title", Markup(found)))
    tab, problems = browser.new_page(), []
    tab.on("requestfinished", lambda request: problems.append(request.url))
    tab.on("requestfailed", lambda request: problems.append(f"{request.url}: {request.failure}"))
    tab.on("dialog", lambda dialog: problems.append("a dialog opened"))
    tab.goto(f"file://{tmp_path / 'page.html'}")
    tab.locator("p").first.click()
    assert not [problem for problem in problems if not problem.startswith(("file:", "data:")) and "csp" not in problem]


def test_a_title_is_text():
    assert "<b>" not in page("<b>bold</b>", Markup())


def test_tokens_together_spell_the_response():
    """Of a tokenizer whose tokens are words, too, which stand apart only when they are decoded together."""
    renderer = ChatRenderer(words.tokenizer(words.vocabulary()))
    response = "first 0 7 + 0 5 = 1 2 . answer : 1 2 ."
    chat = renderer.render([Message("user", "what is 0 7 + 0 5 ?"), Message("assistant", response)])
    n = len(chat.positions())
    zeros = np.zeros(n, np.float32)
    tokens = Tokens(np.ones(n, np.uint32), zeros, zeros, np.array([0, n]))
    assert "".join(token.text for token in tokens_of(renderer, chat, tokens, 0)).strip() == response
