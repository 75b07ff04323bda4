"""Whole queries: narrowed by the index, and made exact by looking at what is left.

The result is that of a scan of all messages with sharefs.message's rules.
"""

import time
from collections.abc import Callable, Sequence
from datetime import date
from operator import eq, ge, lt
from typing import Final

from sharefs import message
from sharefs.errors import Code, SharingError
from sharefs.index.query import (
    Among,
    And,
    ArrivedBy,
    ArrivedSince,
    BodyContains,
    DateIs,
    DateOf,
    EmailIdIs,
    Everything,
    HeaderContains,
    LargerThan,
    Leaf,
    Narrowed,
    Not,
    Or,
    Query,
    SmallerThan,
    TextContains,
    When,
)
from sharefs.store.interface import Mailbox

_TESTS: Final[dict[When, Callable[[date, date], bool]]] = {
    When.BEFORE: lt,
    When.ON: eq,
    When.SINCE: ge,
}


def evaluate(
    query: Query, uids: Sequence[int], mailbox: Mailbox, narrowed: Callable[[Leaf], Narrowed]
) -> list[int]:
    """Those of uids, which ascend, that match.  narrowed: what the index says about a leaf.

    A message that is gone matches nothing.
    """
    match query:
        case Everything():
            return list(uids)
        case Among(chosen):
            return [uid for uid in uids if uid in chosen]
        case And(queries):
            left: Sequence[int] = uids
            for one in sorted(queries, key=cost_of):
                left = evaluate(one, left, mailbox, narrowed) if left else left
            return list(left)
        case Or(left_query, right_query):
            first, second = sorted((left_query, right_query), key=cost_of)
            found = set(evaluate(first, uids, mailbox, narrowed))
            rest = [uid for uid in uids if uid not in found]
            found.update(evaluate(second, rest, mailbox, narrowed))
            return [uid for uid in uids if uid in found]
        case Not(inner):
            found = set(evaluate(inner, uids, mailbox, narrowed))
            return [uid for uid in uids if uid not in found]
        case _:
            return verified(query, uids, mailbox, narrowed(query))


def verified(leaf: Leaf, uids: Sequence[int], mailbox: Mailbox, narrowed: Narrowed) -> list[int]:
    """Those of uids that match, given what the index says.  Reads those that only may."""
    certain, possible = narrowed.certain, narrowed.possible
    return [
        uid for uid in uids if uid in certain or (uid in possible and matches(leaf, uid, mailbox))
    ]


def matches(leaf: Leaf, uid: int, mailbox: Mailbox) -> bool:
    """The truth about one message, from the message itself."""
    try:
        return _matches(leaf, uid, mailbox)
    except SharingError as error:
        if error.code is not Code.EXPUNGED:
            raise
        return False


def _matches(leaf: Leaf, uid: int, mailbox: Mailbox) -> bool:
    match leaf:
        case LargerThan(octets):
            return mailbox.info(uid).size > octets
        case SmallerThan(octets):
            return mailbox.info(uid).size < octets
        case ArrivedBy(seconds):
            return mailbox.info(uid).internaldate <= seconds
        case ArrivedSince(seconds):
            return mailbox.info(uid).internaldate >= seconds
        case DateIs(of, when, day):
            return _TESTS[when](_day(of, uid, mailbox), day)
        case HeaderContains(name, text):
            return message.matches_header(mailbox.read_header(uid), name, text)
        case EmailIdIs(octets):
            return message.email_id(mailbox.read(uid), mailbox.info(uid).internaldate) == octets
        case BodyContains(text):
            whole = mailbox.read(uid)
            return message.matches_body(whole, message.parse(whole), text)
        case TextContains(text):
            whole = mailbox.read(uid)
            return message.matches_text(whole, message.parse(whole), text)


def _day(of: DateOf, uid: int, mailbox: Mailbox) -> date:
    if of is DateOf.SENT:
        return message.sent_day(mailbox.read_header(uid))
    info = mailbox.info(uid)
    when = time.localtime(info.save_date if of is DateOf.SAVED else info.internaldate)
    return date(when.tm_year, when.tm_mon, when.tm_mday)


def cost_of(query: Query) -> int:
    """How dear a query may be: 0 the index alone, 1 headers, 2 whole messages."""
    match query:
        case HeaderContains():
            return 1
        case BodyContains() | TextContains() | EmailIdIs():
            return 2
        case And(queries):
            return max(map(cost_of, queries))
        case Or(left, right):
            return max(cost_of(left), cost_of(right))
        case Not(inner):
            return cost_of(inner)
    return 0
