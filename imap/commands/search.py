"""SEARCH: RFC 3501 section 6.4.4, with RETURN (RFC 4731, 5182, 9394)."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

from imap.commands.finding import find, highest_of, wants_modseqs
from imap.commands.kept import Needs, needs_of
from imap.commands.replies import LOST, Reply, ok
from imap.commands.session import Session
from imap.wire import Command, Cursor, ProtocolError
from imap.wire import format as wire
from imap.wire.esearch import Returning, esearch, parse_returning
from imap.wire.recent import Recent
from imap.wire.search import parse_search
from imap.wire.search_keys import SearchKey
from sharefs import rights as r
from sharefs.errors import SharingError

_recent: Final = Recent[tuple[Returning | None, SearchKey, Needs]]()
_SEARCH_DONE: Final = ok("Search completed.")


async def search(session: Session, command: Command) -> Reply:
    return await _search(session, command, by_uid=False)


async def uid_search(session: Session, command: Command) -> Reply:
    return await _search(session, command, by_uid=True)


async def _search(session: Session, command: Command, *, by_uid: bool) -> Reply:
    understood = _recent.get(command.arguments)
    if understood is None:
        cursor = Cursor(command)
        returning = parse_returning(cursor)
        with saving(session, returning):
            tree = parse_search(cursor)
            understood = _recent.keep(command.arguments, (returning, tree, needs_of(tree)))
    returning, tree, needs = understood
    if returning is None:
        return await _answer(session, command, tree, needs, None, by_uid=by_uid)
    with saving(session, returning):
        return await _answer(session, command, tree, needs, returning, by_uid=by_uid)


async def _answer(
    session: Session,
    command: Command,
    tree: SearchKey,
    needs: Needs,
    returning: Returning | None,
    *,
    by_uid: bool,
) -> Reply:
    session.demand(r.READ)
    found = await find(session, tree, needs)
    if found is None:
        return LOST
    modseq = await modseq_of(session, tree, found, returning) if needs.modseqs else None
    tell_found(session, command, b"SEARCH", found, returning, by_uid=by_uid, modseq=modseq)
    return _SEARCH_DONE


async def modseq_of(
    session: Session, tree: SearchKey, found: Sequence[int], returning: Returning | None
) -> int | None:
    """What MODSEQ says in the answer, if that has one (RFC 7162 section 3.1.6)."""
    if not wants_modseqs(tree):
        return None
    return await highest_of(session, returning.told(found) if returning else found)


@contextlib.contextmanager
def saving(session: Session, returning: Returning | None) -> Iterator[None]:
    """RFC 5182 section 2.1: NO to a search that was to be saved empties "$", BAD leaves it."""
    try:
        yield
    except (ProtocolError, SharingError, OSError) as error:
        bad = isinstance(error, ProtocolError) and error.condition == "BAD"
        if returning is not None and returning.saves and session.selected is not None and not bad:
            session.selected.saved = ()
        raise


def tell_found(
    session: Session,
    command: Command,
    name: bytes,
    found: Sequence[int],
    returning: Returning | None,
    *,
    by_uid: bool,
    modseq: int | None = None,
) -> None:
    """Queue the answer, and save what is to be saved.  found: UIDs in the order of the answer.

    modseq: of the messages told, if it was searched for (RFC 7162 section 3.1.6).
    """
    selected = session.current()
    view = selected.view
    if returning is None:
        numbers = found if by_uid else view.seqs_of(found)
        told = b"" if modseq is None else b" (MODSEQ %d)" % modseq
        session.untagged(name, wire.numbers(numbers), told)
        return
    if returning.saves:
        selected.saved = returning.saved(found)
    answer = esearch(command.tag, returning, found, None if by_uid else view.seqs_of, modseq)
    if answer:
        session.untagged(answer)
