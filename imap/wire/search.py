"""SEARCH arguments to a typed tree: RFC 3501 section 6.4.4, 5032, 8514, 8474, CHARSET."""

import codecs
import re
from dataclasses import dataclass
from typing import Final

from imap.wire.cursor import Cursor
from imap.wire.errors import ProtocolError
from imap.wire.events import Command
from imap.wire.search_keys import (
    All,
    And,
    BodyContains,
    DateIs,
    DateOf,
    EmailIdIs,
    HasFlag,
    HasKeyword,
    HeaderContains,
    LargerThan,
    ModseqIs,
    Not,
    OlderThan,
    Or,
    SearchKey,
    SequenceIs,
    SmallerThan,
    TextContains,
    UidIs,
    When,
    YoungerThan,
)

# RFC 3501 sets none.  Deep enough for any program that combines filters, shallow enough for
# whoever walks the tree by recursion.
DEPTH_LIMIT: Final = 100

# For BADCHARSET: those that every client knows.  Any text codec of Python's works.
CHARSETS: Final = ("UTF-8", "US-ASCII")

# Codecs of Python's that are no charsets of mail; some take quadratic time.
_NOT_CHARSETS: Final = frozenset(
    {"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "mbcs", "oem"}
)


# objectid = 1*255(ALPHA / DIGIT / "_" / "-"), RFC 8474 section 7
_OBJECTID: Final = re.compile(rb"[A-Za-z0-9_-]{1,255}(?![A-Za-z0-9_-])")

_SYSTEM: Final = ("Answered", "Deleted", "Draft", "Flagged", "Seen")
_FIXED: Final[dict[str, SearchKey]] = {
    "ALL": All(),
    "SAVEDATESUPPORTED": All(),  # RFC 8514 section 4.3: by every mailbox
    "NEW": And((HasFlag("\\Recent"), Not(HasFlag("\\Seen")))),
    "OLD": Not(HasFlag("\\Recent")),
    "RECENT": HasFlag("\\Recent"),
    **{flag.upper(): HasFlag("\\" + flag) for flag in _SYSTEM},
    **{"UN" + flag.upper(): Not(HasFlag("\\" + flag)) for flag in _SYSTEM},
}
_HEADERS: Final = frozenset({"BCC", "CC", "FROM", "SUBJECT", "TO"})
_DATES: Final = {
    prefix + when.name: (of, when)
    for prefix, of in (("", DateOf.INTERNAL), ("SENT", DateOf.SENT), ("SAVED", DateOf.SAVED))
    for when in When
}


def parse_search(command: Command | Cursor) -> SearchKey:
    """Read the arguments of SEARCH or UID SEARCH, after any RETURN, to their end.

    Text is decoded by CHARSET; without one it is UTF-8, which clients send and US-ASCII is part
    of.  An unknown charset is a ProtocolError answered NO [BADCHARSET].
    """
    cursor = command if isinstance(command, Cursor) else Cursor(command)
    charset = "utf-8"
    if cursor.skip(b"CHARSET "):
        cursor.skip_spaces()
        charset = parse_charset(cursor)
        cursor.space()
    return parse_keys(cursor, charset)


def parse_keys(cursor: Cursor, charset: str) -> SearchKey:
    """Read search keys to the end of the command.  charset: of their texts, as Python calls it."""
    parser = _Parser(cursor, charset)
    keys = cursor.items(lambda: parser.key(0))
    cursor.end()
    return keys[0] if len(keys) == 1 else And(tuple(keys))


def parse_charset(cursor: Cursor) -> str:
    """A charset, as Python calls it.  Raises ProtocolError: NO [BADCHARSET] if it is unknown."""
    name = cursor.astring().decode("latin-1")
    codec = _codec(name)
    if codec is not None:
        return codec
    try:
        cursor.fail("Unknown charset")
    except ProtocolError as error:
        known = " ".join(CHARSETS)
        raise ProtocolError(
            error.text, tag=error.tag, condition="NO", code=f"BADCHARSET ({known})"
        ) from None


def _codec(charset: str) -> str | None:
    """Python's name of a charset, None if it has none."""
    try:
        name = codecs.lookup(charset).name
        b"x".decode(name)
    except UnicodeError:
        pass  # a charset in which this is half a character
    except (LookupError, ValueError):  # unknown, or a codec that makes no text
        return None
    return None if name in _NOT_CHARSETS else name


@dataclass(frozen=True, slots=True)
class _Parser:
    cursor: Cursor
    charset: str

    def key(self, depth: int) -> SearchKey:
        cursor = self.cursor
        if depth > DEPTH_LIMIT:
            cursor.fail("Search is nested too deeply")
        head = cursor.peek()
        if head == b"(":
            keys = cursor.parenthesised(lambda: self.key(depth + 1), empty=False)
            return keys[0] if len(keys) == 1 else And(tuple(keys))
        if head.isdigit() or head in (b"*", b"$"):
            return SequenceIs(cursor.message_set())
        name = cursor.keyword("a search key")
        fixed = _FIXED.get(name)
        if fixed is not None:
            return fixed
        if name in _DATES:
            cursor.space()
            return DateIs(*_DATES[name], cursor.date())
        if name in _HEADERS:
            return HeaderContains(name, self.text())
        return self.with_argument(name, depth)

    def with_argument(self, name: str, depth: int) -> SearchKey:
        cursor = self.cursor
        match name:
            case "BODY":
                return BodyContains(self.text())
            case "TEXT":
                return TextContains(self.text())
            case "HEADER":
                cursor.space()
                field = cursor.astring().decode("latin-1")
                return HeaderContains(field, self.text())
            case "KEYWORD" | "UNKEYWORD":
                cursor.space()
                keyword = HasKeyword(cursor.atom())
                return keyword if name == "KEYWORD" else Not(keyword)
            case "LARGER" | "SMALLER":
                cursor.space()
                octets = cursor.number()
                return LargerThan(octets) if name == "LARGER" else SmallerThan(octets)
            case "OLDER" | "YOUNGER":
                cursor.space()
                seconds = cursor.nz_number()
                return OlderThan(seconds) if name == "OLDER" else YoungerThan(seconds)
            case "MODSEQ":
                return ModseqIs(self.modseq())
            case "EMAILID" | "THREADID":
                cursor.space()
                objectid = cursor.token(_OBJECTID, "an object id").decode("ascii")
                # No message is in a thread, which FETCH says as well.
                return EmailIdIs(objectid) if name == "EMAILID" else Not(All())
            case "UID":
                cursor.space()
                return UidIs(cursor.message_set())
            case "NOT":
                cursor.space()
                return Not(self.key(depth + 1))
            case "OR":
                cursor.space()
                left = self.key(depth + 1)
                cursor.space()
                return Or(left, self.key(depth + 1))
        cursor.fail("Unknown search key")

    def modseq(self) -> int:
        """[SP entry-name SP entry-type-req] SP mod-sequence-valzer.

        One number is kept for each message, so the numbers of all its flags are that one.
        """
        cursor = self.cursor
        cursor.space()
        if cursor.peek() == b'"':
            if not cursor.string().startswith(b"/flags/"):
                cursor.fail('Invalid argument: expected "/flags/..."')
            cursor.space()
            if cursor.keyword("priv, shared or all") not in ("PRIV", "SHARED", "ALL"):
                cursor.fail("Invalid argument: expected priv, shared or all")
            cursor.space()
        return cursor.modseq()

    def text(self) -> str:
        self.cursor.space()
        octets = self.cursor.astring()
        try:
            return octets.decode(self.charset)
        except ValueError:
            self.cursor.fail("Search text is not valid in its charset")
