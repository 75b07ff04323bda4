"""The text of ACL files and of global ACL files, as Dovecot reads and writes it.  Pure.

One line is `<identifier> <letters>[ :<name>...]`.  The identifier ends at the first space (a TAB
stays in it), or is in double quotes.  Empty lines and lines starting with # are skipped, and
dropped when the file is written again.  What a malformed line means is settled in
docs/decisions/0002-malformed-acl-lines.md: it spoils the file, and nobody gains by it.
"""

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sharefs.acl import EMPTY, Acl, Entry
from sharefs.errors import Place, SharingError
from sharefs.identifiers import Identifier
from sharefs.rights import Rights

_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"(?= |$)')
_PATTERN: Final = re.compile(r'"((?:[^"\\]|\\.)*)" |([^" ][^ ]*) ')
_ESCAPED: Final = re.compile(r"\\(.)")
_TO_ESCAPE: Final = re.compile(r"([\"\\'])")
_COLUMN: Final = re.compile(r"column (\d+): (.*)", re.DOTALL)


class Severity(enum.StrEnum):
    """An error spoils the whole file; a warning is a line that hardly means what it says."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class AclProblem:
    """What is wrong with one line.  place: file, line and column."""

    severity: Severity
    place: Place
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.severity}: {self.text}"


@dataclass(frozen=True, slots=True)
class ParsedAcl:
    """The well-formed lines, and what is wrong with the others."""

    acl: Acl = EMPTY
    problems: tuple[AclProblem, ...] = ()

    @property
    def malformed(self) -> bool:
        return any(problem.severity is Severity.ERROR for problem in self.problems)


def parse_acl(octets: bytes, file: str, *, is_global: bool = False) -> ParsedAcl:
    """Read a whole ACL file.  Never raises: what cannot be read is in the problems.

    file: for the places of entries and problems.  A carriage return before the line end and a
    missing last line end are harmless.
    """
    entries: list[Entry] = []
    problems: list[AclProblem] = []
    seen: dict[tuple[Identifier, bool], int] = {}
    for number, text in _lines(octets):
        try:
            entry = _parse_line(text, Place(file, number), is_global=is_global)
        except _Malformed as flaw:
            problems.append(flaw.problem(Place(file, number)))
            continue
        entries.append(entry)
        problems += _doubts(entry, Place(file, number), seen)
    return ParsedAcl(Acl(tuple(entries)), tuple(problems))


@dataclass(frozen=True, slots=True)
class GlobalLine:
    """One line of a global ACL file: for mailboxes whose full name matches pattern."""

    pattern: str
    entry: Entry

    def matches(self, name: str) -> bool:
        return wildcard_matches(self.pattern, name)


@dataclass(frozen=True, slots=True)
class ParsedGlobals:
    """As ParsedAcl, for the lines of a global ACL file."""

    lines: tuple[GlobalLine, ...] = ()
    problems: tuple[AclProblem, ...] = ()

    @property
    def malformed(self) -> bool:
        return any(problem.severity is Severity.ERROR for problem in self.problems)

    def entries_for(self, name: str) -> tuple[Entry, ...]:
        """name: the mailbox's full name, with the prefix of its namespace."""
        return tuple(line.entry for line in self.lines if line.matches(name))


def parse_globals(octets: bytes, file: str) -> ParsedGlobals:
    """Read a global ACL file of Dovecot 2.3: `<pattern> <ACL line>`, the pattern maybe quoted."""
    lines: list[GlobalLine] = []
    problems: list[AclProblem] = []
    for number, text in _lines(octets):
        place = Place(file, number)
        found = _PATTERN.match(text)
        try:
            if found is None:
                raise _Malformed(1, "a line is <pattern> <identifier> <rights>")
            quoted, plain = found.groups()
            pattern = plain if plain is not None else _ESCAPED.sub(r"\1", quoted)
            entry = _parse_line(text[found.end() :], place, is_global=True)
        except _Malformed as flaw:
            problems.append(flaw.problem(place, after=found.end() if found else 0))
            continue
        lines.append(GlobalLine(pattern, entry))
    return ParsedGlobals(tuple(lines), tuple(problems))


def wildcard_matches(pattern: str, name: str) -> bool:
    """* stands for any characters and ? for any one, hierarchy separators included."""
    parts = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.fullmatch("".join(parts), name, re.DOTALL) is not None


def format_acl(acl: Acl) -> bytes:
    """The file's content, byte for byte what Dovecot writes.  Global entries are left out."""
    lines: list[str] = []
    for entry in acl.entries:
        if entry.is_global:
            continue
        if entry.rights is not None:
            lines.append(_format_line(entry.identifier.file(), entry.rights))
        if entry.negative is not None:
            lines.append(_format_line(entry.identifier.file(negative=True), entry.negative))
    return "".join(lines).encode()


def entry_of_setting(identifier: str, rights: str, place: Place | None) -> Entry:
    """A global entry from configuration: `acl <id> { rights = <letters> }`.

    Negative ones start with - in the rights (2.4) or in the identifier.  Raises
    SharingError(INVALID) naming the place.
    """
    try:
        signed = Identifier.parse_file(identifier)
        negative = signed.negative or rights.startswith("-")
        value = Rights.parse_file(rights.removeprefix("-"))
    except SharingError as refused:
        where = f"{place}: " if place else ""
        raise SharingError(
            refused.code, f"{where}acl {identifier} {{ rights = {rights} }}: {refused.detail}"
        ) from refused
    return Entry(
        signed.identifier,
        None if negative else value,
        value if negative else None,
        is_global=True,
        place=place,
        negative_place=place,
    )


class _Malformed(Exception):
    def __init__(self, column: int, text: str) -> None:
        super().__init__(text)
        self.column = column
        self.text = text

    def problem(self, place: Place, *, after: int = 0) -> AclProblem:
        """after: columns of the line that stand before the text that was read."""
        at = Place(place.file, place.line, self.column + after)
        return AclProblem(Severity.ERROR, at, self.text)


def _lines(octets: bytes) -> Iterable[tuple[int, str]]:
    """Numbered lines that say something.  Octets that are no UTF-8 become lone surrogates."""
    for number, line in enumerate(octets.split(b"\n"), 1):
        line = line.removesuffix(b"\r")
        if line and not line.startswith(b"#"):
            yield number, line.decode("utf-8", "surrogateescape")


def _parse_line(text: str, place: Place, *, is_global: bool) -> Entry:
    """Raises _Malformed."""
    if text.startswith('"'):
        found = _QUOTED.match(text)
        if found is None:
            raise _Malformed(1, "a quoted identifier ends with a quote and a space")
        name, at = _ESCAPED.sub(r"\1", found[1]), found.end()
    else:
        name, at = text.partition(" ")[0], len(text.partition(" ")[0])
    try:
        signed = Identifier.parse_file(name)
    except SharingError as refused:
        raise _Malformed(1, _printable(refused.detail)) from refused
    try:
        rights = Rights.parse_file(text[at + 1 :])
        _check_extra(rights)
    except SharingError as refused:
        column = _COLUMN.fullmatch(refused.detail)
        assert column is not None
        raise _Malformed(at + 1 + int(column[1]), _printable(column[2])) from refused
    if signed.negative:
        return Entry(signed.identifier, None, rights, is_global, negative_place=place)
    return Entry(signed.identifier, rights, None, is_global, place=place)


def _check_extra(rights: Rights) -> None:
    for name in rights.extra:
        if not name.isprintable():
            raise _Malformed(1, f"a name after ':' has a control character: {_printable(name)}")


def _doubts(
    entry: Entry, place: Place, seen: dict[tuple[Identifier, bool], int]
) -> Iterable[AclProblem]:
    """Lines that are legal and hardly meant so."""
    negative = entry.rights is None
    if "\t" in entry.identifier.name:
        yield AclProblem(
            Severity.WARNING,
            Place(place.file, place.line, entry.identifier.file(negative=negative).index("\t") + 1),
            "a TAB belongs to the identifier, which so matches nobody: put a space there",
        )
    first = seen.setdefault((entry.identifier, negative), place.line)
    if first != place.line:
        lost = "all rights" if negative else "the negative rights"
        yield AclProblem(
            Severity.WARNING,
            Place(place.file, place.line, 1),
            f"{entry.identifier.file(negative=negative)} stands on line {first} too; the two are"
            f" merged, and {lost} from weaker entries end: make them one line",
        )


def _format_line(name: str, rights: Rights) -> str:
    if " " in name:
        name = '"' + _TO_ESCAPE.sub(r"\\\1", name) + '"'
    return f"{name} {rights.file()}\n"


def _printable(text: str) -> str:
    """Text for a log: lone surrogates and control characters as escapes."""
    return "".join(c if c.isprintable() else f"\\x{ord(c) & 0xFFFF:02x}" for c in text)
