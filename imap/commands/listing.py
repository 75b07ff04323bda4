"""LIST, LSUB and STATUS: RFC 3501, LIST-EXTENDED, LIST-STATUS, SPECIAL-USE, LIST-MYRIGHTS."""

import contextlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from imap.commands.host import Handle
from imap.commands.naming import decode, decode_pattern, encode
from imap.commands.objectids import mailbox_id
from imap.commands.replies import Reply, ok
from imap.commands.session import CHUNK, Session
from imap.wire import Command
from imap.wire import format as wire
from imap.wire.listing import ListRequest, StatusRequest, parse_list, parse_lsub, parse_status
from imap.wire.recent import Recent
from sharefs.account import Account
from sharefs.errors import SharingError
from sharefs.namespaces.listing import NO_SELECT, SUBSCRIBED, Listed, Selection
from sharefs.store.interface import Mailbox

# The order in which attributes are told; special uses come last.
ATTRIBUTES: Final = (
    "\\NonExistent", "\\NoSelect", "\\HasChildren", "\\HasNoChildren", "\\Subscribed",
)  # fmt: skip


# What is found out even if nobody asked, for it costs next to nothing; and what stays as it is
# while a mailbox's files do.
REMEMBERED: Final = frozenset({"MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN"})
LASTING: Final = REMEMBERED | {"SIZE", "MAILBOXID"}
# Mailboxes of which all that is asked for is looked up in one go; few enough that what is told of
# the last of them is not old by then.
BATCH: Final = 200


async def list_(session: Session, command: Command) -> Reply:
    request = parse_list(command)
    if not request.extended and request.patterns == (b"",):
        _list_root(session, request)
        return ok("List completed.")
    selection = Selection(
        subscribed="SUBSCRIBED" in request.selection,
        special_use="SPECIAL-USE" in request.selection,
        recursive_match="RECURSIVEMATCH" in request.selection,
    )
    # Subscriptions are told only when asked for: RFC 5258 section 3.1.
    subscribed = "SUBSCRIBED" in request.selection | request.returns
    wanted = frozenset(request.status)
    every = await _listed(session, request, selection)
    for at in range(0, len(every), BATCH):
        some = every[at : at + BATCH]
        rights, known = await _details(session, request, some)
        for listed in some:
            name, shown = listed.name, encode(listed.name)
            attributes = _attributes(listed.flags, subscribed=subscribed)
            session.out += _line(b"LIST", listed, attributes, shown)
            if name in rights:
                session.untagged(b"MYRIGHTS ", shown, b" ", rights[name])
            if request.status and NO_SELECT not in listed.flags:
                told = known.get(name)
                if told and told.keys() >= wanted:
                    session.out += _status_line(shown, request.status, told)
                else:
                    await _queue_status_if_allowed(session, name, request.status)
            if len(session.out) >= CHUNK:
                await session.flush()
    return ok("List completed.")


def _list_root(session: Session, request: ListRequest) -> None:
    """RFC 3501 section 6.3.8: an empty pattern asks for the separator and the root of a name."""
    reference = decode_pattern(request.reference) or ""
    separator = session.account.separator_of(reference)
    root = reference[: reference.index(separator) + 1] if separator in reference else ""
    session.untagged(b"LIST (\\NoSelect) ", wire.quoted(separator.encode()), b" ", encode(root))


async def _listed(session: Session, request: ListRequest, selection: Selection) -> Sequence[Listed]:
    reference = decode_pattern(request.reference)
    patterns = [text for text in map(decode_pattern, request.patterns) if text is not None]
    if reference is None or not patterns:
        return ()
    return await session.host.blocking(
        lambda: list(session.account.list(reference, patterns, selection))
    )


@lru_cache(maxsize=256)
def _attributes(flags: frozenset[str], *, subscribed: bool) -> bytes:
    """The parenthesised list.  Cached: a thousand mailboxes have few different ones."""
    known = [name for name in ATTRIBUTES if name in flags]
    if not subscribed and SUBSCRIBED in known:
        known.remove(SUBSCRIBED)
    return wire.flags((*known, *sorted(flags.difference(ATTRIBUTES))))


@lru_cache(maxsize=16)
def _separator(text: str) -> bytes:
    return wire.quoted(text.encode())


def _line(word: bytes, listed: Listed, attributes: bytes, name: bytes) -> bytes:
    extended = b""
    if listed.child_info:
        options = b" ".join(wire.quoted(name.encode()) for name in sorted(listed.child_info))
        extended = b' ("CHILDINFO" (' + options + b"))"
    separator = _separator(listed.separator)
    return b"* %b %b %b %b%b\r\n" % (word, attributes, separator, name, extended)


async def lsub(session: Session, command: Command) -> Reply:
    """Subscribed names.  With "%", a level above one that is not subscribed is \\NoSelect."""
    request = parse_lsub(command)
    with_parents = b"%" in request.patterns[0]
    selection = Selection(subscribed=True, recursive_match=with_parents)
    for listed in await _listed(session, request, selection):
        missing = SUBSCRIBED not in listed.flags or NO_SELECT in listed.flags
        plain = Listed(listed.name, listed.separator, frozenset())
        attributes = b"(\\NoSelect)" if missing else b"()"
        session.out += _line(b"LSUB", plain, attributes, encode(plain.name))
        if len(session.out) >= CHUNK:
            await session.flush()
    return ok("Lsub completed.")


async def _details(
    session: Session, request: ListRequest, some: Sequence[Listed]
) -> tuple[Mapping[str, bytes], Mapping[str, Mapping[str, int]]]:
    """What else was asked for: rights (RFC 8440), and what is remembered of their status.

    For many mailboxes at once, because each change to a thread takes longer than a look.
    """
    names = [one.name for one in some if NO_SELECT not in one.flags]
    rights: Mapping[str, bytes] = {}
    known: Mapping[str, Mapping[str, int]] = {}
    if "MYRIGHTS" in request.returns:
        rights = await session.host.blocking(_rights_of, session.account, names)
    if request.status:
        known = await session.host.recall_each(session.account, names)
    return rights, known


def _rights_of(account: Account, names: Sequence[str]) -> dict[str, bytes]:
    """Without those that were taken away, or deleted, since they were listed."""
    found = {}
    for name in names:
        with contextlib.suppress(SharingError):
            found[name] = wire.astring(account.rights(name).rights.wire().encode())
    return found


_recent: Final = Recent[StatusRequest]()
_STATUS_DONE: Final = ok("Status completed.")


async def status(session: Session, command: Command) -> Reply:
    request = _recent.get(command.arguments)
    if request is None:
        request = _recent.keep(command.arguments, parse_status(command))
    await _queue_status(session, decode(request.mailbox), request.items)
    return _STATUS_DONE


async def _queue_status_if_allowed(session: Session, name: str, items: tuple[str, ...]) -> None:
    """RFC 5819 section 2: a mailbox whose status cannot be told has no STATUS response."""
    try:
        await _queue_status(session, name, items)
    except SharingError:
        return


async def _queue_status(session: Session, name: str, items: tuple[str, ...]) -> None:
    told = await session.host.recall(session.account, name)
    if not told.keys() >= set(items):
        told = await _find_status(session, name, items)
    session.out += _status_line(encode(name), items, told)


def _status_line(name: bytes, items: tuple[str, ...], told: Mapping[str, int]) -> bytes:
    values = tuple([_shown(item, told[item]) for item in items])
    return _status_form(items) % (name, *values)


@lru_cache(maxsize=64)
def _status_form(items: tuple[str, ...]) -> bytes:
    values = b" ".join(item.encode() + b" %b" for item in items)
    return b"* STATUS %b (" + values + b")\r\n"


async def _find_status(session: Session, name: str, items: tuple[str, ...]) -> dict[str, int]:
    handle = await session.host.open(session.account, name)
    try:
        mailbox = handle.mailbox
        if not mailbox.looks_unchanged():
            await handle.run(mailbox.sync)
        highest = 0
        if "HIGHESTMODSEQ" in items:
            await session.enable_condstore()
            known = handle.known_modseq() if mailbox.looks_unchanged() else None
            highest = await handle.run(_highest_modseq, handle) if known is None else known
        recent = 0
        if mailbox.has_recent():
            recent = len(await handle.run(lambda: mailbox.recent(claim=False)))
        counted = {"RECENT": recent, "HIGHESTMODSEQ": highest}
        if "SIZE" in items:  # messages whose names do not tell their sizes are read, once
            counted["SIZE"] = await handle.run(mailbox.total_size)
        told = {item: _value(mailbox, item, counted) for item in {*items, *REMEMBERED}}
        lasting = {item: value for item, value in told.items() if item in LASTING}
        session.host.remember(handle, lasting)
    finally:
        handle.release()
    return told


def _highest_modseq(handle: Handle) -> int:
    """RFC 7162 section 3.1.7: 0 for a mailbox without numbers."""
    modseqs = handle.modseqs()
    return 0 if modseqs is None else modseqs.note()


def _value(mailbox: Mailbox, item: str, counted: Mapping[str, int]) -> int:
    """All of them are numbers, MAILBOXID in hexadecimal."""
    if item in counted:
        return counted[item]
    match item:
        case "MESSAGES":
            return len(mailbox.uids())
        case "UIDNEXT":
            return mailbox.uidnext
        case "UIDVALIDITY":
            return mailbox.uidvalidity
        case "UNSEEN":
            return len(mailbox.unseen())
        case "MAILBOXID":
            return int(mailbox.guid(), 16)
    raise AssertionError(f"the parser let an unknown status item through: {item}")


def _shown(item: str, value: int) -> bytes:
    return mailbox_id(f"{value:032x}") if item == "MAILBOXID" else b"%d" % value
