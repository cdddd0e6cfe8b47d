"""A self-contained HTML page: no request to any host, light and dark, readable on a phone and in print."""

import base64
import hashlib
from importlib.resources import files

from markupsafe import Markup

from rsr.errors import without_keys
from rsr.views.html import render

# A browser loads nothing but the pictures in it and runs nothing but its own script, whatever has found its way in.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'"


def page(title: str, body: Markup, command: str = "") -> str:
    """The page around a body; it names the command that made it, where there is one."""
    script = (files("rsr.views") / "page.js").read_text(encoding="utf-8")
    policy = POLICY.format(base64.b64encode(hashlib.sha256(script.encode()).digest()).decode())
    shown = {"title": title, "body": body, "command": without_keys(command), "policy": policy, "script": Markup(script)}
    return render("rsr.views", "page.jinja", **shown)


def data_of(png: bytes) -> str:
    """A picture as the text of a `src` attribute."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
