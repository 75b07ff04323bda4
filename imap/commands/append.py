"""APPEND: messages of any size, streamed to the disk while they come (RFC 3501 6.3.11, 3502).

The mailbox, the right and the flags are checked before the client is asked for the octets, so a
refusal costs nobody a transfer.  Of several messages in one command all are added, or none.
"""

import enum
import time
from dataclasses import dataclass, field
from typing import Final

from imap.commands.host import Handle
from imap.commands.naming import decode
from imap.commands.replies import Reply, bad, no, ok, refusal, try_create
from imap.commands.session import LOOK_LASTS, Session, allowed_flags
from imap.commands.store import flag_set
from imap.wire import Command, Cursor, LiteralData, LiteralWanted, ProtocolError
from imap.wire.misc import parse_append_head, parse_append_next
from imap.wire.sequence import format_set
from sharefs import message
from sharefs import rights as r
from sharefs.account import Account
from sharefs.errors import SharingError
from sharefs.flags import FlagSet
from sharefs.rights import Rights
from sharefs.store.interface import Saver


class Answer(enum.Enum):
    """What to do with an announced literal."""

    ACCEPT = "accept"  # an ordinary argument
    STREAM = "stream"  # a message


@dataclass(frozen=True, slots=True)
class _Start:
    """How a message begins.  internaldate: seconds since 1970."""

    flags: FlagSet
    internaldate: int | None


@dataclass(frozen=True, slots=True)
class _Whole:
    """A message, or the end of one, that is not yet written.

    start: None: it was begun before.  binary: it was sent as literal8.
    """

    start: _Start | None
    octets: bytes
    binary: bool


# A message that a client sends without waiting is held until it is whole, if it is no longer than
# this, and until there are more of them: to write one takes no longer than to change to a thread.
HELD: Final = 64 << 10  # octets


@dataclass(slots=True)
class Appending:
    """One APPEND under way.  Its functions are for the target's run().

    opened: time.monotonic() when the target was.
    saver, rights: from the first message that is begun.  rights: the viewer's on the target then.
    start: of the message that is coming; None: it was begun before it came.  binary: it is sent as
    literal8.  held: what came of it so far, if it is written when it is whole.
    waiting: what is whole and not yet written.  room: octets that may wait besides.
    """

    account: Account
    name: str
    target: Handle
    opened: float = field(default_factory=time.monotonic)
    saver: Saver | None = None
    rights: Rights = r.NONE
    start: _Start | None = None
    binary: bool = False
    held: bytearray | None = None
    waiting: list[_Whole] = field(default_factory=list)
    room: int = HELD

    def begin(self, start: _Start) -> None:
        """Begin a message, when what came before it is written."""
        self.write_whole()
        self._begin(start)

    def _begin(self, start: _Start) -> None:
        if self.saver is None:
            at_once = self.target.at_once if time.monotonic() - self.opened < LOOK_LASTS else None
            self.rights = at_once or self.account.rights(self.name).rights
            self.saver = self.target.mailbox.saver()
        allowed = allowed_flags(self.rights).apply(start.flags)
        self.saver.begin(allowed, start.internaldate)

    def write(self, octets: bytes) -> None:
        assert self.saver is not None, "a message that was not begun"
        self.saver.write(octets)

    def write_whole(self) -> None:
        waiting, self.waiting, self.room = self.waiting, [], HELD
        for whole in waiting:
            if whole.start is not None:
                self._begin(whole.start)
            # RFC 3516 section 4.4 lets a server choose another encoding that loses nothing.
            self.write(message.encoded(whole.octets) if whole.binary else whole.octets)
            assert self.saver is not None
            self.saver.finish()

    def commit(self) -> list[int]:
        self.write_whole()
        assert self.saver is not None, "an APPEND without a message"
        return self.saver.commit()


# A literal8 is held in memory until all of it can be put into an encoding that a file of lines
# can keep; other messages never are.
BINARY_LIMIT: Final = 64 << 20  # octets

# RFC 3502 section 6.3.11: an empty message is an error, and a client's way to cancel.
_CANCELLED = no("A message of no octets: nothing was appended.", b"CANNOT")


async def begin(session: Session, wanted: LiteralWanted) -> Answer | Reply:
    """Prepare for the literal that wanted announces.  A Reply: refuse it, with this answer.

    Raises ProtocolError where no literal can stand, with nothing left behind.
    """
    try:
        return await _begin(session, wanted)
    except SharingError as error:
        await abandon(session)
        return try_create(error)
    except ProtocolError:
        await abandon(session)
        raise


async def _begin(session: Session, wanted: LiteralWanted) -> Answer | Reply:
    if session.appending is None:
        head = parse_append_head(wanted.so_far)
        if head is None:
            return Answer.ACCEPT if not wanted.binary else bad("A mailbox name is no literal8.")
        names, internaldate = head.flags, head.internaldate
        mailbox = head.mailbox
    else:
        mailbox = b""
        names, internaldate = parse_append_next(wanted.so_far)
    if not wanted.size:
        await abandon(session)
        return _CANCELLED
    if wanted.binary and wanted.size > BINARY_LIMIT:
        await abandon(session)
        return no("A literal8 may not be that long; send it as an ordinary literal.", b"TOOBIG")
    start = _Start(flag_set(names), int(internaldate.timestamp()) if internaldate else None)
    appending = session.appending
    if appending is None:
        name = decode(mailbox)
        target = await session.host.open_target(session.account, name, r.INSERT)
        appending = session.appending = Appending(session.account, name, target)
    waits = wanted.synchronising or wanted.size > HELD
    appending.start = None if waits else start
    appending.binary = wanted.binary
    appending.held = bytearray() if wanted.binary or not waits else None
    if waits:
        await appending.target.run(appending.begin, start)
    return Answer.STREAM


async def data(session: Session, event: LiteralData) -> Reply | None:
    """Write octets of the message.  A Reply: give up, skip the rest, answer with it."""
    appending = session.appending
    assert appending is not None, "literal data without an APPEND"
    octets = event.octets
    if appending.held is not None:
        appending.held += octets
        if not event.last:
            return None
        octets, appending.held = bytes(appending.held), None
    try:
        if event.last:
            # Mostly not in a thread of its own: see HELD.
            appending.waiting.append(_Whole(appending.start, octets, appending.binary))
            appending.room -= len(octets)
            if appending.room < 0:
                await appending.target.run(appending.write_whole)
        else:
            await appending.target.run(appending.write, octets)
    except SharingError as error:
        await abandon(session)
        return refusal(error)
    return None


async def append(session: Session, command: Command) -> Reply:
    """The end of the command: commit, or refuse what never was an APPEND."""
    appending = session.appending
    if appending is None:
        return bad("APPEND needs a message as a literal.")
    try:
        Cursor(command).end()
        uids = await appending.target.run(appending.commit)
    except BaseException as error:
        begun = appending.saver is not None
        await abandon(session)
        if isinstance(error, SharingError):
            return refusal(error) if begun else try_create(error)
        raise
    session.appending = None
    uidvalidity = appending.target.mailbox.uidvalidity
    appending.target.announce()
    appending.target.release()
    if not appending.rights.covers(r.READ):
        return ok("Append completed.")
    return ok("Append completed.", b"APPENDUID %d %b" % (uidvalidity, format_set(uids)))


async def abandon(session: Session) -> None:
    """Forget an APPEND under way and remove what it wrote.  Harmless where there is none."""
    appending, session.appending = session.appending, None
    if appending is not None:
        try:
            if appending.saver is not None:
                await appending.target.run(appending.saver.abort)
        finally:
            appending.target.release()
