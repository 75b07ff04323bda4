"""Octets from a client in, commands out.  No I/O: feed() octets, drain next_event().

RFC 3501 section 2.2.1 (commands), section 4.3 (literals), RFC 7888 (LITERAL+), RFC 3516
section 7 (literal8).
"""

import enum
import re
from dataclasses import dataclass
from typing import Final

from imap.wire.errors import ProtocolError
from imap.wire.events import (
    NEED_DATA,
    Command,
    Event,
    LiteralData,
    LiteralWanted,
    NeedDataType,
)

# A "~" that does not begin a word is the last octet of one.
_ANNOUNCEMENT: Final = re.compile(rb"(?P<binary>(?<= )~)?\{(?P<size>[0-9]+)(?P<plus>\+?)\}\Z")
# RFC 3501: number64 came later; 19 digits hold any size a file system can, and no more.
_SIZE_DIGITS: Final = 19
_ANNOUNCEMENT_ROOM: Final = _SIZE_DIGITS + len("{+}\r\n")
# tag = 1*<any ASTRING-CHAR except "+">
_TAG: Final = re.compile(rb"[!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
_NAME: Final = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+")
# A command in one line, as nearly all are: what goes wrong in others, _end_of_line() finds out.
_SIMPLE: Final = re.compile(
    rb"([!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+) "
    rb"((?:[Uu][Ii][Dd] )?[A-Za-z]+)(?: ([^\0\r\n{]*))?\r?\n"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest sizes in octets.

    line: one line without its literals (imap_max_line_length).  literal: one literal that is
    an ordinary argument.  command: a whole command with such literals.  append: one streamed
    literal; such octets are never held, so the limit guards the disk, not memory.
    """

    line: int = 64 * 1024
    literal: int = 64 * 1024
    command: int = 256 * 1024
    append: int = 0xFFFF_FFFF  # RFC 3501 "number": 32 bits, what RFC822.SIZE can tell


class _State(enum.Enum):
    LINE = "line"  # a line, or the rest of one after a literal
    DECISION = "decision"  # LiteralWanted is out
    ACCEPTED = "accepted"  # octets of a literal that belong to the command
    STREAMED = "streamed"  # octets of a literal that go out as LiteralData
    SKIPPED = "skipped"  # octets of a literal of a dropped command
    SKIPPED_LINE = "skipped-line"  # the rest of a dropped command's line


class CommandReader:
    """feed() octets in any sizes, then drain next_event() until it returns NEED_DATA.

    Only ProtocolError is raised; unless it is fatal, the next event belongs to the next
    command.  A line may end in LF alone, as Dovecot allows.  NUL is refused in lines.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._unread = bytearray()
        self._scanned = 0  # octets of _unread known to hold no LF
        self._command = bytearray()  # arguments so far
        self._tag: str | None = None
        self._name = ""
        self._first_line = True
        self._owed = 0  # octets of the current literal still to come
        self._wanted: LiteralWanted | None = None
        self._state = _State.LINE

    def feed(self, octets: bytes | bytearray | memoryview) -> None:
        self._unread += octets

    def take_unread(self) -> bytes:
        """Remove and return what was fed but not yet read.

        For handing a connection over after login, and for STARTTLS, where anything that came
        before the handshake must be thrown away (RFC 3501 section 6.2.1, command injection).
        """
        octets = bytes(self._unread)
        self._unread.clear()
        self._scanned = 0
        return octets

    @property
    def is_at_rest(self) -> bool:
        """Whether it stands between two commands, with nothing of the next."""
        return self._state is _State.LINE and self._first_line and not self._unread

    def next_event(self) -> Event:
        """Raises ProtocolError and nothing else, but for a decision on a literal not made."""
        while True:
            match self._state:
                case _State.LINE:
                    if self._first_line and not self._scanned:
                        if not self._unread:
                            return NEED_DATA
                        if (command := self._take_simple()) is not None:
                            return command
                    line = self._take_line()
                    if line is None:
                        return NEED_DATA
                    event = self._end_of_line(line)
                    if event is not None:
                        return event
                case _State.DECISION:
                    raise RuntimeError("decide on the literal first: accept, stream or refuse")
                case _State.ACCEPTED:
                    if not self._collect():
                        return NEED_DATA
                case _State.STREAMED:
                    return self._stream_on()
                case _State.SKIPPED | _State.SKIPPED_LINE:
                    if not self._skip_on():
                        return NEED_DATA

    def next_line(self) -> bytes | NeedDataType:
        """One raw line without its end: SASL responses, DONE.  Only between commands.

        A line over the limit is fatal: there is no tag to answer to.
        """
        end = self._find_line_end()
        if end < 0:
            if len(self._unread) > self.limits.line:
                raise ProtocolError("Line too long", fatal=True)
            return NEED_DATA
        return self._cut_line(end)

    # -- decisions on a literal ------------------------------------------------------------

    def accept(self) -> None:
        """Take the literal as an argument of the command.

        The caller sends "+" if it is synchronising.  Raises ProtocolError when it is too big;
        then it has been refused already.
        """
        wanted = self._decide()
        announcement = b"{%d}\r\n" % wanted.size
        room = self.limits.command - len(self._command) - len(announcement)
        if wanted.size > min(self.limits.literal, room):
            self._refuse(wanted, "Literal too big", code="TOOBIG")
        self._command += announcement
        self._owed = wanted.size
        self._state = _State.ACCEPTED

    def stream(self) -> None:
        """Let the literal come as LiteralData events.  Raises as accept() does."""
        wanted = self._decide()
        if wanted.size > self.limits.append:
            self._refuse(wanted, "Message too big", code="TOOBIG")
        self._command.clear()
        self._owed = wanted.size
        self._state = _State.STREAMED

    def refuse(self) -> None:
        """Drop the command.  The caller answers with its tag.

        A client that did not wait has sent the octets: they are skipped, and the rest of the
        command too.  Raises ProtocolError (fatal) if that would be more than a message may be.
        """
        self._drop(self._decide())

    def abandon(self) -> None:
        """Give up a literal that is being streamed (the disk is full, the flags are bad).

        The rest of its octets and of the command are skipped; the caller answers.
        """
        if self._state is _State.STREAMED:
            self._state = _State.SKIPPED
        elif self._state is _State.DECISION:
            self.refuse()
        elif self._state is _State.LINE and not self._first_line:
            self._reset()  # its last octet was out already: only the command's line is left
            self._state = _State.SKIPPED_LINE

    def _decide(self) -> LiteralWanted:
        if self._wanted is None:
            raise RuntimeError("no literal is waiting")
        wanted, self._wanted = self._wanted, None
        return wanted

    def _refuse(self, wanted: LiteralWanted, text: str, *, code: str) -> None:
        tag = self._tag
        self._drop(wanted)
        raise ProtocolError(text, tag=tag, condition="NO", code=code)

    def _drop(self, wanted: LiteralWanted | None) -> None:
        """Forget the command; skip what the client has sent of it without being asked."""
        tag = self._tag
        self._reset()
        if wanted is None or wanted.synchronising:
            return
        if wanted.size > self.limits.append:
            raise ProtocolError("Literal too big", tag=tag, fatal=True, code="TOOBIG")
        self._owed = wanted.size
        self._state = _State.SKIPPED

    def _reset(self) -> None:
        self._command.clear()
        self._tag = None
        self._name = ""
        self._first_line = True
        self._owed = 0
        self._wanted = None
        self._state = _State.LINE

    # -- lines -----------------------------------------------------------------------------

    def _find_line_end(self) -> int:
        end = self._unread.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(self._unread)
        return end

    def _cut_line(self, end: int) -> bytes:
        """Remove the line that ends with the LF at offset end; return it without CR LF."""
        text_end = end - 1 if end and self._unread[end - 1] == 0x0D else end
        line = bytes(self._unread[:text_end])
        del self._unread[: end + 1]
        self._scanned = 0
        return line

    def _take_line(self) -> bytes | None:
        end = self._find_line_end()
        room = min(self.limits.line, self.limits.command - len(self._command))
        if end < 0 and len(self._unread) <= room + 1:
            return None
        if end < 0 or end > room + 1:
            tag = self._tag or _tag_of_cut_line(bytes(self._unread[:room]))
            self._reset()
            self._state = _State.SKIPPED_LINE
            raise ProtocolError("Command line too long", tag=tag)
        return self._cut_line(end)

    def _take_simple(self) -> Command | None:
        """The next command, if nothing about it is out of the ordinary and all of it is here."""
        found = _SIMPLE.match(self._unread)
        if found is None or found.end() > min(self.limits.line, self.limits.command):
            return None
        tag, word, arguments = found.groups(b"")
        name = word.decode("ascii").upper()
        if name == "UID":  # half a name
            return None
        del self._unread[: found.end()]
        return Command(tag.decode("ascii"), name, arguments)

    def _end_of_line(self, line: bytes) -> Event | None:
        announced = _ANNOUNCEMENT.search(line)
        if announced is not None and len(announced["size"]) > _SIZE_DIGITS:
            raise ProtocolError("Literal size invalid", tag=self._tag, fatal=True)
        size = int(announced["size"]) if announced else 0
        synchronising = announced is None or not announced["plus"]
        try:
            self._read_line(line)
        except ProtocolError:
            if announced is None:
                self._reset()
            else:
                self._drop(LiteralWanted(size, synchronising, Command("", "")))
            raise
        if announced is None:
            command = Command(self._tag or "", self._name, bytes(self._command))
            self._reset()
            return command
        del self._command[len(self._command) - len(announced[0]) :]
        so_far = Command(self._tag or "", self._name, bytes(self._command))
        self._wanted = LiteralWanted(size, synchronising, so_far, bool(announced["binary"]))
        self._state = _State.DECISION
        return self._wanted

    def _read_line(self, line: bytes) -> None:
        if self._first_line:
            tag = self._tag = _tag_of(line)
            if b"\0" in line:
                raise ProtocolError("NUL in command", tag=tag)
            if tag is None:
                raise ProtocolError("Invalid tag" if line else "Empty command")
            self._name, line = _split_name(tag, line[len(tag) :])
            self._first_line = False
        elif b"\0" in line:
            raise ProtocolError("NUL in command", tag=self._tag)
        self._command += line

    # -- literals --------------------------------------------------------------------------

    def _collect(self) -> bool:
        taken = min(self._owed, len(self._unread))
        self._command += self._unread[:taken]
        del self._unread[:taken]
        self._scanned = 0
        self._owed -= taken
        if self._owed:
            return False
        self._state = _State.LINE
        return True

    def _stream_on(self) -> LiteralData | NeedDataType:
        if self._owed and not self._unread:
            return NEED_DATA
        octets = bytes(self._unread[: self._owed])
        del self._unread[: self._owed]
        self._scanned = 0
        self._owed -= len(octets)
        if not self._owed:
            self._state = _State.LINE
        return LiteralData(octets, last=not self._owed)

    def _skip_on(self) -> bool:
        """Skip a dropped command's octets.  Returns False when more must come first."""
        if self._state is _State.SKIPPED:
            skipped = min(self._owed, len(self._unread))
            del self._unread[:skipped]
            self._scanned = 0
            self._owed -= skipped
            if self._owed:
                return False
            self._state = _State.SKIPPED_LINE
        end = self._find_line_end()
        if end < 0:
            # An announcement may end this line: keep just enough to see it.
            del self._unread[:-_ANNOUNCEMENT_ROOM]
            self._scanned = len(self._unread)
            return False
        announced = _ANNOUNCEMENT.search(self._cut_line(end))
        self._reset()
        if announced is not None and announced["plus"]:
            if len(announced["size"]) > _SIZE_DIGITS:
                raise ProtocolError("Literal size invalid", fatal=True)
            self._drop(LiteralWanted(int(announced["size"]), False, Command("", "")))
        return True


def _tag_of(line: bytes) -> str | None:
    """The tag a line starts with, or None."""
    found = _TAG.match(line)
    if found is None or line[found.end() : found.end() + 1] not in (b"", b" "):
        return None
    return found[0].decode("ascii")


def _tag_of_cut_line(start: bytes) -> str | None:
    """The same for a line of which only the start is there: the tag must have ended."""
    return _tag_of(start) if b" " in start else None


def _split_name(tag: str, rest: bytes) -> tuple[str, bytes]:
    """Split " name arguments" into the upper-case name (two words for UID) and the arguments."""
    name, arguments = _word(tag, rest)
    if name == "UID":
        second, arguments = _word(tag, b" " + arguments)
        name = f"UID {second}"
    return name, arguments


def _word(tag: str, rest: bytes) -> tuple[str, bytes]:
    rest = rest.lstrip(b" ")
    found = _NAME.match(rest)
    if found is None or rest[found.end() : found.end() + 1] not in (b"", b" "):
        raise ProtocolError("Missing or invalid command name", tag=tag)
    return found[0].decode("ascii").upper(), rest[found.end() + 1 :]
