"""STORE: flags of messages, within what the rights w, s and t allow (RFC 4314 section 4), and if
the client wants that only while nobody else changes them (RFC 7162 section 3.1.3)."""

import logging
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

from imap.commands.messages import named_uids
from imap.commands.numbered import demand_numbered, demand_numbers, numbers_if_any
from imap.commands.replies import LOST, Reply, no, ok
from imap.commands.session import Session, allowed_flags
from imap.wire import Command
from imap.wire import format as wire
from imap.wire.fetch import StoreMode, parse_store
from sharefs import rights as r
from sharefs.flags import NAMES, NO_FLAGS, FlagChange, FlagFilter, FlagOp, FlagSet, System

log = logging.getLogger("imap.store")

# Messages changed in one go: long enough to be efficient, short enough that others get a turn.
BATCH: Final = 1000
FEW: Final = 10


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
    conditional = request.unchanged_since is not None
    if conditional:
        demand_numbered(selected.numbered)
        await session.enable_condstore()
        if selected.examined:
            return no("Mailbox is read-only", b"NOPERM")
    flags, op = flag_set(request.flags), _OPS[request.mode]
    allowed = allowed_flags(session.rights()) & selected.handle.mailbox.changeable()
    refused = _refused(session, flags, allowed)
    if refused is not None:
        return refused
    change = FlagChange(op, flags, allowed)
    view = selected.view
    await session.tell_updates(may_expunge=False)
    if session.selected is None:
        return LOST
    named = [uid for uid in uids if not view.is_held(uid)] if view.holds_back else uids
    modified: list[int] = []
    for at in range(0, len(named), BATCH):
        batch = named[at : at + BATCH]
        done = await _carry_out(session, batch, change, request.unchanged_since)
        if done.changed:
            selected.handle.announce()
        modified += done.modified
        told = set(batch).difference(done.modified)
        await session.tell_updates(may_expunge=False, silent=done.quiet if request.silent else told)
        if session.selected is None:
            return LOST
        if done.modseqs or not request.silent:
            left = [uid for uid in batch if uid in told and not view.is_held(uid)]
            if not request.silent:
                session.queue_flags(left, with_uid=by_uid, modseqs=done.modseqs)
            else:
                quiet = done.quiet if conditional else done.quiet & done.changed
                quiet_left = [uid for uid in left if uid in quiet]
                session.queue_modseqs(quiet_left, with_uid=by_uid, modseqs=done.modseqs)
        await session.drain()
    gone = len(named) < len(uids) and not by_uid
    if modified:
        # RFC 7162 section 3.1.3: NO if some of them are gone besides.
        numbers = modified if by_uid else view.seqs_of(modified)
        code = b"MODIFIED " + wire.sequence_set(numbers)
        text = "Conditional store failed for some messages."
        return no(text, code) if gone else ok(text, code)
    if gone:
        return no("Some of the messages no longer exist.", b"EXPUNGEISSUED")
    return ok("Store completed.")


@dataclass(frozen=True, slots=True)
class _Done:
    """What became of a STORE to some messages.

    changed: their flags differ now.  modified: left alone, because others changed them since the
    client looked.  quiet: their flags are what the client makes of its own command, so that it
    need not be told.  modseqs: numbers, where the client wants them.
    """

    changed: Set[int]
    modified: Sequence[int]
    quiet: Set[int]
    modseqs: Mapping[int, int]


async def _carry_out(
    session: Session, batch: Sequence[int], change: FlagChange, since: int | None
) -> _Done:
    selected = session.current()
    handle, view, mailbox = selected.handle, selected.view, selected.handle.mailbox
    if not (session.condstore and selected.numbered):
        # Renaming a few files is quick; a new keyword takes a lock.
        few = len(batch) <= FEW and not change.flags.keywords
        run = handle.run_short if few else handle.run
        changed = await run(mailbox.store_flags, batch, change)
        return _Done(frozenset(changed), (), set(batch), {})

    def flags_of(uid: int) -> FlagSet | None:
        try:
            return mailbox.flags_of(uid)
        except KeyError:
            return None

    def act() -> _Done:
        allowed, modified = batch, list[int]()
        if since is not None:
            if not mailbox.looks_unchanged():
                mailbox.sync()
            numbers = demand_numbers(handle, selected.numbered).of(batch)
            modified = [uid for uid in batch if numbers.get(uid, 0) > since]
            allowed = [uid for uid in batch if numbers.get(uid, since + 1) <= since]
        before = {uid: flags_of(uid) for uid in allowed}
        # What others did since the client was last told goes to it with its own changes.
        unheard = frozenset(view.changes(mailbox).flags)
        changed = frozenset(mailbox.store_flags(allowed, change, unless_changed=since is not None))
        quiet = set[int]()
        for uid in allowed:
            was, now = before[uid], flags_of(uid)
            if was is None or now is None:
                continue
            if since is not None and uid not in changed and now != was:
                modified.append(uid)  # others were faster, by less than our look took
            elif uid not in unheard and now == change.apply(was):
                quiet.add(uid)
        return _Done(changed, sorted(modified), quiet, numbers_if_any(handle, batch))

    return await handle.run(act)


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
