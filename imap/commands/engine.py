"""Runs one command: legality, the handler, refusals to response codes, news, the tagged line."""

import errno
import logging
from dataclasses import replace
from typing import Final

from imap.commands import append
from imap.commands.replies import LOST, Reply, bad, no, refusal
from imap.commands.session import Session, State
from imap.commands.table import BEFORE_LOGIN, COMMANDS, Spec
from imap.wire import Command, LiteralData, LiteralWanted, ProtocolError
from sharefs.errors import SharingError

log = logging.getLogger("imap.engine")

# A client that sends nothing but nonsense is none: Dovecot hangs up after 20 as well.
MAX_BAD_COMMANDS: Final = 20

# They leave the selected mailbox, whatever became of it.
_LEAVING: Final = frozenset({"EXAMINE", "LOGOUT", "SELECT"})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


async def run(session: Session, command: Command) -> None:
    """Carry out command and queue its whole answer.

    Anything but ProtocolError, SharingError and OSError is a bug of ours and propagates.
    """
    session.begin_anew()
    spec = COMMANDS.get(command.name)
    try:
        reply = await _dispatch(session, command, spec)
    except ProtocolError as error:
        reply = Reply(error.condition.encode(), error.text.encode("ascii", "replace"))
        if error.code:
            reply = Reply(reply.status, reply.text, error.code.encode("ascii"))
    except (SharingError, OSError) as error:
        reply = refused(error, command.name)
    _count_bad(session, reply)
    may_expunge = not (spec and spec.hushed)
    if session.state is not State.LOGOUT and not session.has_no_news(may_expunge=may_expunge):
        try:
            await session.tell_updates(may_expunge=may_expunge)
        except (SharingError, OSError) as error:
            refused(error, "sync")
    if modseq := session.modseq_to_tell():
        code = b"HIGHESTMODSEQ %d" % modseq
        if reply.status == b"OK" and not reply.code:
            reply = replace(reply, code=code)
        else:
            session.untagged(b"OK [", code, b"] Highest")
    session.out += reply.line(command.tag.encode("ascii"))


async def _dispatch(session: Session, command: Command, spec: Spec | None) -> Reply:
    if spec is None or (spec.acl and not session.account.settings.acl_enabled):
        if command.name in BEFORE_LOGIN:
            return bad("You are logged in already.")
        return bad("Unknown command.")
    if session.lost and command.name not in _LEAVING:
        return _part(session)
    session.lost = b""
    if session.state not in spec.states:
        return bad("No mailbox is selected.")
    if session.appending is not None and command.name != "APPEND":
        await append.abandon(session)
    return await spec.handler(session, command)


def _part(session: Session) -> Reply:
    """From a client whose mailbox was lost before its command came."""
    session.part(session.lost)
    return LOST


def refused(error: SharingError | OSError, what: str) -> Reply:
    """The bland answer to a refusal; the detail goes to the log."""
    if isinstance(error, SharingError):
        log.info("%s refused: %s", what, error)
        return refusal(error)
    log.warning("%s failed: %s", what, error)
    if error.errno in _FULL:
        return no("There is no space left for that", b"OVERQUOTA")
    return no("The mailbox cannot be reached; see the server log", b"UNAVAILABLE")


def _count_bad(session: Session, reply: Reply) -> None:
    """Counts BADs in a row: one good command shows that it is a client after all."""
    if reply.status != b"BAD":
        session.bad_commands = 0
        return
    session.bad_commands += 1
    if session.bad_commands >= MAX_BAD_COMMANDS:
        session.untagged(b"BYE Too many invalid commands.")
        session.state = State.LOGOUT


async def literal_wanted(session: Session, wanted: LiteralWanted) -> append.Answer | Reply:
    """Decide on an announced literal.  A Reply: refuse it and answer the command with it."""
    if wanted.so_far.name != "APPEND":
        if wanted.so_far.name not in COMMANDS:
            return bad("Unknown command.")
        if wanted.binary:  # RFC 3516 section 7 has literal8 in APPEND alone
            return bad("A literal8 can only be a message.")
        return append.Answer.ACCEPT
    if session.lost:
        return _part(session)
    try:
        return await append.begin(session, wanted)
    except ProtocolError as error:
        return bad(error.text)
    except OSError as error:
        await append.abandon(session)
        return refused(error, "APPEND")


async def literal_data(session: Session, event: LiteralData) -> Reply | None:
    """Take octets of a streamed literal.  A Reply: abandon the literal and answer with it."""
    try:
        return await append.data(session, event)
    except OSError as error:
        await append.abandon(session)
        return refused(error, "APPEND")


async def abandon(session: Session) -> None:
    """Forget an APPEND under way."""
    await append.abandon(session)


async def close(session: Session) -> None:
    """The connection ended, however it did: leave nothing open and nothing half written."""
    await append.abandon(session)
    session.unselect()
