"""APPEND: messages of any size, streamed to the disk while they come (RFC 3501 6.3.11, 3502).

The mailbox, the right and the flags are checked before the client is asked for the octets, so a
refusal costs nobody a transfer.  Of several messages in one command all are added, or none.
"""

import enum
from dataclasses import dataclass
from typing import Final

from imap.commands.host import Handle
from imap.commands.naming import decode
from imap.commands.replies import Reply, bad, no, ok, refusal, try_create
from imap.commands.session import Session, allowed_flags
from imap.commands.store import flag_set
from imap.wire import Command, Cursor, LiteralData, LiteralWanted, ProtocolError
from imap.wire.misc import parse_append_head, parse_append_next
from imap.wire.sequence import format_set
from sharefs import message
from sharefs import rights as r
from sharefs.errors import SharingError
from sharefs.flags import FlagSet
from sharefs.rights import Rights
from sharefs.store.interface import Saver


class Answer(enum.Enum):
    """What to do with an announced literal."""

    ACCEPT = "accept"  # an ordinary argument
    STREAM = "stream"  # a message


@dataclass(slots=True)
class Appending:
    """One APPEND under way.  rights: the viewer's on the target when the command began.

    binary: what came so far of a message that is sent as literal8; None: it is no such message.
    last: the end of a message, to be written together with what follows it.
    """

    target: Handle
    saver: Saver
    rights: Rights
    binary: bytearray | None = None
    last: bytes | bytearray | None = None

    def finish(self) -> None:
        """Write the end of the last message, if it is not yet written."""
        last, self.last = self.last, None
        if last is None:
            return
        # RFC 3516 section 4.4 lets a server choose another encoding that loses nothing.
        self.saver.write(last if isinstance(last, bytes) else message.encoded(bytes(last)))
        self.saver.finish()

    def commit(self) -> list[int]:
        self.finish()
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
    if session.appending is None:
        session.appending = await _open(session, mailbox, start)
    else:
        await session.appending.target.run(start.begin, session.appending)
    session.appending.binary = bytearray() if wanted.binary else None
    return Answer.STREAM


@dataclass(frozen=True, slots=True)
class _Start:
    """How a message begins.  internaldate: seconds since 1970."""

    flags: FlagSet
    internaldate: int | None

    def begin(self, appending: Appending) -> None:
        appending.finish()
        allowed = allowed_flags(appending.rights).apply(self.flags)
        appending.saver.begin(allowed, self.internaldate)


async def _open(session: Session, octets: bytes, first: _Start) -> Appending:
    """The target, and its first message begun.  All in one go: it is one change of threads."""
    name = decode(octets)
    target = await session.host.open_target(session.account, name, r.INSERT)

    def start() -> Appending:
        rights = session.account.rights(name).rights
        appending = Appending(target, target.mailbox.saver(), rights)
        try:
            first.begin(appending)
        except BaseException:
            appending.saver.abort()
            raise
        return appending

    try:
        return await target.run(start)
    except BaseException:
        target.release()
        raise


async def data(session: Session, event: LiteralData) -> Reply | None:
    """Write octets of the message.  A Reply: give up, skip the rest, answer with it."""
    appending = session.appending
    assert appending is not None, "literal data without an APPEND"
    octets: bytes | bytearray = event.octets
    if appending.binary is not None:
        appending.binary += octets
        octets = appending.binary
    if event.last:
        # Not in a thread of its own: changing to one costs more than writing a small message.
        appending.last, appending.binary = octets, None
        return None
    if appending.binary is not None:
        return None
    try:
        await appending.target.run(appending.saver.write, event.octets)
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
        await abandon(session)
        if isinstance(error, SharingError):
            return refusal(error)
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
            await appending.target.run(appending.saver.abort)
        finally:
            appending.target.release()
