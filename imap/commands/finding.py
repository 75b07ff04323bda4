"""Carries out a search: what is in memory at once, everything else in slices, in threads."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from imap.commands.host import Handle
from imap.commands.kept import NOTHING_KNOWN, Known, Needs, narrow_all, needs_of
from imap.commands.numbered import demand_numbered, demand_numbers
from imap.commands.plans import compile_key
from imap.commands.session import Session
from imap.wire.search_keys import ModseqIs, SearchKey
from sharefs.index.query import Narrowed

T = TypeVar("T")

# Messages looked at before other sessions get the mailbox.
BATCH: Final = 500
# Messages of a mailbox whose index answers at once.
FEW: Final = 1000


async def find(session: Session, tree: SearchKey, needs: Needs | None = None) -> list[int] | None:
    """The UIDs of the messages that match, ascending; None if the mailbox went meanwhile.

    needs: needs_of(tree), where that is known.

    Messages that are gone match nothing, even where the client still has a number for them.
    """
    needs = needs or needs_of(tree)
    if needs.modseqs:
        demand_numbered(session.current().numbered)
        await session.enable_condstore()
    # They must be known as such: NOT would find them otherwise.
    if not session.has_no_news(may_expunge=False):
        await session.tell_updates(may_expunge=False)
    selected = session.selected
    if selected is None:
        return None
    view, now = selected.view, int(time.time())
    known = await _known(session, tree, now) if needs.index else NOTHING_KNOWN
    if needs.modseqs:
        known = {**known, **await _numbered(session, needs.modseqs)}
    plan = compile_key(tree, selected, now, known)
    uids = view.uids
    if view.holds_back:
        held = view.held
        uids = [uid for uid in uids if uid not in held]
    if not plan.cost:
        return plan.pick(uids)
    found: list[int] = []
    step = _step(len(uids), known)
    for at in range(0, len(uids), step):
        found += await selected.handle.run(plan.pick, uids[at : at + step])
    return found


async def _known(session: Session, tree: SearchKey, now: int) -> Known:
    """What the mailbox's index says about the keys of tree."""
    handle = session.current().handle

    def ask() -> Known:
        index = handle.index()
        return NOTHING_KNOWN if index is None else narrow_all(index, tree, now)

    return await questions(handle)(ask)


def questions(handle: Handle) -> Callable[[Callable[[], T]], Awaitable[T]]:
    """What to put questions to the mailbox's index with: those about few messages are short."""
    return handle.run_short if len(handle.mailbox.uids()) <= FEW else handle.run


def wants_modseqs(tree: SearchKey) -> bool:
    """Whether the answer has a MODSEQ."""
    return bool(needs_of(tree).modseqs)


async def _numbered(session: Session, leaves: Sequence[ModseqIs]) -> Known:
    """The messages for each MODSEQ (RFC 7162 section 3.1.5)."""
    selected = session.current()

    def ask() -> Known:
        modseqs = demand_numbers(selected.handle, selected.numbered)
        return {
            leaf: Narrowed(frozenset(modseqs.changed_since(leaf.least - 1)), frozenset())
            for leaf in leaves
        }

    return await selected.handle.run(ask)


async def highest_of(session: Session, uids: Sequence[int]) -> int | None:
    """What the MODSEQ of an answer is: the highest one of its messages; None for none."""
    selected = session.current()

    def ask() -> int | None:
        modseqs = demand_numbers(selected.handle, selected.numbered)
        return max(modseqs.of(sorted(uids)).values(), default=None)

    return await selected.handle.run(ask) if uids else None


def _step(count: int, known: Known) -> int:
    """How many messages make a batch: more of them if an index leaves few to be looked at."""
    if not known:
        return BATCH
    candidates = len(frozenset().union(*(narrowed.possible for narrowed in known.values())))
    return max(BATCH, BATCH * count // max(1, candidates))
