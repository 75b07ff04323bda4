"""Whom an ACL entry is about: identifiers in files, on the wire and on a command line.  Pure.

| kind | ACL file | wire |
|---|---|---|
| ANYONE | `anyone` (reads `anonymous` too) | `anyone` |
| AUTHENTICATED | `authenticated` | `authenticated` |
| GROUP | `group=NAME` | `$NAME` |
| OWNER | `owner` | `owner` |
| USER | `user=NAME` | `NAME` |
| GROUP_OVERRIDE | `group-override=NAME` | `!$NAME`; reads `$!NAME` too, the documented form |

A leading `-` belongs to the entry, not to the identifier: it says that the rights are negative.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, NamedTuple

from sharefs.errors import Code, SharingError

MAX_BYTES: Final = 1024  # of a name in UTF-8; Dovecot's limit for identifiers


class Kind(enum.IntEnum):
    """The order is the precedence, weakest first, and the order of lines in an ACL file."""

    ANYONE = 0
    AUTHENTICATED = 1
    GROUP = 2
    OWNER = 3
    USER = 4
    GROUP_OVERRIDE = 5


_PLAIN: Final = {
    "anyone": Kind.ANYONE,
    "anonymous": Kind.ANYONE,
    "authenticated": Kind.AUTHENTICATED,
    "owner": Kind.OWNER,
}
_PLAIN_WORD: Final = {
    Kind.ANYONE: "anyone",
    Kind.AUTHENTICATED: "authenticated",
    Kind.OWNER: "owner",
}
_FILE_PREFIX: Final = {
    Kind.USER: "user=",
    Kind.GROUP: "group=",
    Kind.GROUP_OVERRIDE: "group-override=",
}
# First match wins.  The forms with a colon are for names that the short forms would misread,
# such as a group called "!ops" or a user called "anyone".
_WIRE_PREFIX: Final = (
    ("!$", Kind.GROUP_OVERRIDE),
    ("$!", Kind.GROUP_OVERRIDE),
    ("$", Kind.GROUP),
    ("group:", Kind.GROUP),
    ("user:", Kind.USER),
)


@dataclass(frozen=True, slots=True, order=True)
class Identifier:
    """Whom an entry is about.  name is "" for the kinds that have none.

    Ordered by kind, then by name; for valid UTF-8 that is Dovecot's byte order.
    """

    kind: Kind
    name: str = ""

    @classmethod
    def parse_file(cls, text: str) -> Signed:
        """Read an identifier as it stands in an ACL file, without quotes.

        A TAB is part of the name, as in Dovecot: such an entry matches nobody.  Raises
        SharingError(INVALID) for an unknown word and for names that no server may hold.
        """
        negative = text.startswith("-")
        word = text[negative:]
        if word in _PLAIN:
            return Signed(cls(_PLAIN[word]), negative)
        for kind, prefix in _FILE_PREFIX.items():
            if word.startswith(prefix):
                name = word[len(prefix) :]
                _check(name, text, allowed="\t")
                return Signed(cls(kind, name), negative)
        raise SharingError(
            Code.INVALID,
            f"unknown identifier {text!r}: write user=NAME, group=NAME, group-override=NAME,"
            " owner, authenticated or anyone",
        )

    @classmethod
    def parse_wire(cls, text: str) -> Signed:
        """Read an identifier as an IMAP client sends it.  Raises SharingError(INVALID).

        A leading # marks global entries on output and is refused here, as in Dovecot.
        """
        negative = text.startswith("-")
        word = text[negative:]
        if word.startswith("#"):
            raise SharingError(Code.INVALID, f"identifier {text!r}: global entries are read-only")
        if word in _PLAIN_WORD.values():
            return Signed(cls(_PLAIN[word]), negative)
        kind, name = Kind.USER, word
        for prefix, other in _WIRE_PREFIX:
            if word.startswith(prefix):
                kind, name = other, word[len(prefix) :]
                break
        _check_new(name, text)
        return Signed(cls(kind, name), negative)

    @classmethod
    def parse_cli(cls, text: str) -> Signed:
        """Read an identifier as doveadm takes it (the file's form), or `$group`, `!$group`.

        A bare word is refused rather than taken for a user: `onwer` would grant nobody anything.
        Raises SharingError(INVALID).
        """
        if text.removeprefix("-").startswith(("$", "!$")):
            return cls.parse_wire(text)
        signed = cls.parse_file(text)
        if signed.identifier.kind in _FILE_PREFIX:
            _check_new(signed.identifier.name, text)
        return signed

    def file(self, *, negative: bool = False) -> str:
        """The ACL file's form, not quoted."""
        text = _PLAIN_WORD.get(self.kind) or _FILE_PREFIX[self.kind] + self.name
        return "-" + text if negative else text

    def wire(self, *, negative: bool = False) -> str:
        """The form for IMAP clients.  parse_wire reads it back, unless no client may set it."""
        match self.kind:
            case Kind.USER:
                short, long = self.name, "user:" + self.name
            case Kind.GROUP:
                short, long = "$" + self.name, "group:" + self.name
            case Kind.GROUP_OVERRIDE:
                short = long = "!$" + self.name
            case _:
                short = long = _PLAIN_WORD[self.kind]
        if not _reads_back(short, self) and _reads_back(long, self):
            short = long
        return "-" + short if negative else short

    def __str__(self) -> str:
        return self.file()


ANYONE: Final = Identifier(Kind.ANYONE)
AUTHENTICATED: Final = Identifier(Kind.AUTHENTICATED)
OWNER: Final = Identifier(Kind.OWNER)


class Signed(NamedTuple):
    """An identifier, and whether the text in front of it said that the rights are negative."""

    identifier: Identifier
    negative: bool


def user(name: str) -> Identifier:
    return Identifier(Kind.USER, name)


def group(name: str) -> Identifier:
    return Identifier(Kind.GROUP, name)


def _reads_back(text: str, identifier: Identifier) -> bool:
    try:
        return Identifier.parse_wire(text) == Signed(identifier, False)
    except SharingError:
        return False


def _check(name: str, text: str, *, allowed: str = "") -> None:
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise SharingError(Code.INVALID, f"identifier {text!r} is not valid UTF-8") from error
    if size > MAX_BYTES:
        raise SharingError(
            Code.INVALID,
            f"identifier of {size} bytes, {text[:40]!r}...: at most {MAX_BYTES} are allowed",
        )
    if control := next((c for c in name if _is_control(c) and c not in allowed), None):
        raise SharingError(Code.INVALID, f"control character {control!r} in identifier {text!r}")


def _check_new(name: str, text: str) -> None:
    if not name:
        raise SharingError(Code.INVALID, f"identifier {text!r} has no name")
    _check(name, text)


def _is_control(char: str) -> bool:
    return ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0
