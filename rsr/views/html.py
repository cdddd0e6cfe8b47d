"""HTML from the Jinja templates beside a package's modules, in which every value is escaped."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


@cache
def _environment(package: str, folder: str) -> Environment:
    return Environment(
        loader=PackageLoader(package, folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(package: str, template: str, **values: Any) -> Markup:
    """A template of a package, such as "rsr.views" and "heatmap.jinja", with values; only `Markup` among them stays as it is."""
    return Markup(_environment(*package.split(".", 1)).get_template(template).render(**values))
