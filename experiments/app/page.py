"""A self-contained HTML page: no request to any host, light and dark, readable on a phone and in print."""

from markupsafe import Markup

from experiments.app.entry import command_line
from rsr.views.html import render

BODY = "body.html"  # of a case study, for the page of all results


def page(title: str, body: Markup) -> str:
    """The page around a body, which names the command that is running."""
    return render("experiments.app", "page.jinja", title=title, body=body, command=command_line())
