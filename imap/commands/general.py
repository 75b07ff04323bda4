"""CAPABILITY, NOOP, LOGOUT, ID, ENABLE: legal at any time after login."""

from typing import Final

from imap.commands.replies import Reply, ok
from imap.commands.session import Session, State
from imap.wire import Command, Cursor
from imap.wire.misc import parse_enable, parse_id
from sharefs import __version__

# RFC 2971; the version is public anyway, the host is nobody's business.
SERVER_ID: Final = b'("name" "sharefs" "version" "%b")' % __version__.encode()

# RFC 5161: extensions that change what the server sends once they are enabled.
ENABLABLE: Final = frozenset({"CONDSTORE", "QRESYNC"})

_NOOP_DONE: Final = ok("NOOP completed.")


async def capability(session: Session, command: Command) -> Reply:
    Cursor(command).end()
    session.untagged(b"CAPABILITY ", session.capability)
    return ok("Capability completed.")


async def noop(session: Session, command: Command) -> Reply:
    Cursor(command).end()
    return _NOOP_DONE


async def logout(session: Session, command: Command) -> Reply:
    Cursor(command).end()
    session.unselect()
    session.untagged(b"BYE Logging out")
    session.state = State.LOGOUT
    return ok("Logout completed.")


async def id_(session: Session, command: Command) -> Reply:
    session.client_id = parse_id(command)
    session.untagged(b"ID ", SERVER_ID)
    return ok("ID completed.")


async def enable(session: Session, command: Command) -> Reply:
    """RFC 5161: unknown names are ignored; the answer lists what this command enabled."""
    asked = dict.fromkeys(parse_enable(command))
    offered = ENABLABLE if session.account.settings.sharefs_index else frozenset[str]()
    new = [name for name in asked if name in offered - session.enabled]
    session.untagged(b"ENABLED", *(b" " + name.encode() for name in new))
    if new:
        # RFC 7162 section 3.2.3: QRESYNC stands for both.
        await session.enable_condstore()
        session.enabled.update(new)
    return ok("Enabled.")
