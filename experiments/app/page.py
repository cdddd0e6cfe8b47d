"""The page of an experiment."""

from markupsafe import Markup

from experiments.app.entry import command_line
from rsr.views import page as pages

BODY = "body.html"  # of a case study, for the page of all results


def page(title: str, body: Markup) -> str:
    """The page around a body, which names the command that is running."""
    return pages.page(title, body, command_line())
