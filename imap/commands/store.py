"""STORE: flags of messages, within what the rights w, s and t allow (RFC 4314 section 4)."""

import logging
from collections.abc import Iterable
from typing import Final

from imap.commands.messages import named_uids
from imap.commands.replies import LOST, Reply, no, ok
from imap.commands.session import Session, allowed_flags
from imap.wire import Command
from imap.wire.fetch import StoreMode, parse_store
from sharefs import rights as r
from sharefs.flags import NAMES, NO_FLAGS, FlagChange, FlagFilter, FlagOp, FlagSet, System

log = logging.getLogger("imap.store")

# Messages changed in one go: long enough to be efficient, short enough that others get a turn.
BATCH: Final = 1000


_SYSTEM = {name: flag for flag, name in NAMES.items()}
_OPS: Final = {
    StoreMode.REPLACE: FlagOp.REPLACE,
    StoreMode.ADD: FlagOp.ADD,
    StoreMode.REMOVE: FlagOp.REMOVE,
}


def flag_set(names: Iterable[str]) -> FlagSet:
    """Flags as a client names them.  \\Recent cannot be stored and is passed over."""
    system, keywords = System.NONE, set()
    for name in names:
        if name in _SYSTEM:
            system |= _SYSTEM[name]
        elif not name.startswith("\\"):
            keywords.add(name)
    return FlagSet(system, frozenset(keywords))


async def store(session: Session, command: Command) -> Reply:
    return await _store(session, command, by_uid=False)


async def uid_store(session: Session, command: Command) -> Reply:
    return await _store(session, command, by_uid=True)


async def _store(session: Session, command: Command, *, by_uid: bool) -> Reply:
    selected = session.current()
    request = parse_store(command)
    session.demand(r.READ)  # it may have been taken away; the answer tells flags
    uids = named_uids(session, request.messages, by_uid=by_uid)
    flags, op = flag_set(request.flags), _OPS[request.mode]
    allowed = allowed_flags(session.rights()) & selected.handle.mailbox.changeable()
    refused = _refused(session, flags, allowed)
    if refused is not None:
        return refused
    change = FlagChange(op, flags, allowed)
    mailbox = selected.handle.mailbox
    await session.tell_updates(may_expunge=False)
    if session.selected is None:
        return LOST
    named = [uid for uid in uids if not selected.view.is_held(uid)]
    for at in range(0, len(named), BATCH):
        batch = named[at : at + BATCH]
        if await selected.handle.run(mailbox.store_flags, batch, change):
            selected.handle.announce()
        await session.tell_updates(may_expunge=False, silent=batch)
        if session.selected is None:
            return LOST
        if request.silent:
            continue
        session.queue_flags(
            (uid for uid in batch if not selected.view.is_held(uid)), with_uid=by_uid
        )
        await session.drain()
    if len(named) < len(uids) and not by_uid:
        return no("Some of the messages no longer exist.", b"EXPUNGEISSUED")
    return ok("Store completed.")


def _refused(session: Session, flags: FlagSet, allowed: FlagFilter) -> Reply | None:
    """What to answer when nothing can be stored; None when something can.

    Dovecot drops flags without a right silently, and clients rely on it (RFC 4314 section 4
    advises it when at least one flag is allowed).  The drop is logged, so that it can be found.
    """
    selected = session.current()
    dropped_system = flags.system & ~allowed.mask
    dropped = dropped_system or (flags.keywords and not allowed.keywords)
    nothing_left = dropped and allowed.apply(flags) == NO_FLAGS
    if dropped:
        missing = _missing(dropped_system, bool(flags.keywords) and not allowed.keywords)
        log.info("Flags of %r not stored: no right %s, or read-only", selected.name, missing)
    strict = session.account.settings.sharefs_strict_rights
    if strict and nothing_left:
        return no("Permission denied", b"NOPERM")
    if selected.examined:
        return (
            no("Mailbox is read-only", b"NOPERM")
            if strict
            else ok("Store ignored with read-only mailbox.")
        )
    return None


def _missing(system: System, keywords: bool) -> str:
    letters = set()
    if system & System.SEEN:
        letters.add("s")
    if system & System.DELETED:
        letters.add("t")
    if keywords or system & ~(System.SEEN | System.DELETED):
        letters.add("w")
    return "".join(sorted(letters))
