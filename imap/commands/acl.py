"""GETACL, SETACL, DELETEACL, LISTRIGHTS, MYRIGHTS: RFC 4314 on the wire.

What each may do, and to whom, is decided in sharefs.account; here it is only translated.
"""

import logging

from imap.commands.naming import encode, mailbox_name
from imap.commands.replies import Reply, bad, ok
from imap.commands.session import Session
from imap.wire import Command, Cursor
from imap.wire import format as wire
from sharefs.account import AclChange
from sharefs.acl import Mode
from sharefs.errors import Code, SharingError
from sharefs.identifiers import Identifier, Kind, Signed
from sharefs.rights import Rights

log = logging.getLogger("imap.acl")

# RFC 4314 section 3.7: every right can be granted by itself, none is always granted; c and d
# are told for old clients.
LISTRIGHTS = b'"" l r w s t p i e k x a c d'

_WIDEST = frozenset({Kind.ANYONE, Kind.AUTHENTICATED})
_MODES = {"+": Mode.ADD, "-": Mode.REMOVE}


async def getacl(session: Session, command: Command) -> Reply:
    cursor = Cursor(command)
    name = mailbox_name(cursor)
    cursor.end()
    acl = await session.host.blocking(session.account.acl, name)
    words = [word for entry in acl.entries for pair in entry.wire() for word in pair]
    session.untagged(b"ACL ", encode(name), *(b" " + wire.astring(w.encode()) for w in words))
    return ok("Getacl completed.")


async def setacl(session: Session, command: Command) -> Reply:
    cursor = Cursor(command)
    name = mailbox_name(cursor)
    cursor.space()
    signed = _identifier(cursor.astring())
    cursor.space()
    text = cursor.astring().decode("ascii", "replace")
    cursor.end()
    mode = _MODES.get(text[:1], Mode.REPLACE)
    try:
        rights = Rights.parse(text if mode is Mode.REPLACE else text[1:])
    except SharingError as error:
        return bad(f"Invalid ACL rights: {error.detail}")
    try:
        changed = await session.host.blocking(
            lambda: session.account.set_acl(
                name, signed.identifier, mode, rights, negative=signed.negative
            )
        )
    except SharingError as error:
        if error.code is not Code.INVALID or signed.identifier.kind not in _WIDEST:
            raise
        # Dovecot's answer unless imap_acl_allow_anyone: here it is no identifier at all.
        log.info("SETACL of %r refused: %s", name, error.detail)
        return bad(f"The identifier {signed.identifier.wire()} is not allowed here.")
    _log_warnings(changed)
    return ok("Setacl complete.")


async def deleteacl(session: Session, command: Command) -> Reply:
    cursor = Cursor(command)
    name = mailbox_name(cursor)
    cursor.space()
    signed = _identifier(cursor.astring())
    cursor.end()
    changed = await session.host.blocking(
        lambda: session.account.delete_acl(name, signed.identifier, negative=signed.negative)
    )
    _log_warnings(changed)
    return ok("Deleteacl complete.")


def _log_warnings(changed: AclChange) -> None:
    """The change stands even if what is derived from it could not be brought in line."""
    for warning in changed.warnings:
        log.warning("%s", warning)


def _identifier(octets: bytes) -> Signed:
    return Identifier.parse_wire(octets.decode("utf-8", "surrogateescape"))


async def listrights(session: Session, command: Command) -> Reply:
    cursor = Cursor(command)
    name = mailbox_name(cursor)
    cursor.space()
    identifier = cursor.astring()
    cursor.end()
    _identifier(identifier)
    await session.host.blocking(session.account.acl, name)  # demands the right a
    session.untagged(
        b"LISTRIGHTS ", encode(name), b" ", wire.astring(identifier), b" " + LISTRIGHTS
    )
    return ok("Listrights completed.")


async def myrights(session: Session, command: Command) -> Reply:
    cursor = Cursor(command)
    name = mailbox_name(cursor)
    cursor.end()
    effective = await session.host.blocking(session.account.rights, name)
    session.untagged(
        b"MYRIGHTS ", encode(name), b" ", wire.astring(effective.rights.wire().encode())
    )
    return ok("Myrights completed.")
