"""SORT and THREAD: RFC 5256, with RETURN of RFC 5267 section 3."""

import contextlib
import gc
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from imap.commands.finding import BATCH, FEW, find, questions
from imap.commands.host import Handle
from imap.commands.replies import LOST, Reply, ok
from imap.commands.search import modseq_of, saving, tell_found
from imap.commands.session import Session
from imap.wire import Command, Cursor
from imap.wire.esearch import parse_returning
from imap.wire.sort import parse_sort, parse_thread, threads
from sharefs import rights as r
from sharefs.index.orders import read_facts
from sharefs.ordering.facts import Facts, Relation, relation_of
from sharefs.ordering.forest import Forest
from sharefs.ordering.references import thread_by_references, thread_by_refs
from sharefs.ordering.sorting import Criterion, SortKey, sort_messages
from sharefs.ordering.subjects import thread_by_subject

_NUMBER: Final = re.compile(rb"[0-9]+")
_ALGORITHMS: Final[dict[str, Callable[[Iterable[Relation]], Forest]]] = {
    "ORDEREDSUBJECT": thread_by_subject,
    "REFERENCES": thread_by_references,
    "REFS": thread_by_refs,
}


async def sort(session: Session, command: Command) -> Reply:
    return await _sort(session, command, by_uid=False)


async def uid_sort(session: Session, command: Command) -> Reply:
    return await _sort(session, command, by_uid=True)


async def thread(session: Session, command: Command) -> Reply:
    return await _thread(session, command, by_uid=False)


async def uid_thread(session: Session, command: Command) -> Reply:
    return await _thread(session, command, by_uid=True)


async def _sort(session: Session, command: Command, *, by_uid: bool) -> Reply:
    cursor = Cursor(command)
    returning = parse_returning(cursor)
    with saving(session, returning):
        request = parse_sort(cursor)
        session.demand(r.READ)
        found = await find(session, request.key)
        if found is None:
            return LOST
        criteria = [Criterion(SortKey[name], reverse) for name, reverse in request.criteria]
        in_order = await _in_order(session.current().handle, found, criteria)
        modseq = await modseq_of(session, request.key, in_order, returning)
        tell_found(session, command, b"SORT", in_order, returning, by_uid=by_uid, modseq=modseq)
    return ok("Sort completed.")


async def _in_order(handle: Handle, uids: list[int], criteria: Sequence[Criterion]) -> list[int]:
    """An index sorts what it knows all of; else the messages are looked at."""

    def ask() -> list[int] | None:
        index = handle.index()
        return None if index is None else index.in_order(uids, criteria)

    if len(uids) < 2:
        return uids
    in_order = await questions(handle)(ask)
    if in_order is None:
        known = await _facts(handle, uids)
        in_order = await handle.run(sort_messages, known, criteria)
    return in_order


async def _thread(session: Session, command: Command, *, by_uid: bool) -> Reply:
    request = parse_thread(Cursor(command))
    session.demand(r.READ)
    found = await find(session, request.key)
    if found is None:
        return LOST
    selected = session.current()
    text = await _threads(session, selected.handle, request.algorithm, found)
    if not by_uid:
        seqs = selected.view.seqs_of(found)
        if len(found) <= FEW:
            text = _in_numbers(text, found, seqs)
        else:
            text = await session.host.blocking(_in_numbers, text, found, seqs)
    session.untagged(b"THREAD", b" " if text else b"", text)
    return ok("Thread completed.")


async def _threads(session: Session, handle: Handle, algorithm: str, uids: list[int]) -> bytes:
    """The thread-list, with UIDs.  An index keeps the last one of each algorithm."""

    def ask() -> tuple[bytes | None, list[Relation]]:
        index = handle.index()
        if index is None:
            return None, []
        kept = index.kept_threads(algorithm, uids)
        if kept is not None:
            return kept, []
        with _uncollected():
            return None, index.relations(uids)

    def keep(text: bytes) -> None:
        index = handle.index()
        if index is not None:
            index.keep_threads(algorithm, uids, text)

    kept, known = await questions(handle)(ask)
    if kept is not None:
        return kept
    if len(known) < len(uids):
        have = {relation[0] for relation in known}
        read = await _read(handle, [uid for uid in uids if uid not in have])
        known += map(relation_of, read)
    text = await session.host.blocking(_threaded, algorithm, known)
    await handle.run(keep, text)
    return text


def _threaded(algorithm: str, known: list[Relation]) -> bytes:
    with _uncollected():
        forest = _ALGORITHMS[algorithm](known)
        return threads(forest.roots, forest.children, forest.uids)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """While millions of objects are made and none is garbage, looking for some takes half the time.

    Of two threads that do so at once the first to end has it looked for again.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _in_numbers(text: bytes, uids: Sequence[int], seqs: Sequence[int]) -> bytes:
    """The same thread-list with other numbers."""
    if [*seqs] == [*uids]:  # nothing was ever expunged
        return text
    number_of = {b"%d" % uid: b"%d" % seq for uid, seq in zip(uids, seqs, strict=True)}
    return _NUMBER.sub(lambda found: number_of[found[0]], text)


async def _facts(handle: Handle, uids: list[int]) -> list[Facts]:
    def ask() -> list[Facts]:
        index = handle.index()
        return [] if index is None else index.facts(uids)

    known = await handle.run(ask)
    have = {facts.uid for facts in known}
    return known + await _read(handle, [uid for uid in uids if uid not in have])


async def _read(handle: Handle, uids: Sequence[int]) -> list[Facts]:
    """Facts of messages from themselves.  Those that are gone meanwhile are left out."""
    found: list[Facts] = []
    for at in range(0, len(uids), BATCH):
        found += await handle.run(read_facts, handle.mailbox, uids[at : at + BATCH])
    return found
