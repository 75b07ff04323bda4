"""The matrix for programs: one record for each cell that says something.  Pure.

Most of the cells of a large host are empty, so only the others are told, one after the other.
"""

import csv
import io
import json
from collections.abc import Collection, Iterator
from typing import Any, Final

from sharefs.audit.output import harmless, plain
from sharefs.audit.report.matrix import NOTHING, Matrix, letters_of

FORMATS: Final = ("text", "json", "csv")
COLUMNS: Final = (
    "mailbox", "owner", "path", "user", "acl", "works", "refused", "leaked", "known", "why",
)  # fmt: skip


def records(matrix: Matrix, users: Collection[int] | None = None) -> Iterator[dict[str, Any]]:
    """By mailbox, then by user.  users: of these alone, by number.

    acl: what the ACL grants.  works: what of that the kernel allows; refused: what it does not.
    leaked: what a shell can do although the ACL does not grant it.  All in letters of RFC 4314.
    known: false where it could not be found out; then the letters are empty.
    """
    wanted = [cell for cell in matrix.palette if cell != NOTHING]
    for row, column, cell in matrix.cells(wanted):
        if users is not None and column not in users:
            continue
        mailbox = matrix.mailboxes[row]
        yield {
            "mailbox": mailbox.name,
            "owner": mailbox.owner,
            "path": mailbox.path,
            "user": matrix.users[column].name,
            "acl": "" if cell.unknown else letters_of(cell.acl),
            "works": letters_of(cell.effective),
            "refused": letters_of(cell.blocked),
            "leaked": letters_of(cell.leaked),
            "known": not cell.unknown,
            "why": matrix.notes.get((row, column), ""),
        }


def data_lines(matrix: Matrix, form: str, users: Collection[int] | None = None) -> Iterator[str]:
    """One list of objects (json), or one line for each cell below a heading (csv, RFC 4180)."""
    found = records(matrix, users)
    if form == "json":
        first = True
        for record in found:
            yield ("[\n " if first else ",\n ") + json.dumps(record)
            first = False
        yield "[]\n" if first else "\n]\n"
        return
    yield _csv_line(COLUMNS)
    for record in found:
        cells = {**record, "known": "yes" if record["known"] else "no"}
        yield _csv_line([harmless(plain(str(cells[column]))) for column in COLUMNS])


def _csv_line(cells: Collection[str]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(cells)
    return out.getvalue()
