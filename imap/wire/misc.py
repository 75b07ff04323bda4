"""Arguments of the commands that belong to no family: APPEND, ID, CREATE, ENABLE."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from imap.wire.cursor import Cursor
from imap.wire.events import Command

# RFC 2971 section 3.3
ID_FIELDS: Final = 30
ID_FIELD_LENGTH: Final = 30
ID_VALUE_LENGTH: Final = 1024


@dataclass(frozen=True, slots=True)
class AppendHead:
    """What APPEND says before the message.  internaldate None: now."""

    mailbox: bytes
    flags: tuple[str, ...]
    internaldate: datetime | None


def parse_append_head(so_far: Command) -> AppendHead | None:
    """Read APPEND's arguments up to a literal: LiteralWanted.so_far.

    None: the literal is the mailbox name, so accept() it.  Otherwise the literal is the message:
    stream() it.  Raises ProtocolError if no message can follow here.
    """
    if not so_far.arguments.strip(b" "):
        return None
    cursor = Cursor(so_far)
    mailbox = cursor.mailbox()
    cursor.space()
    flags, when = parse_append_options(cursor)
    return AppendHead(mailbox, flags, when)


def parse_append_next(so_far: Command) -> tuple[tuple[str, ...], datetime | None]:
    """Read what MULTIAPPEND says before each message but the first (RFC 3502 section 6.3.11).

    so_far: LiteralWanted.so_far after a streamed message.
    """
    cursor = Cursor(so_far)
    cursor.space()
    return parse_append_options(cursor)


def parse_append_options(cursor: Cursor) -> tuple[tuple[str, ...], datetime | None]:
    """Read [flag-list SP] [date-time SP] to the end, where the message's literal follows."""
    flags: tuple[str, ...] = ()
    when = None
    if cursor.peek() == b"(":
        flags = cursor.flag_list()
        cursor.space()
    if cursor.peek() == b'"':
        when = cursor.date_time()
        cursor.space()
    if not cursor.at_end():
        cursor.expected("a message literal")
    return flags, when


def parse_id(command: Command) -> dict[bytes, bytes | None]:
    """Read ID's parameters (RFC 2971): field name in lower case to value, empty for NIL."""
    cursor = Cursor(command)
    if cursor.nil():
        cursor.end()
        return {}
    strings = cursor.parenthesised(cursor.nstring)
    cursor.end()
    if len(strings) % 2:
        cursor.fail("ID field without a value")
    fields: dict[bytes, bytes | None] = {}
    for name, value in zip(strings[::2], strings[1::2], strict=True):
        if name is None:
            cursor.fail("ID field without a name")
        if len(name) > ID_FIELD_LENGTH or len(value or b"") > ID_VALUE_LENGTH:
            cursor.fail("ID field is too long")
        fields[name.lower()] = value
    if len(fields) > ID_FIELDS:
        cursor.fail("Too many ID fields")
    return fields


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """special_use: attributes such as "\\\\Sent" from CREATE ... (USE (...)), RFC 6154."""

    mailbox: bytes
    special_use: tuple[str, ...] = ()


def parse_create(command: Command) -> CreateRequest:
    """Read the arguments of CREATE."""
    cursor = Cursor(command)
    mailbox = cursor.mailbox()
    special_use: tuple[str, ...] = ()
    if not cursor.at_end():
        cursor.space()
        if not cursor.skip(b"(USE "):
            cursor.expected("(USE (...))")
        special_use = tuple(cursor.parenthesised(lambda: _use_attribute(cursor)))
        if not cursor.skip(b")"):
            cursor.expected('")"')
    cursor.end()
    return CreateRequest(mailbox, special_use)


def _use_attribute(cursor: Cursor) -> str:
    if not cursor.skip(b"\\"):
        cursor.expected("a special-use attribute")
    return "\\" + cursor.atom()


def parse_enable(command: Command) -> tuple[str, ...]:
    """Read ENABLE's capability names, upper case (RFC 5161)."""
    cursor = Cursor(command)
    names = tuple(cursor.items(cursor.keyword))
    cursor.end()
    return names
