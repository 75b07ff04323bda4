"""SELECT and EXAMINE arguments: RFC 4466 section 2.1, with CONDSTORE and QRESYNC (RFC 7162)."""

from dataclasses import dataclass

from imap.wire.cursor import Cursor
from imap.wire.sequence import STAR, SequenceSet


@dataclass(frozen=True, slots=True)
class Resync:
    """What a client remembers of the mailbox (RFC 7162 section 3.2.5).

    known: the UIDs that it has; None: it does not say.  matches: message numbers and UIDs that
    belonged together, pairwise.
    """

    uidvalidity: int
    modseq: int
    known: SequenceSet | None = None
    matches: tuple[SequenceSet, SequenceSet] | None = None


@dataclass(frozen=True, slots=True)
class SelectRequest:
    mailbox: bytes
    condstore: bool = False
    resync: Resync | None = None


def parse_select(cursor: Cursor) -> SelectRequest:
    """Read the arguments of SELECT or EXAMINE to their end."""
    mailbox = cursor.mailbox()
    condstore = False
    resync: Resync | None = None

    def parameter() -> None:
        nonlocal condstore, resync
        match cursor.keyword("a select parameter"):
            case "CONDSTORE":
                condstore = True
            case "QRESYNC" if resync is None:
                cursor.space()
                resync = _resync(cursor)
            case "QRESYNC":
                cursor.fail("QRESYNC can be given only once")
            case _:
                cursor.fail("Unknown select parameter")

    if not cursor.at_end():
        cursor.space()
        cursor.parenthesised(parameter, empty=False)
    cursor.end()
    return SelectRequest(mailbox, condstore, resync)


def _resync(cursor: Cursor) -> Resync:
    """ "(" uidvalidity SP mod-sequence-value [SP known-uids] [SP seq-match-data] ")" """
    if not cursor.skip(b"("):
        cursor.expected('"("')
    uidvalidity = cursor.nz_number()
    cursor.space()
    modseq = cursor.modseq()
    if not modseq:
        cursor.fail("Invalid argument: a modification sequence of 0")
    known: SequenceSet | None = None
    matches: tuple[SequenceSet, SequenceSet] | None = None
    if cursor.skip_spaces() and cursor.peek().isdigit():
        known = _numbers(cursor)
        cursor.skip_spaces()
    if cursor.skip(b"("):
        numbers = _numbers(cursor)
        cursor.space()
        matches = numbers, _numbers(cursor)
        _close(cursor)
        cursor.skip_spaces()
    _close(cursor)
    return Resync(uidvalidity, modseq, known, matches)


def _numbers(cursor: Cursor) -> SequenceSet:
    """A set of numbers that the client remembers, so without "*"."""
    numbers = cursor.sequence_set()
    if any(STAR in pair for pair in numbers.ranges):
        cursor.fail("Invalid message set: there is no * in what is known")
    return numbers


def _close(cursor: Cursor) -> None:
    if not cursor.skip(b")"):
        cursor.expected('")"')
