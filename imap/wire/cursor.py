"""Typed reading of a command's arguments, named as in the grammar of RFC 3501 section 9.

Every method reads at the cursor, moves it, and raises ProtocolError if something else is there.
Tolerant where Dovecot is: repeated spaces between arguments, spaces at the end, 8-bit octets in
quoted strings, "%", "*", "]" and "\\" in unquoted astrings (LOGIN bob*admin secret).
"""

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from typing import Final, NoReturn, TypeVar

from imap.wire.errors import ProtocolError
from imap.wire.events import Command
from imap.wire.sequence import LARGEST, SAVED, SequenceSet

T = TypeVar("T")

_SPACE: Final = re.compile(rb" +")
_ATOM: Final = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+")
_ASTRING_ATOM: Final = re.compile(rb"[!#-'*-z|}~]+")  # all but controls, space, "(", ")", "{", '"'
_QUOTED: Final = re.compile(rb'"([^"\\\0\r\n]*(?:\\[^\0\r\n][^"\\\0\r\n]*)*)"')
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_LITERAL: Final = re.compile(rb"\{([0-9]{1,19})\+?\}\r?\n")
_NUMBER: Final = re.compile(rb"[0-9]+")
_FLAG: Final = re.compile(rb"\\?[!#$&'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
_SET: Final = re.compile(rb"[0-9:*,]+")
_DATE: Final = re.compile(rb'"?([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})"?')
_DATE_TIME: Final = re.compile(
    rb'"([ 0-9][0-9])-([A-Za-z]{3})-([0-9]{4}) '
    rb'([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})"'
)
_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        b"JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split(), start=1
    )
}
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/]*={0,2}")

LARGEST_MODSEQ: Final = 2**63 - 1

SYSTEM_FLAGS: Final = {
    name.upper(): name
    for name in ("\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft", "\\Recent")
}


class Cursor:
    """A place in the arguments of one command."""

    __slots__ = ("_at", "_octets", "_tag")

    def __init__(self, command: Command) -> None:
        self._octets = command.arguments
        self._tag = command.tag
        self._at = 0

    @classmethod
    def over(cls, octets: bytes) -> "Cursor":
        """A cursor over bare arguments.  Errors then carry an empty tag."""
        return cls(Command("", "", octets))

    # -- errors, ends, separators ----------------------------------------------------------

    def fail(self, text: str) -> NoReturn:
        """Raise ProtocolError with this command's tag.  text must not quote the client."""
        raise ProtocolError(text, tag=self._tag or None)

    def expected(self, what: str) -> NoReturn:
        if self.at_end():
            self.fail(f"Missing argument: {what}")
        self.fail(f"Invalid argument: expected {what}")

    def at_end(self) -> bool:
        """Whether nothing but spaces is left."""
        return len(self._octets) == self._at or not self._octets[self._at :].strip(b" ")

    def end(self) -> None:
        """Demand that nothing is left."""
        if not self.at_end():
            self.fail("Unexpected extra arguments")

    def space(self) -> None:
        found = _SPACE.match(self._octets, self._at)
        if found is None:
            self.expected("a space")
        self._at = found.end()

    def peek(self) -> bytes:
        """The next octet, empty at the end."""
        return self._octets[self._at : self._at + 1]

    def rest(self) -> bytes:
        """All octets from here to the end."""
        return self._octets[self._at :]

    def skip(self, token: bytes) -> bool:
        """Move over token if it stands here.  Case matters not."""
        stop = self._at + len(token)
        if self._octets[self._at : stop].upper() != token:
            return False
        self._at = stop
        return True

    def mark(self) -> int:
        """This place, for since()."""
        return self._at

    def go_back(self, mark: int) -> None:
        self._at = mark

    def since(self, mark: int) -> bytes:
        """The octets passed since mark()."""
        return self._octets[mark : self._at]

    def skip_spaces(self) -> bool:
        """Move over any spaces.  Returns whether there were some."""
        found = _SPACE.match(self._octets, self._at)
        if found is not None:
            self._at = found.end()
        return found is not None

    def _expect(self, token: bytes) -> None:
        if not self.skip(token):
            self.expected(f'"{token.decode("ascii")}"')

    def token(self, pattern: re.Pattern[bytes], what: str) -> bytes:
        """What pattern matches here.  what: how the error calls it."""
        return self._match(pattern, what)[0]

    def _match(self, pattern: re.Pattern[bytes], what: str) -> re.Match[bytes]:
        found = pattern.match(self._octets, self._at)
        if found is None:
            self.expected(what)
        self._at = found.end()
        return found

    def parenthesised(self, item: Callable[[], T], *, empty: bool = True) -> list[T]:
        """ "(" item *(SP item) ")".  empty: whether "()" is legal here."""
        self._expect(b"(")
        self.skip_spaces()
        items: list[T] = []
        while not self.skip(b")"):
            if items and self._octets[self._at - 1 : self._at] != b" ":
                self.expected("a space or a closing parenthesis")
            items.append(item())
            self.skip_spaces()
        if not items and not empty:
            self.fail("Invalid argument: empty list")
        return items

    def items(self, item: Callable[[], T]) -> list[T]:
        """item *(SP item) to the end of the command; at least one."""
        found = [item()]
        while not self.at_end():
            self.space()
            found.append(item())
        return found

    # -- strings ---------------------------------------------------------------------------

    def atom(self) -> str:
        return self._match(_ATOM, "an atom")[0].decode("ascii")

    def keyword(self, what: str = "a word") -> str:
        """An atom that is a word of the protocol: upper case."""
        return self._match(_ATOM, what)[0].decode("ascii").upper()

    def string(self) -> bytes:
        """A quoted string or literal."""
        match self.peek():
            case b'"':
                return self._quoted()
            case b"{":
                return self._literal()
        self.expected("a string")

    def astring(self) -> bytes:
        if self.peek() in (b'"', b"{"):
            return self.string()
        return self._match(_ASTRING_ATOM, "a string")[0]

    def nstring(self) -> bytes | None:
        """A string, or None for NIL."""
        return None if self.nil() else self.string()

    def nil(self) -> bool:
        """Move over NIL if it stands here as a word of its own."""
        found = _ASTRING_ATOM.match(self._octets, self._at)
        if found is None or found[0].upper() != b"NIL":
            return False
        self._at = found.end()
        return True

    def _quoted(self) -> bytes:
        text = self._match(_QUOTED, "a closed quoted string")[1]
        return _ESCAPED.sub(rb"\1", text) if b"\\" in text else text

    def _literal(self) -> bytes:
        size = int(self._match(_LITERAL, "a literal")[1])
        octets = self._octets[self._at : self._at + size]
        if len(octets) < size:
            self.fail("Literal is incomplete")
        if b"\0" in octets:
            self.fail("NUL in literal")
        self._at += size
        return octets

    def mailbox(self) -> bytes:
        """A mailbox name as sent (modified UTF-7); INBOX in any case is b"INBOX"."""
        name = self.astring()
        return b"INBOX" if name.upper() == b"INBOX" else name

    def list_mailbox(self) -> bytes:
        """A pattern of LIST: may hold "%" and "*", and be empty if quoted."""
        return self.astring()

    def sasl_initial(self) -> bytes | None:
        """[SP initial-response] of AUTHENTICATE (RFC 4959), still in base64.

        None: there is none.  "=" is an empty response: b"".
        """
        if self.at_end():
            return None
        self.space()
        if self.skip(b"="):
            return b""
        return self._match(_BASE64, "base64")[0]

    # -- numbers and sets ------------------------------------------------------------------

    def number(self) -> int:
        """0 to 2**32-1."""
        digits = self._match(_NUMBER, "a number")[0]
        number = int(digits) if len(digits) <= 20 else LARGEST + 1
        if number > LARGEST:
            self.fail("Number too large")
        return number

    def nz_number(self) -> int:
        number = self.number()
        if not number:
            self.fail("Invalid argument: zero")
        return number

    def modseq(self) -> int:
        """mod-sequence-valzer of RFC 7162 section 7: 0 to 2**63-1."""
        digits = self._match(_NUMBER, "a modification sequence")[0]
        number = int(digits) if len(digits) <= 20 else LARGEST_MODSEQ + 1
        if number > LARGEST_MODSEQ:
            self.fail("Modification sequence too large")
        return number

    def sequence_set(self) -> SequenceSet:
        octets = self._match(_SET, "a message set")[0]
        try:
            return SequenceSet.parse(octets)
        except ValueError:
            self.fail("Invalid message set")

    def message_set(self) -> SequenceSet:
        """A set in a command on messages, where "$" stands for a search result (RFC 5182)."""
        return SAVED if self.skip(b"$") else self.sequence_set()

    # -- flags -----------------------------------------------------------------------------

    def flag(self) -> str:
        """A flag or keyword.  System flags come in the spelling of RFC 3501 section 2.3.2.

        An unknown name with a backslash is refused: nobody could store it.
        """
        text = self._match(_FLAG, "a flag")[0].decode("ascii")
        if not text.startswith("\\"):
            return text
        system = SYSTEM_FLAGS.get(text.upper())
        if system is None:
            self.fail("Unknown system flag")
        return system

    def flag_list(self) -> tuple[str, ...]:
        """ "(" [flag *(SP flag)] ")", in the order sent."""
        return tuple(self.parenthesised(self.flag))

    # -- dates -----------------------------------------------------------------------------

    def date(self) -> date:
        """date-text, quoted or not: 1-Feb-1994.  Raises for the 30th of February."""
        found = self._match(_DATE, "a date")
        if found[0].startswith(b'"') != found[0].endswith(b'"'):
            self.expected("a date")
        try:
            return date(int(found[3]), self._month(found[2]), int(found[1]))
        except ValueError:
            self.fail("Invalid date")

    def date_time(self) -> datetime:
        """date-time: "17-Jul-1996 02:44:25 -0700", with its zone."""
        found = self._match(_DATE_TIME, "a date and time")
        ahead = timedelta(hours=int(found[8]), minutes=int(found[9]))
        try:
            zone = timezone(-ahead if found[7] == b"-" else ahead)
            return datetime(
                int(found[3]),
                self._month(found[2]),
                int(found[1]),
                int(found[4]),
                int(found[5]),
                min(int(found[6]), 59),  # a leap second is legal and datetime has none
                tzinfo=zone,
            )
        except ValueError:
            self.fail("Invalid date and time")

    def _month(self, name: bytes) -> int:
        month = _MONTHS.get(name.upper())
        if month is None:
            self.fail("Invalid month")
        return month
