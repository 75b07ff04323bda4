"""From the facts of an audit to a report: rows of the matrix, lines of the tree, findings.

Pure but for the names of uids and gids.  Facts come one mail root at a time and are forgotten; what
stays is a number for each cell and a line for each mailbox.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from sharefs.audit.facts import BoxFacts, Judged, RootFacts, UserFacts
from sharefs.audit.findings import Finding, Severity
from sharefs.audit.names import Names
from sharefs.audit.report.matrix import (
    NOTHING,
    UNKNOWN,
    Cell,
    Mailbox,
    Matrix,
    MatrixBuilder,
    User,
    mask_of,
)
from sharefs.audit.report.model import Directory, Problem, ReportModel, in_order
from sharefs.namespaces.namespace import INBOX_LEVELS
from sharefs.permissions.access import Inode
from sharefs.permissions.inherit import Creation

MAX_NOTES: Final = 20_000  # cells that say why; all of a class share one text
# Letters that nobody asks the kernel about go with one that is the same work on the files.
_LIKE: Final = {"s": "w", "t": "w", "p": "i"}


_Line = tuple[Directory, tuple[str, ...]]  # a line of the tree, and what findings may call it


class Collector:
    """Give it the users, then every mail root, then build() the report."""

    def __init__(self, users: Sequence[UserFacts], names: Names | None = None) -> None:
        self._names = names or Names()
        ordered = sorted(users, key=lambda user: user.name)
        self._number = {user.name: number for number, user in enumerate(ordered)}
        self._builder = MatrixBuilder([User(u.name, u.shell is not None) for u in ordered])
        self._roots: list[tuple[str, list[_Line]]] = []
        self._named: dict[str, str] = {}  # what a finding may be about -> the matrix's mailbox
        self._notes = 0
        self._rows: dict[str, int] = {}  # resolved path of a mailbox's directory -> its row
        self._links: list[BoxFacts] = []

    def root(self, root: RootFacts) -> None:
        """A mail root and all its mailboxes."""
        own = next((box.creation for box in root.boxes if box.path == root.path), None)
        top = _directory(0, str(root.path), root.inode, own, self._names)
        if root.inode is None:
            top = replace(top, mode="missing")
        lines: list[_Line] = [(top, (str(root.path),))]
        self._roots.append((str(root.path), lines))
        real = str(root.path) if root.inode is None else root.inode.path
        for box in root.boxes:
            if box.link is not None:
                self._links.append(box)
            else:
                self._rows[real + str(box.path).removeprefix(str(root.path))] = len(self._rows)
                self._row(box)
            if box.path == root.path:
                lines[0] = (top, (str(root.path), box.subject))
            else:
                lines += self._lines(box, root.path)

    def _row(self, box: BoxFacts) -> None:
        name = matrix_name(box)
        self._named[box.subject] = self._named[str(box.path)] = name
        cells: dict[int, Cell] = {}
        notes: dict[int, str] = {}
        for judged in box.judged:
            judged = _without_inbox_rule(judged, box)
            cell, why = cell_of(judged), why_of(judged)
            for person in judged.people:
                number = self._number.get(person)
                if number is None:
                    continue
                cells[number] = cell
                if why and self._notes < MAX_NOTES:
                    notes[number] = why
                    self._notes += 1
        # Nobody was compared for what could not be looked at.
        default = UNKNOWN if box.inode is None and not box.judged else NOTHING
        mailbox = Mailbox(name, box.owner, str(box.path))
        self._builder.add(mailbox, cells, default=default, notes=notes)

    def _lines(self, box: BoxFacts, root: Path) -> Iterator[_Line]:
        stored = os.path.relpath(box.path, root)
        depth = 1 + (len(box.levels) - 1 if "/" in stored else 0)
        name = stored.rsplit("/", 1)[-1]
        if box.link is not None:
            name += f" -> {box.link.target}"
        is_link = box.link is not None
        line = _directory(depth, name, box.inode, box.creation, self._names, link=is_link)
        yield line, (box.subject, str(box.path))
        for folder, inode in sorted(dict(box.folders).items()):
            # The three folders are told only if they are not as their mailbox is.
            if box.inode is not None and _permissions(inode) != _permissions(box.inode):
                below = _directory(depth + 1, folder, inode, None, self._names)
                yield below, (inode.path,)

    def build(
        self,
        findings: Iterable[Finding],
        *,
        host: str,
        made: datetime,
        config: str = "",
        seconds: float = 0.0,
        notes: tuple[str, ...] = (),
    ) -> ReportModel:
        """The report.  The same for facts and findings in any order."""
        matrix = self.matrix()
        unique = {finding.key: finding for finding in findings}
        problems = in_order([self._problem(finding) for finding in unique.values()])
        worst: dict[str, Severity] = {}
        for each in unique.values():
            worst[each.subject] = min(worst.get(each.subject, each.severity), each.severity)
        tree = tuple(
            _marked(line, keys, worst)
            for _, lines in sorted(self._roots, key=lambda root: root[0])
            for line, keys in lines
        )
        return ReportModel(
            host=host, made=made, config=config, seconds=seconds, problems=problems,
            matrix=matrix, tree=tree, notes=notes,
        )  # fmt: skip

    def matrix(self) -> Matrix:
        while self._links:
            self._link(self._links.pop(0))
        return self._builder.build()

    def _link(self, box: BoxFacts) -> None:
        """Nobody but the linker goes through his tree; he gets there what he gets at the target."""
        link, number = box.link, self._number.get(box.owner)
        name = matrix_name(box)
        self._named[box.subject] = self._named[str(box.path)] = name
        cells: dict[int, Cell] = {}
        notes: dict[int, str] = {}
        if link is not None and number is not None:
            row = self._rows.get(link.real)
            if not link.real:
                cells[number], notes[number] = NOTHING, f"the link to {link.target} leads nowhere"
            elif row is None or link.linker_owns:
                cells[number], notes[number] = UNKNOWN, f"a link to {link.real}"
            else:
                cells[number] = self._builder.cell(row, number)
                notes[number] = f"as at {link.real}, a mailbox of {link.owner or 'nobody'}"
        mailbox = Mailbox(name, box.owner, str(box.path))
        default = NOTHING if box.owner else UNKNOWN
        self._builder.add(mailbox, cells, default=default, notes=notes)

    def _problem(self, finding: Finding) -> Problem:
        mailbox = self._named.get(finding.subject, "")
        return Problem(
            finding.rule, finding.severity, finding.title, finding.subject, finding.evidence,
            finding.why, finding.remedy, finding.commands, mailbox, finding.user,
        )  # fmt: skip


def _without_inbox_rule(judged: Judged, box: BoxFacts) -> Judged:
    """INBOX cannot be deleted by anybody (RFC 3501 section 6.3.4): no matter of permissions."""
    if box.levels != INBOX_LEVELS or "x" not in judged.denied:
        return judged
    return replace(judged, denied={c: why for c, why in judged.denied.items() if c != "x"})


def matrix_name(box: BoxFacts) -> str:
    """OWNER/MAILBOX; a public mailbox has no owner in its name."""
    return f"{box.owner}/{box.name}" if box.owner else box.name


def cell_of(judged: Judged) -> Cell:
    """What one class of users may do.  The kernel is asked about what the ACL grants only."""
    granted = judged.rights.letters
    if "l" in judged.denied:
        works = ""  # an ACL file that its viewer cannot read gives nothing
    else:
        works = "".join(c for c in granted if _LIKE.get(c, c) not in judged.denied)
    shell = granted + "lr" if judged.leaked else ""
    return Cell(mask_of(granted), mask_of(works), mask_of(shell))


def why_of(judged: Judged) -> str:
    """The reasons, each once, with the letters it is about."""
    by_reason: dict[str, str] = {}
    for letter, why in judged.denied.items():
        by_reason[why] = by_reason.get(why, "") + letter
    parts = [f"{letters}: {why}" for why, letters in by_reason.items()]
    if judged.leaked:
        parts.append(f"a shell reads {judged.leaked}")
    return "; ".join(parts)


def _directory(
    depth: int,
    name: str,
    inode: Inode | None,
    creation: Creation | None,
    names: Names,
    *,
    link: bool = False,
) -> Directory:
    if inode is None:
        return Directory(depth, name, "l---------" if link else "?", "", "")
    acl = "" if inode.acl is None else ",".join(str(entry) for entry in inode.acl)
    rule = ""
    if creation is not None:
        group = "the process's group" if creation.group is None else names.group(creation.group)
        rule = f"{creation.file_mode:04o} {group} ({creation.reason.value})"
    return Directory(
        depth, name, stat.filemode(inode.mode), names.user(inode.uid), names.group(inode.gid),
        acl, rule,
    )  # fmt: skip


def _permissions(inode: Inode) -> tuple[object, ...]:
    return (inode.mode, inode.uid, inode.gid, inode.acl)


def _marked(line: Directory, keys: tuple[str, ...], worst: Mapping[str, Severity]) -> Directory:
    found = [worst[key] for key in keys if key in worst]
    return replace(line, problem=min(found)) if found else line
