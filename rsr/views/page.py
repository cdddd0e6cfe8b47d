"""A self-contained HTML page: no request to any host, light and dark, readable on a phone and in print."""

import base64

from markupsafe import Markup

from rsr.views.html import render


def page(title: str, body: Markup, command: str = "") -> str:
    """The page around a body; it names the command that made it, where there is one."""
    return render("rsr.views", "page.jinja", title=title, body=body, command=command)


def data_of(png: bytes) -> str:
    """A picture as the text of a `src` attribute."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
