"""FETCH and STORE arguments to typed items (RFC 3501 sections 6.4.5, 6.4.6, RFC 3516)."""

import enum
import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from imap.wire.cursor import Cursor
from imap.wire.events import Command
from imap.wire.partial import Partial, parse_partial
from imap.wire.recent import Recent
from imap.wire.sequence import SequenceSet

SectionText: TypeAlias = Literal["", "HEADER", "HEADER.FIELDS", "HEADER.FIELDS.NOT", "TEXT", "MIME"]

# RFC 3501 sets none; a part number deeper than any message that the MIME parser follows.
PART_DEPTH_LIMIT: Final = 200

_NAME: Final = re.compile(rb"[A-Za-z0-9.]+")
_PART: Final = re.compile(rb"[1-9][0-9]{0,8}(?:\.[1-9][0-9]{0,8})*")


class Item(enum.Enum):
    """Items that name no section.  The value is how the response names them."""

    BODY = "BODY"  # the short form of BODYSTRUCTURE
    BODYSTRUCTURE = "BODYSTRUCTURE"
    ENVELOPE = "ENVELOPE"
    FLAGS = "FLAGS"
    INTERNALDATE = "INTERNALDATE"
    MODSEQ = "MODSEQ"  # RFC 7162
    SIZE = "RFC822.SIZE"
    UID = "UID"
    SAVEDATE = "SAVEDATE"  # RFC 8514
    EMAILID = "EMAILID"  # RFC 8474
    THREADID = "THREADID"


@dataclass(frozen=True, slots=True)
class Section:
    """What stands between the brackets of BODY[...].

    part: part numbers, empty for the whole message.  fields: header field names in upper case,
    only with HEADER.FIELDS and HEADER.FIELDS.NOT.
    """

    part: tuple[int, ...] = ()
    text: SectionText = ""
    fields: tuple[bytes, ...] = ()

    def label(self) -> str:
        """The inside of the brackets, upper case; names that need it are quoted."""
        words = [".".join(map(str, self.part))] if self.part else []
        if self.text:
            words.append(self.text)
        text = ".".join(words)
        if self.fields:
            names = " ".join(_printed(name) for name in self.fields)
            text += f" ({names})"
        return text


@dataclass(frozen=True, slots=True)
class BodySection:
    """BODY[section]<partial>, or one of the RFC822 items that stand for one.

    partial: (first octet, length), length not 0.  peek: \\Seen stays as it is.  name: what
    the response calls it, complete with the origin octet.
    """

    section: Section
    partial: tuple[int, int] | None
    peek: bool
    name: bytes


@dataclass(frozen=True, slots=True)
class BinarySection:
    """BINARY[part]<partial> of RFC 3516, as BodySection.  part: empty for the whole message."""

    part: tuple[int, ...]
    partial: tuple[int, int] | None
    peek: bool
    name: bytes


@dataclass(frozen=True, slots=True)
class BinarySize:
    """BINARY.SIZE[part]: how many octets BINARY[part] would be."""

    part: tuple[int, ...]
    name: bytes


@dataclass(frozen=True, slots=True)
class Preview:
    """PREVIEW, or PREVIEW (LAZY): only if it is there already (RFC 8970)."""

    lazy: bool

    @property
    def name(self) -> bytes:
        return b"PREVIEW"


FetchItem: TypeAlias = Item | BodySection | BinarySection | BinarySize | Preview

_FAST: Final = (Item.FLAGS, Item.INTERNALDATE, Item.SIZE)
_MACROS: Final[dict[str, tuple[FetchItem, ...]]] = {
    "FAST": _FAST,
    "ALL": (*_FAST, Item.ENVELOPE),
    "FULL": (*_FAST, Item.ENVELOPE, Item.BODY),
}
_ITEMS: Final = {item.value: item for item in Item}
_RFC822: Final = {
    "RFC822": BodySection(Section(), None, False, b"RFC822"),
    "RFC822.HEADER": BodySection(Section((), "HEADER"), None, True, b"RFC822.HEADER"),
    "RFC822.TEXT": BodySection(Section((), "TEXT"), None, False, b"RFC822.TEXT"),
}


@dataclass(frozen=True, slots=True)
class Fetch:
    """items: without repeats, in the order asked for.  UID FETCH always has Item.UID.

    partial: only this window of the messages is wanted (RFC 9394 section 3.3).  changed_since,
    vanished: only what has a higher modification sequence, and whether expunged messages too
    (RFC 7162 sections 3.1.4.1, 3.2.6); then there is Item.MODSEQ.
    """

    messages: SequenceSet
    items: tuple[FetchItem, ...]
    partial: Partial | None = None
    changed_since: int | None = None
    vanished: bool = False

    @property
    def sets_seen(self) -> bool:
        return any(
            isinstance(item, BodySection | BinarySection) and not item.peek for item in self.items
        )


def parse_fetch(command: Command) -> Fetch:
    """Read the arguments of FETCH or UID FETCH to their end."""
    cursor = Cursor(command)
    messages = cursor.message_set()
    cursor.space()
    by_uid = command.name.startswith("UID ")
    rest = cursor.rest()
    recent = _recent[by_uid]
    wanted = recent.get(rest)
    if wanted is None:
        wanted = recent.keep(rest, _parse_wanted(cursor, by_uid))
    items, modifiers = wanted
    return Fetch(messages, items, modifiers.partial, modifiers.changed_since, modifiers.vanished)


def _parse_wanted(cursor: Cursor, by_uid: bool) -> tuple[tuple[FetchItem, ...], "_Modifiers"]:
    """What is wanted of the messages, and of which of them: all that follows the message set."""
    items: list[FetchItem]
    if cursor.peek() == b"(":
        items = cursor.parenthesised(lambda: _item(cursor), empty=False)
    else:
        name = _name(cursor)
        items = list(_MACROS.get(name, ())) or [_named_item(cursor, name)]
    modifiers = _modifiers(cursor)
    cursor.end()
    if by_uid:
        items.insert(0, Item.UID)
    if modifiers.changed_since is not None:
        items.append(Item.MODSEQ)  # RFC 7162 section 3.1.4.1
    if modifiers.vanished and (not by_uid or modifiers.changed_since is None):
        cursor.fail("VANISHED needs UID FETCH and CHANGEDSINCE")
    return tuple(dict.fromkeys(items)), modifiers


@dataclass(slots=True)
class _Modifiers:
    """Changed by nobody once they are read."""

    partial: Partial | None = None
    changed_since: int | None = None
    vanished: bool = False


_recent: Final = {
    by_uid: Recent[tuple[tuple[FetchItem, ...], _Modifiers]]() for by_uid in (False, True)
}


def _modifiers(cursor: Cursor) -> _Modifiers:
    """fetch-modifiers of RFC 4466 section 2.4, if there are any."""
    found = _Modifiers()
    if cursor.at_end():
        return found
    cursor.space()

    def modifier() -> None:
        match cursor.keyword("a fetch modifier"):
            case "PARTIAL" if found.partial is None:
                cursor.space()
                found.partial = parse_partial(cursor)
            case "PARTIAL":
                cursor.fail("PARTIAL can be asked for only once")
            case "CHANGEDSINCE" if found.changed_since is None:
                cursor.space()
                found.changed_since = cursor.modseq()
            case "VANISHED":
                found.vanished = True
            case _:
                cursor.fail("Unknown fetch modifier")

    cursor.parenthesised(modifier, empty=False)
    return found


def _name(cursor: Cursor) -> str:
    return cursor.token(_NAME, "a fetch item").decode("ascii").upper()


def _item(cursor: Cursor) -> FetchItem:
    return _named_item(cursor, _name(cursor))


def _named_item(cursor: Cursor, name: str) -> FetchItem:
    if name in ("BODY", "BODY.PEEK") and cursor.skip(b"["):
        before = cursor.mark()
        section = _section(cursor)
        written = cursor.since(before).upper()
        if not cursor.skip(b"]"):
            cursor.expected('"]"')
        # Echoed as the client wrote it, as Dovecot does: some look for their own spelling.
        label = section.label().encode("ascii", "replace") if b"{" in written else written
        partial = _partial(cursor)
        label = b"BODY[%b]%b" % (label, b"<%d>" % partial[0] if partial else b"")
        return BodySection(section, partial, name == "BODY.PEEK", label)
    if name in ("BINARY", "BINARY.PEEK", "BINARY.SIZE") and cursor.skip(b"["):
        return _binary_item(cursor, name)
    if name == "PREVIEW":
        return Preview(_is_lazy(cursor))
    if name in _RFC822:
        return _RFC822[name]
    if name not in _ITEMS:
        cursor.fail("Unknown fetch item")
    return _ITEMS[name]


def _binary_item(cursor: Cursor, name: str) -> FetchItem:
    """RFC 3516 section 4.2: nothing but part numbers stands between the brackets."""
    part = _part_numbers(cursor) if cursor.peek().isdigit() else ()
    if not cursor.skip(b"]"):
        cursor.expected('a part number and "]"')
    label = b"[%b]" % ".".join(map(str, part)).encode("ascii")
    if name == "BINARY.SIZE":
        return BinarySize(part, b"BINARY.SIZE" + label)
    partial = _partial(cursor)
    label += b"<%d>" % partial[0] if partial else b""
    return BinarySection(part, partial, name == "BINARY.PEEK", b"BINARY" + label)


def _is_lazy(cursor: Cursor) -> bool:
    """RFC 8970 section 3.1: LAZY is the only modifier."""
    here = cursor.mark()
    if not cursor.skip_spaces() or cursor.peek() != b"(":
        cursor.go_back(here)
        return False
    for modifier in cursor.parenthesised(lambda: cursor.keyword("LAZY"), empty=False):
        if modifier != "LAZY":
            cursor.fail("Unknown modifier of PREVIEW")
    return True


def _part_numbers(cursor: Cursor) -> tuple[int, ...]:
    numbers = cursor.token(_PART, "a part number").split(b".")
    if len(numbers) > PART_DEPTH_LIMIT:
        cursor.fail("Part number is too deep")
    return tuple(map(int, numbers))


def _section(cursor: Cursor) -> Section:
    part: tuple[int, ...] = ()
    if cursor.peek().isdigit():
        part = _part_numbers(cursor)
        if not cursor.skip(b"."):
            return Section(part)
    elif cursor.peek() == b"]":
        return Section()
    match _name(cursor):
        case "HEADER":
            return Section(part, "HEADER")
        case "TEXT":
            return Section(part, "TEXT")
        case "MIME" if part:
            return Section(part, "MIME")
        case "HEADER.FIELDS":
            return Section(part, "HEADER.FIELDS", _field_names(cursor))
        case "HEADER.FIELDS.NOT":
            return Section(part, "HEADER.FIELDS.NOT", _field_names(cursor))
    cursor.fail("Unknown body section")


def _field_names(cursor: Cursor) -> tuple[bytes, ...]:
    cursor.space()
    names = cursor.parenthesised(cursor.astring, empty=False)
    return tuple(name.upper() for name in names)


def _partial(cursor: Cursor) -> tuple[int, int] | None:
    if not cursor.skip(b"<"):
        return None
    origin = cursor.number()
    if not cursor.skip(b"."):
        cursor.expected('"."')
    length = cursor.nz_number()
    if not cursor.skip(b">"):
        cursor.expected('">"')
    return origin, length


def _printed(name: bytes) -> str:
    text = name.decode("latin-1")
    if re.fullmatch(r"[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+", text):
        return text
    return '"' + re.sub(r'([\\"])', r"\\\1", re.sub(r"[\r\n]", "", text)) + '"'


class StoreMode(enum.Enum):
    REPLACE = "FLAGS"
    ADD = "+FLAGS"
    REMOVE = "-FLAGS"


@dataclass(frozen=True, slots=True)
class Store:
    """silent: the client wants no FETCH responses for what it changes itself.

    unchanged_since: messages with a higher modification sequence stay as they are (RFC 7162).
    """

    messages: SequenceSet
    mode: StoreMode
    silent: bool
    flags: tuple[str, ...]
    unchanged_since: int | None = None


_STORE_ITEM: Final = re.compile(rb"[+-]?[A-Za-z.]+")


def parse_store(command: Command) -> Store:
    """Read the arguments of STORE or UID STORE.  Flags may come with or without parentheses."""
    cursor = Cursor(command)
    messages = cursor.message_set()
    cursor.space()
    unchanged_since = _unchanged_since(cursor)
    item = cursor.token(_STORE_ITEM, "FLAGS, +FLAGS or -FLAGS").decode("ascii").upper()
    mode, dot, silent = item.partition(".")
    if mode not in (known.value for known in StoreMode) or (dot and silent != "SILENT"):
        cursor.fail("Invalid argument: expected FLAGS, +FLAGS or -FLAGS")
    cursor.space()
    flags = cursor.flag_list() if cursor.peek() == b"(" else tuple(cursor.items(cursor.flag))
    cursor.end()
    return Store(messages, StoreMode(mode), bool(dot), flags, unchanged_since)


def _unchanged_since(cursor: Cursor) -> int | None:
    """store-modifiers and the space after them, if they stand here (RFC 7162 section 3.1.3)."""
    if cursor.peek() != b"(":
        return None

    def modifier() -> int:
        if cursor.keyword("a store modifier") != "UNCHANGEDSINCE":
            cursor.fail("Unknown store modifier")
        cursor.space()
        return cursor.modseq()

    given = cursor.parenthesised(modifier, empty=False)
    if len(given) > 1:
        cursor.fail("UNCHANGEDSINCE can be given only once")
    cursor.space()
    return given[0]
