"""APPEND: a message of any size, streamed to the disk while it comes (RFC 3501 6.3.11, 3502).

The mailbox, the right and the flags are checked before the client is asked for the octets, so a
refusal costs nobody a transfer.
"""

import enum
from dataclasses import dataclass

from imap.commands.host import Handle
from imap.commands.naming import decode
from imap.commands.replies import Reply, bad, ok, refusal, try_create
from imap.commands.session import Session, allowed_flags
from imap.commands.store import flag_set
from imap.wire import Command, Cursor, LiteralData, LiteralWanted
from imap.wire.misc import parse_append_head
from imap.wire.sequence import format_set
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
    """One APPEND under way."""

    target: Handle
    saver: Saver
    rights: Rights


async def begin(session: Session, wanted: LiteralWanted) -> Answer | Reply:
    """Prepare for the literal that wanted announces.  A Reply: refuse it, with this answer.

    Raises ProtocolError where no literal can stand, with nothing left behind.
    """
    if session.appending is not None:
        await abandon(session)
        return bad("APPEND takes one message.")
    head = parse_append_head(wanted.so_far)
    if head is None:
        return Answer.ACCEPT
    when = int(head.internaldate.timestamp()) if head.internaldate else None
    try:
        session.appending = await _open(session, head.mailbox, flag_set(head.flags), when)
    except SharingError as error:
        return try_create(error)
    return Answer.STREAM


async def _open(session: Session, octets: bytes, flags: FlagSet, when: int | None) -> Appending:
    name = decode(octets)
    target = await session.host.open_target(session.account, name, r.INSERT)

    def start() -> Appending:
        rights = session.account.rights(name).rights
        saver = target.mailbox.saver()
        try:
            saver.begin(allowed_flags(rights).apply(flags), when)
        except BaseException:
            saver.abort()
            raise
        return Appending(target, saver, rights)

    try:
        return await target.run(start)
    except BaseException:
        target.release()
        raise


async def data(session: Session, event: LiteralData) -> Reply | None:
    """Write octets of the message.  A Reply: give up, skip the rest, answer with it."""
    appending = session.appending
    assert appending is not None, "literal data without an APPEND"
    saver = appending.saver

    def take() -> None:
        saver.write(event.octets)
        if event.last:
            saver.finish()

    try:
        await appending.target.run(take)
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
        uids = await appending.target.run(appending.saver.commit)
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
