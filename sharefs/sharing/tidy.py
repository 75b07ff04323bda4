"""ACL files in good order: mending what was typed by hand, doubting what hardly means it.  Pure."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from sharefs.acl import Acl, Entry
from sharefs.errors import Place
from sharefs.identifiers import Kind
from sharefs.rights import LOOKUP
from sharefs.sharing.acl_text import AclProblem, format_acl, parse_acl

_BLANKS: Final = re.compile(rb"[ \t]+")


@dataclass(frozen=True, slots=True)
class Tidied:
    """content: the file in order; what it was if something is left.  mended: lines that were
    changed to be readable, before and after, octets that are no UTF-8 as lone surrogates.  left:
    what only a person can mend."""

    content: bytes
    mended: tuple[tuple[str, str], ...] = ()
    left: tuple[AclProblem, ...] = ()


def tidy(octets: bytes, file: str = "") -> Tidied:
    """An ACL file as servers write it: sorted, one entry a line, one space, no comments.

    A TAB or several spaces in the place of the one space are mended: that gives the entry the
    rights that whoever typed it meant.
    """
    lines: list[bytes] = []
    mended: list[tuple[str, str]] = []
    for line in octets.split(b"\n"):
        better = _mended(line)
        lines.append(better)
        if better != line and line.strip():
            mended.append((_text(line), _text(better)))
    parsed = parse_acl(b"\n".join(lines), file)
    if parsed.malformed:
        return Tidied(octets, tuple(mended), parsed.problems)
    return Tidied(format_acl(parsed.acl), tuple(mended))


def _mended(line: bytes) -> bytes:
    """The line if it is good or cannot be mended."""
    line_end = line.removesuffix(b"\r")
    if not line_end.strip() or line_end.startswith((b"#", b'"')):
        return line_end
    parsed = parse_acl(line_end, "")
    if not parsed.problems:
        return line_end
    better = _BLANKS.sub(b" ", line_end.strip())
    return better if not parse_acl(better, "").problems else line_end


def _text(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Doubt:
    """An entry that is well-formed and hardly does what was meant.  note: it may be meant so."""

    place: Place | None
    text: str
    note: bool = False


def doubts(acl: Acl, *, exists: Callable[[str], bool], domain: str) -> Iterator[Doubt]:
    """What a person should look at.  exists: is a user known?  domain: the owner's, or ""."""
    for entry in acl.entries:
        place = entry.place or entry.negative_place
        kind, name = entry.identifier.kind, entry.identifier.name
        if kind in (Kind.ANYONE, Kind.AUTHENTICATED) and entry.rights:
            yield Doubt(place, f"{entry} is everybody on this host", note=True)
        if kind is Kind.USER and "\t" not in name and (text := unknown(name, domain, exists)):
            yield Doubt(place, text)
        if _sees_nothing(entry):
            yield Doubt(
                place, f"{entry} has rights without lookup: the mailbox stays hidden", note=True
            )


def unknown(name: str, domain: str, exists: Callable[[str], bool]) -> str:
    """What is wrong with a user's name that nobody has, with the spelling that somebody has.

    "" if it is somebody's.  domain: of the user whose mailbox it is, or "".
    """
    return "" if exists(name) else f"no user database knows {name}{_hint(name, domain, exists)}"


def _hint(name: str, domain: str, exists: Callable[[str], bool]) -> str:
    local, at, _ = name.partition("@")
    for other in (local,) if at else (f"{name}@{domain}",) if domain else ():
        if exists(other):
            return f"; {other} exists: write that"
    return ""


def _sees_nothing(entry: Entry) -> bool:
    rights = entry.rights
    return bool(rights) and rights is not None and not rights.covers(LOOKUP) and (
        set(rights.letters) - {"p"} != set()
    )  # fmt: skip
