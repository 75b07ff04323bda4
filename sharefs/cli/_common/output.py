"""Records on standard output, in the forms that doveadm has: table, tab, flow, pager, json.

The names of columns are doveadm's titles; in JSON they are lower-case, as its are.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import click

Record = Mapping[str, Any]
F = TypeVar("F", bound=Callable[..., Any])

FORMATS: Final = ("table", "tab", "flow", "pager", "json")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_FORM_FEED: Final = "\x0c"


def format_options(command: F) -> F:
    """Adds -f/--format and --json to a command, which receives `form`."""
    for decorate in (
        click.option("--json", "form", flag_value="json", help="Same as --format json."),
        click.option(
            "-f", "--format", "form", type=click.Choice(FORMATS), default="table",
            help="How to print records; as doveadm's formatters.  Default: table.",
        ),
    ):  # fmt: skip
        command = decorate(command)
    return command


def printable(value: object) -> str:
    """A value as one line of text: names may hold anything, terminals must not."""
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return " ".join(map(printable, value))
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", str(value))


def render(columns: Sequence[str], records: Sequence[Record], form: str) -> str:
    """The whole output, without a final newline if there is nothing to print."""
    if form == "json":
        lowered = [{name.lower(): record.get(name) for name in columns} for record in records]
        return json.dumps(lowered, indent=1) + "\n"
    rows = [[printable(record.get(name)) for name in columns] for record in records]
    match form:
        case "tab":
            return "".join("\t".join(row) + "\n" for row in [list(columns), *rows])
        case "flow":
            pairs = [zip(columns, row, strict=True) for row in rows]
            return "".join(" ".join(f"{k}={v}" for k, v in pair) + "\n" for pair in pairs)
        case "pager":
            pages = [
                "".join(f"{k}: {v}\n" for k, v in zip(columns, row, strict=True)) for row in rows
            ]
            return (_FORM_FEED + "\n").join(pages)
    return _table([list(columns), *rows])


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, the last one ragged; never folded, so that `| grep` and awk work."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        " ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "".join(line + "\n" for line in lines)


def echo(columns: Sequence[str], records: Sequence[Record], form: str) -> None:
    click.echo(render(columns, records, form), nl=False)
