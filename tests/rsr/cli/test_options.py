"""What is typed on the command line means what it says."""

import click
import pytest

from rsr.cli.options import settings_options


@click.command()
@settings_options
def settings(settings):
    return settings


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("false", False),
        ("True", True),
        ("null", None),
        ("3", 3),
        ("0.5", 0.5),
        ('"false"', "false"),
        ("26 Jul 2024", "26 Jul 2024"),
        ("NaN", "NaN"),
        ("", ""),
    ],
)
def test_a_template_variable_is_what_it_says(given, value):
    told = settings(["--template-variable", f"flag={given}"], standalone_mode=False)
    (variable,) = told.template_variables.values()
    assert variable == value and type(variable) is type(value)
