"""LIST, LSUB and STATUS arguments: RFC 3501, LIST-EXTENDED (5258), LIST-STATUS (5819),
SPECIAL-USE (6154), LIST-MYRIGHTS (8440), STATUS=SIZE (8438), OBJECTID (8474)."""

from dataclasses import dataclass
from typing import Final

from imap.wire.cursor import Cursor
from imap.wire.events import Command

SELECTION_OPTIONS: Final = frozenset({"SUBSCRIBED", "REMOTE", "RECURSIVEMATCH", "SPECIAL-USE"})
RETURN_OPTIONS: Final = frozenset({"SUBSCRIBED", "CHILDREN", "SPECIAL-USE", "MYRIGHTS", "STATUS"})
STATUS_ITEMS: Final = frozenset(
    {"MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "HIGHESTMODSEQ", "SIZE", "MAILBOXID"}
)


@dataclass(frozen=True, slots=True)
class ListRequest:
    """One LIST.  Names and patterns as sent, in modified UTF-7.

    selection, returns: subsets of SELECTION_OPTIONS and RETURN_OPTIONS.  status: what
    RETURN (STATUS (...)) asks for, in order; empty without it.  extended: an extended form was
    used, so the rule that an empty pattern asks for the separator alone does not hold
    (RFC 5258 section 3).
    """

    reference: bytes
    patterns: tuple[bytes, ...]
    selection: frozenset[str] = frozenset()
    returns: frozenset[str] = frozenset()
    status: tuple[str, ...] = ()
    extended: bool = False


def parse_list(command: Command) -> ListRequest:
    """Read the arguments of LIST."""
    cursor = Cursor(command)
    extended = False
    selection: frozenset[str] = frozenset()
    if cursor.peek() == b"(":
        extended = True
        selection = frozenset(cursor.parenthesised(lambda: cursor.keyword("a selection option")))
        if not selection <= SELECTION_OPTIONS:
            cursor.fail("Unknown selection option")
        if "RECURSIVEMATCH" in selection and not selection & {"SUBSCRIBED", "SPECIAL-USE"}:
            # RFC 5258 section 3: it needs another option to recurse for, and REMOTE is none.
            cursor.fail("RECURSIVEMATCH needs SUBSCRIBED or SPECIAL-USE")
        cursor.space()
    reference = cursor.astring()
    cursor.space()
    if cursor.peek() == b"(":
        extended = True
        patterns = tuple(cursor.parenthesised(cursor.list_mailbox, empty=False))
    else:
        patterns = (cursor.list_mailbox(),)
    returns: list[str] = []
    status: list[str] = []
    if not cursor.at_end():
        extended = True
        cursor.space()
        if cursor.keyword("RETURN") != "RETURN":
            cursor.fail("Unexpected extra arguments")
        cursor.space()
        returns = cursor.parenthesised(lambda: _return_option(cursor, status))
    cursor.end()
    return ListRequest(reference, patterns, selection, frozenset(returns), tuple(status), extended)


def _return_option(cursor: Cursor, status: list[str]) -> str:
    option = cursor.keyword("a return option")
    if option not in RETURN_OPTIONS:
        cursor.fail("Unknown return option")
    if option == "STATUS":
        cursor.space()
        status[:] = status_items(cursor)
    return option


def parse_lsub(command: Command) -> ListRequest:
    """Read the arguments of LSUB: a reference and one pattern."""
    cursor = Cursor(command)
    reference = cursor.astring()
    cursor.space()
    pattern = cursor.list_mailbox()
    cursor.end()
    return ListRequest(reference, (pattern,))


def status_items(cursor: Cursor) -> tuple[str, ...]:
    """The parenthesised items of STATUS: upper case, in the order asked for, without repeats."""
    items = cursor.parenthesised(lambda: cursor.keyword("a status item"), empty=False)
    if not STATUS_ITEMS.issuperset(items):
        cursor.fail("Unknown status item")
    return tuple(dict.fromkeys(items))


@dataclass(frozen=True, slots=True)
class StatusRequest:
    mailbox: bytes
    items: tuple[str, ...]


def parse_status(command: Command) -> StatusRequest:
    """Read the arguments of STATUS."""
    cursor = Cursor(command)
    mailbox = cursor.mailbox()
    cursor.space()
    items = status_items(cursor)
    cursor.end()
    return StatusRequest(mailbox, items)
