"""How to find the messages that match a search key: cheap tests first.

A message is read only if a key needs it that neither what is in memory nor an index can answer.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Final

from imap.commands.kept import NOTHING_KNOWN, Known
from imap.commands.messages import resolve
from imap.commands.objectids import octets_of
from imap.commands.session import Selected
from imap.wire import search_keys as key
from imap.wire.search_keys import SearchKey
from sharefs import message
from sharefs.errors import Code, SharingError
from sharefs.flags import NAMES
from sharefs.index.query import Narrowed
from sharefs.store.interface import FlagTest, Mailbox, MessageInfo

_SYSTEM: Final = {name: flag for flag, name in NAMES.items()}

Uids = Sequence[int]

FEW: Final = 500  # messages that are cheaper asked for their flags one by one


@dataclass(slots=True)
class Reader:
    """Reads messages for tests; the last one is kept, for a second test asks for it next."""

    mailbox: Mailbox
    _uid: int = 0
    _header: bytes | None = None
    _octets: bytes | None = None

    def _turn_to(self, uid: int) -> None:
        if uid != self._uid:
            self._uid, self._header, self._octets = uid, None, None

    def info(self, uid: int) -> MessageInfo:
        return self.mailbox.info(uid)

    def header(self, uid: int) -> bytes:
        self._turn_to(uid)
        if self._header is None:
            self._header = self.mailbox.read_header(uid)
        return self._header

    def octets(self, uid: int) -> bytes:
        self._turn_to(uid)
        if self._octets is None:
            self._octets = self.mailbox.read(uid)
        return self._octets

    def email_id(self, uid: int) -> bytes:
        return message.email_id(self.octets(uid), self.info(uid).internaldate)


@dataclass(frozen=True, slots=True)
class Plan:
    """pick: those of some UIDs, ascending, that match; a vanished message matches nothing.

    cost: 0 memory, 1 stat, 2 the header, 3 the whole message.
    """

    cost: int
    pick: Callable[[Uids], list[int]]


def compile_key(
    tree: SearchKey, selected: Selected, now: int, known: Known = NOTHING_KNOWN
) -> Plan:
    """A plan for tree.  AND narrows with the cheapest test first, OR tries the cheaper one.

    now: seconds since 1970, what OLDER and YOUNGER count from.  known: what an index says; then
    only messages are looked at that may match.
    """
    mailbox, view = selected.handle.mailbox, selected.view
    reader = Reader(mailbox)

    def compiled(tree: SearchKey) -> Plan:
        plan = from_scratch(tree)
        narrowed = known.get(tree) if known else None
        return plan if narrowed is None else _looked_up(plan, narrowed)

    def from_scratch(tree: SearchKey) -> Plan:
        flag_test = _flag_test(tree)
        if flag_test is not None:
            return _flagged(mailbox, flag_test)
        match tree:
            case key.All():
                return Plan(0, list)
            case key.And(keys):
                return _all([compiled(one) for one in keys])
            case key.Or(left, right):
                return _any(compiled(left), compiled(right))
            case key.Not(inner):
                return _none_of(compiled(inner))
            case key.HasFlag() | key.HasKeyword():  # \\Recent: others have a test of their own
                return Plan(0, lambda uids: [uid for uid in uids if uid in view.recent])
            case key.SequenceIs(numbers):
                return _among(resolve(selected, numbers, by_uid=False))
            case key.ModseqIs():
                return _among(())  # known says which: nothing but the numbers themselves does
            case key.UidIs(named):
                return _among(resolve(selected, named, by_uid=True))
            case key.LargerThan(octets):
                return _tested(1, lambda uid: mailbox.size(uid) > octets)
            case key.SmallerThan(octets):
                return _tested(1, lambda uid: mailbox.size(uid) < octets)
            case key.OlderThan(seconds):
                return _tested(1, lambda uid: reader.info(uid).internaldate <= now - seconds)
            case key.YoungerThan(seconds):
                return _tested(1, lambda uid: reader.info(uid).internaldate >= now - seconds)
            case key.DateIs(of, when, day):
                return _date_plan(reader, of, when, day)
            case key.HeaderContains(name, text):
                return _tested(
                    2, lambda uid: message.matches_header(reader.header(uid), name, text)
                )
            case key.EmailIdIs(name):
                wanted = octets_of(name)
                return _tested(3, lambda uid: reader.email_id(uid) == wanted)
            case key.BodyContains(text):
                return _tested(3, lambda uid: _in_body(reader.octets(uid), text))
            case key.TextContains(text):
                return _tested(3, lambda uid: _in_text(reader.octets(uid), text))

    return compiled(tree)


def _looked_up(plan: Plan, narrowed: Narrowed) -> Plan:
    """The same plan, for messages that an index is not certain about."""
    certain, possible = narrowed.certain, narrowed.possible
    if not possible:
        return Plan(0, lambda uids: list(filter(certain.__contains__, uids)))

    def pick(uids: Uids) -> list[int]:
        found = set(plan.pick([uid for uid in uids if uid in possible and uid not in certain]))
        return [uid for uid in uids if uid in certain or uid in found]

    return Plan(plan.cost, pick)


def _in_body(octets: bytes, text: str) -> bool:
    return message.matches_body(octets, message.parse(octets), text)


def _in_text(octets: bytes, text: str) -> bool:
    return message.matches_text(octets, message.parse(octets), text)


def _among(named: Uids) -> Plan:
    """named: ascending."""
    return Plan(0, lambda uids: _both(named, uids))


def _tested(cost: int, test: Callable[[int], bool]) -> Plan:
    """A plan that looks at each message.  One that is gone meanwhile matches nothing."""

    def matches(uid: int) -> bool:
        try:
            return test(uid)
        except SharingError as error:
            if error.code is not Code.EXPUNGED:
                raise
            return False

    return Plan(cost, lambda uids: list(filter(matches, uids)))


def _all(plans: list[Plan]) -> Plan:
    ordered = sorted(plans, key=lambda plan: plan.cost)

    def pick(uids: Uids) -> list[int]:
        left = list(uids)
        for plan in ordered:
            left = plan.pick(left) if left else left
        return left

    return Plan(ordered[-1].cost, pick)


def _any(left: Plan, right: Plan) -> Plan:
    first, second = sorted((left, right), key=lambda plan: plan.cost)

    def pick(uids: Uids) -> list[int]:
        found = set(first.pick(uids))
        found.update(second.pick([uid for uid in uids if uid not in found]))
        return [uid for uid in uids if uid in found]

    return Plan(second.cost, pick)


def _none_of(plan: Plan) -> Plan:
    def pick(uids: Uids) -> list[int]:
        found = set(plan.pick(uids))
        return [uid for uid in uids if uid not in found]

    return Plan(plan.cost, pick)


@lru_cache(maxsize=16)
def _flag_test(tree: SearchKey) -> FlagTest | None:
    """What tree asks of a message's flags, if it asks for nothing else.  \\Recent is no flag."""
    match tree:
        case key.HasKeyword(keyword):
            wanted = keyword.casefold()
            return lambda flags: any(one.casefold() == wanted for one in flags.keywords)
        case key.HasFlag(name) if name in _SYSTEM:
            flag = _SYSTEM[name]
            return lambda flags: bool(flags.system & flag)
        case key.Not(inner):
            test = _flag_test(inner)
            return None if test is None else lambda flags: not test(flags)
        case key.Or(left, right):
            one, other = _flag_test(left), _flag_test(right)
            if one is None or other is None:
                return None
            return lambda flags: one(flags) or other(flags)
        case key.And(keys):
            tests = [test for test in map(_flag_test, keys) if test is not None]
            if len(tests) < len(keys):
                return None
            return lambda flags: all(test(flags) for test in tests)
    return None


def _flagged(mailbox: Mailbox, test: FlagTest) -> Plan:
    """Asks each different set of flags once; a mailbox has few."""

    def pick(uids: Uids) -> list[int]:
        all_uids = mailbox.uids()
        if uids is all_uids:
            return [*mailbox.with_flags(test)]
        if len(uids) < FEW:
            each = mailbox.flags_of_each(uids)
            different = {id(flags): flags for flags in each if flags is not None}
            passing = {key for key, flags in different.items() if test(flags)}
            return [uid for uid, flags in zip(uids, each, strict=True) if id(flags) in passing]
        found = mailbox.with_flags(test)
        return [*found] if uids == all_uids else _both(found, uids)

    return Plan(0, pick)


def _both(some: Uids, others: Uids) -> list[int]:
    """Those in both, ascending as both do."""
    if len(some) > len(others):
        some, others = others, some
    return list(filter(set(others).__contains__, some))


def _date_plan(reader: Reader, of: key.DateOf, when: key.When, day: date) -> Plan:
    """Dates compare by their day, disregarding time and zone (RFC 3501 section 6.4.4)."""
    tests: dict[key.When, Callable[[date], bool]] = {
        key.When.BEFORE: lambda got: got < day,
        key.When.ON: lambda got: got == day,
        key.When.SINCE: lambda got: got >= day,
    }
    compare = tests[when]
    if of is key.DateOf.SAVED:
        return _tested(1, lambda uid: compare(_local_day(reader.info(uid).save_date)))
    if of is key.DateOf.INTERNAL:
        return _tested(1, lambda uid: compare(_local_day(reader.info(uid).internaldate)))
    return _tested(2, lambda uid: compare(message.sent_day(reader.header(uid))))


def _local_day(seconds: int) -> date:
    """The day in the server's zone, which is the zone that INTERNALDATE is told in."""
    when = time.localtime(seconds)
    return date(when.tm_year, when.tm_mon, when.tm_mday)
