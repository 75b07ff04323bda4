"""CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE, NAMESPACE: the tree of mailboxes."""

import logging

from imap.commands.naming import decode, encode, mailbox_name
from imap.commands.objectids import mailbox_id
from imap.commands.replies import Reply, ok
from imap.commands.session import Session
from imap.wire import Command, Cursor
from imap.wire import format as wire
from imap.wire.misc import parse_create
from sharefs.account import NamespaceView
from sharefs.errors import SharingError

log = logging.getLogger("imap.mailboxes")


async def create(session: Session, command: Command) -> Reply:
    """RFC 3501 6.3.3; a trailing separator announces children and changes nothing here."""
    request = parse_create(command)
    name = decode(request.mailbox)
    separator = session.account.separator_of(name)
    if name.endswith(separator):
        name = name[: -len(separator)]
    await session.host.blocking(session.account.create, name, request.special_use)
    return ok("Create completed.", await session.host.blocking(_id_code, session, name))


def _id_code(session: Session, name: str) -> bytes:
    """RFC 8474 section 4.1; empty for a mere level, and for what its maker may not see."""
    try:
        return b"MAILBOXID " + mailbox_id(session.account.guid(name))
    except (SharingError, OSError) as error:
        log.info("No MAILBOXID of the new %r: %s", name, error)
        return b""


async def delete(session: Session, command: Command) -> Reply:
    cursor = Cursor(command)
    name = mailbox_name(cursor)
    cursor.end()
    same = await session.host.blocking(_is_selected, session, name)
    await session.host.blocking(session.account.delete, name)
    if same:
        # RFC 2180 section 3.4 lets a client delete what it has selected, and it is left with
        # nothing selected.  A refusal leaves everything as it was.
        session.unselect()
    return ok("Delete completed.")


def _is_selected(session: Session, name: str) -> bool:
    """Whether name means the selected mailbox, be it by another name (an alias namespace)."""
    if session.selected is None:
        return False
    key_of = session.account.mailbox_key
    try:
        return key_of(name) == key_of(session.selected.name)
    except SharingError:
        return False


async def rename(session: Session, command: Command) -> Reply:
    cursor = Cursor(command)
    old = mailbox_name(cursor)
    cursor.space()
    new = mailbox_name(cursor)
    cursor.end()
    await session.host.blocking(session.account.rename, old, new)
    selected = session.selected
    if selected is not None and old.upper() != "INBOX":
        below = old + session.account.separator_of(old)
        if selected.name == old or selected.name.startswith(below):
            # Under its old name it is gone: better nothing selected than a connection that ends.
            session.unselect()
    return ok("Rename completed.")


async def subscribe(session: Session, command: Command) -> Reply:
    cursor = Cursor(command)
    name = mailbox_name(cursor)
    cursor.end()
    await session.host.blocking(session.account.subscribe, name)
    return ok("Subscribe completed.")


async def unsubscribe(session: Session, command: Command) -> Reply:
    cursor = Cursor(command)
    name = mailbox_name(cursor)
    cursor.end()
    await session.host.blocking(session.account.unsubscribe, name)
    return ok("Unsubscribe completed.")


async def namespace(session: Session, command: Command) -> Reply:
    """RFC 2342: personal, other users', shared; hidden namespaces are not told."""
    Cursor(command).end()
    spaces = await session.host.blocking(session.account.namespaces)
    shown = [space for space in spaces if not space.hidden]
    parts = [
        _namespace_list([space for space in shown if space.type == kind])
        for kind in ("private", "shared", "public")
    ]
    session.untagged(b"NAMESPACE ", b" ".join(parts))
    return ok("Namespace completed.")


def _namespace_list(spaces: list[NamespaceView]) -> bytes:
    if not spaces:
        return b"NIL"
    return (
        b"("
        + b"".join(
            b"(" + encode(space.prefix) + b" " + wire.quoted(space.separator.encode()) + b")"
            for space in spaces
        )
        + b")"
    )
