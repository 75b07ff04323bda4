"""IDLE: RFC 2177.  News without asking, until the client says DONE."""

import time

from imap.commands.host import Waiter
from imap.commands.replies import Reply, bad, ok
from imap.commands.session import Session, State
from imap.wire import Command, Cursor


async def idle(session: Session, command: Command) -> Reply:
    Cursor(command).end()
    if session.idle_tag != command.tag:  # else it was begun before the session was put away
        session.idle_tag = command.tag
        session.out += b"+ idling\r\n"
    handle = session.selected.handle if session.selected else None
    try:
        async with session.host.idling(handle) as waiter:
            line = await _news_until_line(session, waiter)
    finally:
        session.idle_tag = ""
    if line is not None and line.upper() != b"DONE":
        return bad("Expected DONE.")
    return ok("Idle completed.")


async def _news_until_line(session: Session, waiter: Waiter) -> bytes | None:
    """The client's line; None when its mailbox went away and the session ends."""
    interval = session.account.settings.imap_idle_notify_interval
    last_sent = time.monotonic()
    while session.state is not State.LOGOUT:
        await session.tell_updates(may_expunge=True)
        if modseq := session.modseq_to_tell():
            session.untagged(b"OK [HIGHESTMODSEQ %d] Highest" % modseq)
        if session.out:
            await session.flush()
            last_sent = time.monotonic()
        wait = max(0.0, last_sent + interval - time.monotonic())
        settles = session.selected.handle.mailbox.settles_in() if session.selected else None
        line = await waiter.line_or_change(wait if settles is None else min(wait, settles))
        session.begin_anew()
        if line is not None:
            return line
        if time.monotonic() - last_sent >= interval:
            # Keeps address translators from forgetting a connection that says nothing.
            session.untagged(b"OK Still here")
    return None
