"""SELECT, EXAMINE, CLOSE, UNSELECT, CHECK, EXPUNGE: entering, leaving and emptying a mailbox."""

import contextlib
import logging
import time
from typing import Final

from imap.commands.host import Handle
from imap.commands.messages import named_uids
from imap.commands.naming import decode
from imap.commands.numbered import Entered, enter, ranges_set
from imap.commands.objectids import mailbox_id
from imap.commands.replies import Reply, bad, no, ok
from imap.commands.session import Selected, Session, State, allowed_flags
from imap.view import View
from imap.wire import Command, Cursor
from imap.wire.recent import Recent
from imap.wire.selecting import SelectRequest, parse_select
from sharefs import rights as r
from sharefs.flags import System
from sharefs.rights import Rights
from sharefs.store.interface import Mailbox

log = logging.getLogger("imap.select")

# RFC 4314 section 5.2: with any of these a mailbox is READ-WRITE.
CHANGING = Rights("iewts")

_COUNTS: Final = b"* %d EXISTS\r\n* %d RECENT\r\n"
_IDENTITY: Final = (
    b"* OK [UIDVALIDITY %d] UIDs valid\r\n"
    b"* OK [UIDNEXT %d] Predicted next UID\r\n"
    b"* OK [MAILBOXID %b] Ok\r\n"
)
_HIGHEST: Final = b"* OK [HIGHESTMODSEQ %d] Highest\r\n"
_NOT_NUMBERED: Final = b"* OK [NOMODSEQ] No permanent modification sequences\r\n"

_recent: Final = Recent[SelectRequest]()

# Messages told before the client has to take them.
BATCH: Final = 1000


async def select(session: Session, command: Command) -> Reply:
    return await _open(session, command, examine=False)


async def examine(session: Session, command: Command) -> Reply:
    return await _open(session, command, examine=True)


async def _open(session: Session, command: Command, *, examine: bool) -> Reply:
    # RFC 3501 section 6.3.1: whatever was selected is left, even if this command fails.
    if session.selected is not None:
        session.unselect()
        session.untagged(b"OK [CLOSED] Previous mailbox closed.")
    request = _recent.get(command.arguments)
    if request is None:
        request = _recent.keep(command.arguments, parse_select(Cursor(command)))
    if request.resync is not None and not session.qresync:
        return bad("QRESYNC is not enabled.")
    if request.condstore:
        session.enabled.add("CONDSTORE")
    name = decode(request.mailbox)
    handle = await session.host.open(session.account, name)
    try:
        rights = handle.at_once or session.account.rights(name).rights
        mailbox = handle.mailbox
        examined = examine or not _can_change(mailbox, rights)
        entered = _at_once(handle) if request.resync is None else None
        if entered is not None:
            session.looked = time.monotonic()
        else:
            entered = await handle.run(enter, handle, not examined, request.resync)
    except BaseException:
        handle.release()
        raise
    view = View(entered.uids, entered.generation, entered.recent)
    selected = Selected(name, handle, view, examined, tuple(mailbox.keywords()))
    selected.numbered = bool(entered.highest)
    selected.highest = selected.told = entered.highest
    session.selected, session.state = selected, State.SELECTED
    session.queue_flags_line(selected)
    session.queue_permanent_flags(selected, rights)
    unseen, highest = _first_unseen(selected), entered.highest
    session.out += b"%b%b%b" % (
        _COUNTS % (len(view), len(view.recent)),
        b"* OK [UNSEEN %d] First unseen.\r\n" % unseen if unseen else b"",
        _IDENTITY % (mailbox.uidvalidity, mailbox.uidnext, mailbox_id(mailbox.guid())),
    )
    session.out += _HIGHEST % highest if selected.numbered else _NOT_NUMBERED
    if vanished := ranges_set(entered.vanished):
        session.untagged(b"VANISHED (EARLIER) ", vanished)
    changed = list(entered.changed)
    for at in range(0, len(changed), BATCH):
        batch = changed[at : at + BATCH]
        session.queue_flags(batch, with_uid=True, modseqs=entered.changed)
        await session.drain()
    selected.shown = 0  # all of it was told, and that it was
    done = "Examine completed." if examine else "Select completed."
    return ok(done, b"READ-ONLY" if examined else b"READ-WRITE")


def _at_once(handle: Handle) -> Entered | None:
    """The mailbox, if nothing has to be looked up."""
    mailbox, highest = handle.mailbox, handle.known_modseq()
    if highest is None or mailbox.has_recent():
        return None
    if handle.at_once is None and not mailbox.looks_unchanged():
        return None
    return Entered(mailbox.late_uids(), mailbox.generation, frozenset(), highest)


def _can_change(mailbox: Mailbox, rights: Rights) -> bool:
    """Whether this viewer can change anything: READ-WRITE, by the rights and by the kernel."""
    if not rights & CHANGING:
        return False
    # A viewer's own \\Seen can change where the mailbox itself is out of his reach.
    return not mailbox.backing().readonly or bool(allowed_flags(rights) & mailbox.changeable())


def _first_unseen(selected: Selected) -> int:
    """Sequence number of the first message without \\Seen, 0 if there is none."""
    mailbox, view = selected.handle.mailbox, selected.view
    first = mailbox.first_unseen()
    with contextlib.suppress(KeyError):
        return view.seq_of(first) if first else 0
    for uid in mailbox.unseen():  # it came while the others were looked at
        with contextlib.suppress(KeyError):
            return view.seq_of(uid)
    return 0


async def check(session: Session, command: Command) -> Reply:
    """RFC 3501 section 6.4.1: everything is on disk already; only news remain to be told."""
    Cursor(command).end()
    return ok("Check completed.")


async def unselect(session: Session, command: Command) -> Reply:
    Cursor(command).end()
    session.unselect()
    return ok("Unselect completed.")


async def close(session: Session, command: Command) -> Reply:
    """Without the right e, CLOSE leaves without expunging: RFC 4314 section 4."""
    Cursor(command).end()
    selected = session.current()
    expunging = not selected.examined
    if expunging and not session.rights().covers(r.EXPUNGE):
        log.info("CLOSE of %r without right e", selected.name)
        session.unselect()
        return ok("Closed without expunging: Permission denied.")
    if expunging and not selected.handle.mailbox.backing().readonly:
        await _expunge(session, None)
    session.unselect()
    return ok("Close completed.")


async def expunge(session: Session, command: Command) -> Reply:
    Cursor(command).end()
    return await _expunge_if_allowed(session, None)


async def uid_expunge(session: Session, command: Command) -> Reply:
    """RFC 4315 section 2.1: only those of the named UIDs that have \\Deleted."""
    cursor = Cursor(command)
    uids = named_uids(session, cursor.message_set(), by_uid=True)
    cursor.end()
    return await _expunge_if_allowed(session, frozenset(uids))


async def _expunge_if_allowed(session: Session, only: frozenset[int] | None) -> Reply:
    selected = session.current()
    if not session.rights().covers(r.EXPUNGE):
        # Dovecot's answer, which clients know; sharefs_strict_rights says NO instead.
        log.info("EXPUNGE of %r without right e", selected.name)
        if session.account.settings.sharefs_strict_rights:
            return no("Permission denied", b"NOPERM")
        return ok("Expunge ignored: Permission denied.")
    if selected.examined or selected.handle.mailbox.backing().readonly:
        return no("Mailbox is read-only", b"NOPERM")
    await _expunge(session, only)
    return ok("Expunge completed.")


async def _expunge(session: Session, only: frozenset[int] | None) -> None:
    selected = session.current()
    await session.refresh()
    mailbox = selected.handle.mailbox
    doomed = [
        uid
        for uid in mailbox.uids()
        if (only is None or uid in only) and mailbox.flags_of(uid).system & System.DELETED
    ]
    if doomed and await selected.handle.run(mailbox.expunge, doomed):
        selected.handle.announce()
