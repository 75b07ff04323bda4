"""The report as one HTML file that needs nothing else: no network, no fonts, no other file.  Pure.

Style, script and data are inside; a content security policy that names the hashes of both forbids
everything else, so that a hostile mailbox name could not run or load anything even if it got out
of its quotes.  The script makes text nodes only.  Cells travel as palette numbers, deflated: five
million of them take some hundred kilobytes.
"""

import base64
import functools
import hashlib
import html
import json
import sys
import zlib
from array import array
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from sharefs import __version__
from sharefs.audit.report.matrix import LETTERS, Matrix
from sharefs.audit.report.model import (
    Directory,
    Problem,
    ReportModel,
    headline,
    in_order,
    summary_of,
)
from sharefs.audit.report.shown import shortened, shown
from sharefs.audit.words import counted

SCRIPTS: Final = (
    "codec.js", "page.js", "access.js", "grid.js", "panel.js", "findings.js", "tree.js",
    "print.js", "app.js",
)  # fmt: skip
_TITLE_LENGTH: Final = 200


def render(model: ReportModel) -> str:
    """The whole file, all ASCII but for what the assets hold; to be written as UTF-8."""
    assets = _assets()
    title = headline(summary_of(model))
    octets, width = packed_cells(model.matrix)
    parts = {
        "version": __version__,
        "title": html.escape(shortened(f"{title} · {shown(model.host)}", _TITLE_LENGTH)),
        "headline": html.escape(title),
        "style": assets.style,
        "style-hash": _hash(assets.style),
        "script": assets.script,
        "script-hash": _hash(assets.script),
        "data": json_block(_data(model, width)),
        "cells": base64.b64encode(zlib.compress(octets, 6)).decode("ascii"),
    }
    return "".join(
        text if number % 2 == 0 else parts[text] for number, text in enumerate(assets.page)
    )


def json_block(value: object) -> str:
    """JSON that may stand inside a script element: no "<" ends it, no "&" or "-->" confuses it."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def packed_cells(matrix: Matrix) -> tuple[bytes, int]:
    """All rows one after the other, and how many octets one cell takes, little-endian."""
    if len(matrix.palette) > 256:
        cells = array("H")
        for row in matrix.rows:
            cells.frombytes(row)
        if sys.byteorder == "big":
            cells.byteswap()
        return cells.tobytes(), 2
    low = 0 if sys.byteorder == "little" else 1
    return b"".join(row[low::2] for row in matrix.rows), 1


def _data(model: ReportModel, width: int) -> dict[str, Any]:
    matrix = model.matrix
    numbers = {user.name: number for number, user in enumerate(matrix.users)}
    return {
        "host": shown(model.host),
        "facts": _facts(model),
        "made": f"Made by sharefs {__version__} on {model.made:%Y-%m-%d at %H:%M:%S} UTC.",
        "notes": [shown(note) for note in model.notes],
        "letters": LETTERS,
        "octets": width,
        "users": [shown(user.name) for user in matrix.users],
        "logins": [int(user.login) for user in matrix.users],
        "mailboxes": [shown(mailbox.name) for mailbox in matrix.mailboxes],
        "owners": [numbers.get(mailbox.owner, -1) for mailbox in matrix.mailboxes],
        "paths": [shown(mailbox.path) for mailbox in matrix.mailboxes],
        "palette": [[c.acl, c.kernel, c.shell, int(c.unknown)] for c in matrix.palette],
        "reasons": [[box, user, shown(note)] for (box, user), note in matrix.notes.items()],
        "findings": [_finding(problem) for problem in in_order(model.problems)],
        "tree": [_directory(directory) for directory in model.tree],
    }


def _finding(problem: Problem) -> dict[str, Any]:
    return {
        "rule": shown(problem.rule),
        "severity": problem.severity.word,
        "title": shown(problem.title),
        "subject": shown(problem.subject),
        "evidence": [shown(line) for line in problem.evidence],
        "why": shown(problem.why),
        "remedy": shown(problem.remedy),
        # With escapes in it a command is for reading only: what is copied must be what is meant.
        "commands": [[shown(text), int(shown(text) == text)] for text in problem.commands],
        "mailbox": shown(problem.mailbox),
        "user": shown(problem.user),
    }


def _directory(directory: Directory) -> dict[str, Any]:
    return {
        "depth": directory.depth,
        "name": shown(directory.name),
        "mode": directory.mode,
        "owner": shown(directory.owner),
        "group": shown(directory.group),
        "acl": shown(directory.acl),
        "rule": shown(directory.rule),
        "problem": directory.problem.word if directory.problem is not None else "",
    }


def _facts(model: ReportModel) -> str:
    summary = summary_of(model)
    mailboxes = counted(summary.mailboxes, "mailbox")
    text = f"{counted(summary.users, 'user')} and {mailboxes}"
    text += f" as {shown(model.config)} has them. " if model.config else ". "
    text += f"Checked {model.made:%-d %B %Y, %H:%M} UTC"
    if not model.seconds:
        return text + "."
    return text + (f", in {model.seconds:,.0f} s." if model.seconds >= 1 else ", in less than 1 s.")


@dataclass(frozen=True, slots=True)
class _Assets:
    page: tuple[str, ...]  # text and names of parts by turns
    style: str
    script: str


@functools.cache
def _assets() -> _Assets:
    where = resources.files(__package__) / "assets"

    def text(name: str) -> str:
        return (where / name).read_text(encoding="utf-8")

    script = '(() => {\n"use strict";\n' + "".join(text(name) for name in SCRIPTS) + "})();\n"
    return _Assets(tuple(text("report.html").split("@")), text("report.css"), script)


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
