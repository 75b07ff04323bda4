"""COPY and MOVE: RFC 3501 section 6.4.7, RFC 6851, with COPYUID of RFC 4315.

Whether messages are linked or copied is the storage's business, by the permission rules.
"""

from imap.commands.messages import named_uids
from imap.commands.naming import mailbox_name
from imap.commands.replies import Reply, no, ok, try_create
from imap.commands.session import Session, allowed_flags
from imap.wire import Command, Cursor
from imap.wire.sequence import format_copyuid
from sharefs import rights as r
from sharefs.errors import SharingError
from sharefs.store.interface import Copied


async def copy(session: Session, command: Command) -> Reply:
    return await _copy(session, command, by_uid=False, moving=False)


async def uid_copy(session: Session, command: Command) -> Reply:
    return await _copy(session, command, by_uid=True, moving=False)


async def move(session: Session, command: Command) -> Reply:
    return await _copy(session, command, by_uid=False, moving=True)


async def uid_move(session: Session, command: Command) -> Reply:
    return await _copy(session, command, by_uid=True, moving=True)


async def _copy(session: Session, command: Command, *, by_uid: bool, moving: bool) -> Reply:
    selected = session.current()
    word = "Move" if moving else "Copy"
    cursor = Cursor(command)
    uids = named_uids(session, cursor.message_set(), by_uid=by_uid)
    cursor.space()
    name = mailbox_name(cursor)
    cursor.end()
    session.demand(r.READ)
    if moving:
        session.demand(r.EXPUNGE)
        if selected.examined or selected.handle.mailbox.backing().readonly:
            return no("Mailbox is read-only", b"NOPERM")
    try:
        target = await session.host.open_target(session.account, name, r.INSERT)
    except SharingError as error:
        return try_create(error)
    try:
        rights = (await session.host.blocking(session.account.rights, name)).rights
        if any(selected.view.is_held(uid) for uid in uids):
            return no("Some of the messages no longer exist.", b"EXPUNGEISSUED")
        if not uids:
            return ok(f"{word} completed; there was nothing to do.")
        act = target.mailbox.move_from if moving else target.mailbox.copy_from
        copied: list[Copied] = await selected.handle.run_with(
            target, act, selected.handle.mailbox, uids, allowed_flags(rights)
        )
        uidvalidity = target.mailbox.uidvalidity
        target.announce()
        selected.handle.announce()
    finally:
        target.release()
    # RFC 4314 section 4: without r on the target its UIDs are not for the viewer to know.
    told = copied and rights.covers(r.READ)
    code = _copyuid(uidvalidity, copied) if told else b""
    if not moving:
        return ok(f"{word} completed.", code)
    if code:
        # RFC 6851 section 4.3: before the EXPUNGE responses, hence untagged.
        session.untagged(b"OK [", code, b"] Moved UIDs.")
    return ok(f"{word} completed.")


def _copyuid(uidvalidity: int, copied: list[Copied]) -> bytes:
    sources, targets = format_copyuid([(one.source_uid, one.uid) for one in copied])
    return b"COPYUID %d %b %b" % (uidvalidity, sources, targets)
