"""SEARCH: RFC 3501 section 6.4.4.  Cheap tests first; a message is read only if one needs it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from imap.commands.replies import Reply, ok
from imap.commands.session import Selected, Session
from imap.view import View
from imap.wire import Command, SequenceSet
from imap.wire import search as key
from imap.wire.search import SearchKey, parse_search
from sharefs import message
from sharefs import rights as r
from sharefs.errors import Code, SharingError
from sharefs.flags import NAMES, System
from sharefs.store.interface import Mailbox, MessageInfo

# Messages looked at before other sessions get the mailbox.
BATCH: Final = 500

_SYSTEM: Final = {name: flag for flag, name in NAMES.items()}


@dataclass(slots=True)
class Candidate:
    """One message under test; whatever is read of it is read once."""

    mailbox: Mailbox
    uid: int
    seq: int
    recent: bool
    _info: MessageInfo | None = None
    _header: bytes | None = None
    _octets: bytes | None = None

    def info(self) -> MessageInfo:
        if self._info is None:
            self._info = self.mailbox.info(self.uid)
        return self._info

    def header(self) -> bytes:
        if self._header is None:
            self._header = self.mailbox.read_header(self.uid)
        return self._header

    def part(self) -> message.Part:
        return message.parse(self.octets())

    def octets(self) -> bytes:
        if self._octets is None:
            self._octets = self.mailbox.read(self.uid)
        return self._octets


Test = Callable[[Candidate], bool]


@dataclass(frozen=True, slots=True)
class Plan:
    """A test, and what it costs: 0 memory, 1 stat, 2 the header, 3 the whole message."""

    cost: int
    test: Test


async def search(session: Session, command: Command) -> Reply:
    return await _search(session, command, by_uid=False)


async def uid_search(session: Session, command: Command) -> Reply:
    return await _search(session, command, by_uid=True)


async def _search(session: Session, command: Command, *, by_uid: bool) -> Reply:
    tree = parse_search(command)
    selected = session.current()
    session.demand(r.READ)
    plan = compile_key(tree, selected.view)
    found: list[int] = []
    uids = [uid for uid in selected.view.uids if not selected.view.is_held(uid)]
    for at in range(0, len(uids), BATCH):
        batch = uids[at : at + BATCH]
        if plan.cost:
            found += await selected.handle.run(_matching, selected, plan, batch)
        else:
            found += _matching(selected, plan, batch)
    numbers = found if by_uid else [selected.view.seq_of(uid) for uid in found]
    session.untagged(b"SEARCH", *(b" %d" % number for number in numbers))
    return ok("Search completed.")


def _matching(selected: Selected, plan: Plan, uids: Sequence[int]) -> list[int]:
    mailbox, view = selected.handle.mailbox, selected.view
    found = []
    for uid in uids:
        candidate = Candidate(mailbox, uid, view.seq_of(uid), uid in view.recent)
        try:
            if plan.test(candidate):
                found.append(uid)
        except KeyError:
            continue  # expunged meanwhile: it matches nothing any more
        except SharingError as error:
            if error.code is not Code.EXPUNGED:
                raise
    return found


def compile_key(tree: SearchKey, view: View) -> Plan:
    """A plan for tree.  Within AND and OR the cheaper test goes first."""
    match tree:
        case key.All():
            return Plan(0, lambda _: True)
        case key.And(keys):
            return _all([compile_key(one, view) for one in keys])
        case key.Or(left, right):
            return _any(compile_key(left, view), compile_key(right, view))
        case key.Not(inner):
            plan = compile_key(inner, view)
            return Plan(plan.cost, lambda one: not plan.test(one))
        case key.HasFlag() | key.HasKeyword():
            return Plan(0, _flag_test(tree))
        case key.SequenceIs(numbers):
            chosen = _members(numbers, range(1, len(view) + 1))
            return Plan(0, lambda one: one.seq in chosen)
        case key.UidIs(uids):
            named = _members(uids, view.uids)
            return Plan(0, lambda one: one.uid in named)
        case key.LargerThan(octets):
            return Plan(1, lambda one: one.info().size > octets)
        case key.SmallerThan(octets):
            return Plan(1, lambda one: one.info().size < octets)
        case key.DateIs(of, when, day):
            return _date_plan(of, when, day)
        case key.HeaderContains(name, text):
            return Plan(2, lambda one: message.matches_header(one.header(), name, text))
        case key.BodyContains(text):
            return Plan(3, lambda one: message.matches_body(one.octets(), one.part(), text))
        case key.TextContains(text):
            return Plan(3, lambda one: message.matches_text(one.octets(), one.part(), text))


def _members(named: SequenceSet, numbers: Sequence[int]) -> frozenset[int]:
    return frozenset(named.pick(numbers))


def _all(plans: list[Plan]) -> Plan:
    ordered = sorted(plans, key=lambda plan: plan.cost)
    tests = [plan.test for plan in ordered]
    return Plan(ordered[-1].cost, lambda one: all(test(one) for test in tests))


def _any(left: Plan, right: Plan) -> Plan:
    first, second = sorted((left, right), key=lambda plan: plan.cost)
    return Plan(second.cost, lambda one: first.test(one) or second.test(one))


def _flag_test(tree: key.HasFlag | key.HasKeyword) -> Test:
    if isinstance(tree, key.HasKeyword):
        wanted = tree.keyword.casefold()
        return lambda one: any(
            keyword.casefold() == wanted for keyword in one.mailbox.flags_of(one.uid).keywords
        )
    if tree.flag not in _SYSTEM:
        return lambda one: one.recent
    flag: System = _SYSTEM[tree.flag]
    return lambda one: bool(one.mailbox.flags_of(one.uid).system & flag)


def _date_plan(of: key.DateOf, when: key.When, day: date) -> Plan:
    """Dates compare by their day, disregarding time and zone (RFC 3501 section 6.4.4)."""
    tests: dict[key.When, Callable[[date], bool]] = {
        key.When.BEFORE: lambda got: got < day,
        key.When.ON: lambda got: got == day,
        key.When.SINCE: lambda got: got >= day,
    }
    compare = tests[when]
    if of is key.DateOf.INTERNAL:
        return Plan(1, lambda one: compare(_local_day(one.info().internaldate)))
    return Plan(2, lambda one: compare(message.sent_day(one.header())))


def _local_day(seconds: int) -> date:
    """The day in the server's zone, which is the zone that INTERNALDATE is told in."""
    when = time.localtime(seconds)
    return date(when.tm_year, when.tm_mon, when.tm_mday)
