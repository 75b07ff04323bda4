"""Lists of commands, as an administrator first meets them."""

import click
import pytest

from sharefs.cli import cli


@pytest.mark.parametrize("name", ["", "share"])
def test_what_a_command_is_for_is_said_to_the_end(name: str) -> None:
    """In one line of a terminal of 80 columns, with no three dots where the point would be."""
    context = click.Context(cli, info_name="sharefs", terminal_width=80, max_content_width=80)
    group = cli.get_command(context, name) if name else cli
    assert isinstance(group, click.Group)
    inner = click.Context(group, info_name=name, terminal_width=80, max_content_width=80)
    listed = group.get_help(inner).partition("Commands:")[2]
    assert listed
    assert "..." not in listed
