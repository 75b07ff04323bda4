"""The matrix and the findings as plain text, for a terminal, a mail, a log.  Pure.

No colours, no cursor movement: names are shown with what is invisible made visible.
"""

import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from sharefs.audit.report.matrix import Cell, Matrix, letters_of
from sharefs.audit.report.model import (
    Problem,
    ReportModel,
    headline,
    in_order,
    summary_of,
)
from sharefs.audit.report.shown import shortened, shown
from sharefs.audit.words import counted

MAX_COLUMNS: Final = 12  # users side by side; more than that nobody reads
_NAME: Final = 40  # columns for a mailbox's name
_LEGEND: Final = (
    "Letters: what works (RFC 4314).  -x: the ACL grants it, the kernel denies it."
    "  +x: a leak, the kernel gives it to the user's shell, the ACL does not.  ?: not known."
)


def report_lines(model: ReportModel, *, width: int = 80) -> Iterator[str]:
    """The whole report as lines: the answer, the findings, the cells that disagree."""
    summary = summary_of(model)
    yield f"{headline(summary)}."
    yield (
        f"{shown(model.host)}: {counted(summary.users, 'user')},"
        f" {counted(summary.mailboxes, 'mailbox')},"
        f" {model.made:%Y-%m-%d %H:%M} UTC"
    )
    for note in model.notes:
        yield from _wrapped(f"Note: {shown(note)}", "", width)
    for problem in in_order(model.problems):
        yield ""
        yield from problem_lines(problem, width=width)
    disagreeing = disagreement_lines(model.matrix)
    if summary.leaked or summary.blocked:
        yield ""
        yield "Where the ACL and the kernel disagree (user, mailbox, rights):"
        yield from (f"  {line}" for line in disagreeing)


def problem_lines(problem: Problem, *, width: int = 80) -> Iterator[str]:
    """One finding: what, where, the evidence, why it matters, what to type."""
    yield from _wrapped(f"[{problem.severity.word}] {shown(problem.title)}", "    ", width)
    where = f"{shown(problem.subject)}  ({problem.rule})" if problem.subject else problem.rule
    yield f"    {where}"
    for line in problem.evidence:
        yield f"      {shown(line)}"
    if problem.why:
        yield from _wrapped(f"    {shown(problem.why)}", "    ", width)
    if problem.remedy:
        yield from _wrapped(f"    Remedy: {shown(problem.remedy)}", "    ", width)
    for command in problem.commands:
        yield f"    # {shown(command)}"


def matrix_lines(matrix: Matrix, *, users: Sequence[int] | None = None) -> Iterator[str]:
    """A table: mailboxes down, users across.

    users: the columns, by number; None: all, but no more than MAX_COLUMNS (a line says so).
    """
    everybody = range(len(matrix.users))
    columns = list(everybody[:MAX_COLUMNS] if users is None else users)
    if not columns or not matrix.mailboxes:
        yield "No users or no mailboxes."
        return
    heads = [shortened(shown(matrix.users[user].name), 16) for user in columns]
    table = [[cell_text(matrix.cell(row, user)) for user in columns] for row in _rows(matrix)]
    names = [shortened(shown(mailbox.name), _NAME) for mailbox in matrix.mailboxes]
    widths = [
        max(_columns(text) for text in (head, *(line[at] for line in table)))
        for at, head in enumerate(heads)
    ]
    first = max(map(_columns, ("Mailbox", *names)))
    yield _line("Mailbox", first, zip(heads, widths, strict=True))
    yield _line("-" * first, first, (("-" * width, width) for width in widths))
    for name, cells in zip(names, table, strict=True):
        yield _line(name, first, zip(cells, widths, strict=True))
    if users is None and len(everybody) > len(columns):
        yield f"... and {len(everybody) - len(columns):,} more users: name some, or make a report"
    yield from textwrap.wrap(_LEGEND, 80)


def disagreement_lines(matrix: Matrix, *, limit: int = 200) -> Iterator[str]:
    """Every cell where ACL and kernel disagree, a line each; at most limit."""
    for number, (mailbox, user, cell) in enumerate(matrix.disagreements()):
        if number == limit:
            yield "... and more"
            return
        names = f"{shown(matrix.users[user].name)}  {shown(matrix.mailboxes[mailbox].name)}"
        note = matrix.notes.get((mailbox, user), "")
        yield f"{names}  {cell_text(cell)}" + (f"  {shown(note)}" if note else "")


def cell_text(cell: Cell) -> str:
    """ "lr", "lr-ws", "+lr", "." for no access, "?" for unknown."""
    if cell.unknown:
        return "?"
    text = letters_of(cell.effective)
    if cell.blocked:
        text += "-" + letters_of(cell.blocked)
    if cell.leaked:
        text += "+" + letters_of(cell.leaked)
    return text or "."


def _rows(matrix: Matrix) -> range:
    return range(len(matrix.mailboxes))


def _line(first: str, width: int, cells: Iterable[tuple[str, int]]) -> str:
    parts = [_padded(first, width), *(_padded(text, size) for text, size in cells)]
    return "  ".join(parts).rstrip()


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _columns(text))


def _columns(text: str) -> int:
    """How many columns of a terminal a text takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _wrapped(text: str, indent: str, width: int) -> Iterator[str]:
    """Lines of at most width; long words (paths) are never broken."""
    first = text[: len(text) - len(text.lstrip())]
    yield from textwrap.wrap(
        text.strip(), width, initial_indent=first, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
