"""The syntax of RFC 7162: its own examples, and what is near to them but wrong."""

import pytest

from imap.wire import Command, ProtocolError
from imap.wire.cursor import Cursor
from imap.wire.fetch import Item, StoreMode, parse_fetch, parse_store
from imap.wire.search import parse_search
from imap.wire.search_keys import And, HasFlag, ModseqIs, Not, Or, SearchKey
from imap.wire.selecting import Resync, SelectRequest, parse_select
from imap.wire.sequence import SequenceSet
from sharefs.index.numbers import LARGEST


def numbers(text: bytes) -> SequenceSet:
    return SequenceSet.parse(text)


SELECTS = [
    (b"INBOX", SelectRequest(b"INBOX")),
    (b"INBOX (CONDSTORE)", SelectRequest(b"INBOX", condstore=True)),
    (b"inbox (condstore)", SelectRequest(b"INBOX", condstore=True)),
    (
        b"INBOX (QRESYNC (67890007 20050715194045000 41,43:211,214:541))",
        SelectRequest(
            b"INBOX", resync=Resync(67890007, 20050715194045000, numbers(b"41,43:211,214:541"))
        ),
    ),
    (
        b"INBOX (QRESYNC (67890007 90060115194045000 41:211,214:541))",
        SelectRequest(
            b"INBOX", resync=Resync(67890007, 90060115194045000, numbers(b"41:211,214:541"))
        ),
    ),
    (
        b"INBOX (QRESYNC (67890007 90060115194045000 1:29997 (5000,7500,9000,9990:9999 15000,"
        b"22500,27000,29970,29973,29976,29979,29982,29985,29988,29991,29994,29997)))",
        SelectRequest(
            b"INBOX",
            resync=Resync(
                67890007,
                90060115194045000,
                numbers(b"1:29997"),
                (
                    numbers(b"5000,7500,9000,9990:9999"),
                    numbers(
                        b"15000,22500,27000,29970,29973,29976,29979,29982,29985,29988,29991,"
                        b"29994,29997"
                    ),
                ),
            ),
        ),
    ),
    (
        b"INBOX (QRESYNC (3 4 (1:2 5:6)) CONDSTORE)",
        SelectRequest(b"INBOX", True, Resync(3, 4, None, (numbers(b"1:2"), numbers(b"5:6")))),
    ),
    (
        b"INBOX (QRESYNC (3 9223372036854775807))",
        SelectRequest(b"INBOX", resync=Resync(3, LARGEST)),
    ),
]


@pytest.mark.parametrize(("arguments", "want"), SELECTS, ids=lambda value: str(value)[:50])
def test_select(arguments: bytes, want: SelectRequest) -> None:
    assert parse_select(Cursor.over(arguments)) == want


BAD_SELECTS = [
    b"",
    b"INBOX ()",
    b"INBOX (CONDSTORE",
    b"INBOX CONDSTORE",
    b"INBOX (NONSENSE)",
    b"INBOX (QRESYNC)",
    b"INBOX (QRESYNC ())",
    b"INBOX (QRESYNC (3))",
    b"INBOX (QRESYNC (0 4))",
    b"INBOX (QRESYNC (3 0))",
    b"INBOX (QRESYNC (3 -4))",
    b"INBOX (QRESYNC (3 9223372036854775808))",
    b"INBOX (QRESYNC (3 99999999999999999999999999))",
    b"INBOX (QRESYNC (4294967296 4))",
    b"INBOX (QRESYNC (3 4 1:*))",
    b"INBOX (QRESYNC (3 4 1:5 (1:2)))",
    b"INBOX (QRESYNC (3 4 1:5 (1:* 1:2)))",
    b"INBOX (QRESYNC (3 4 1:5 (1:2 3:4) 6))",
    b"INBOX (QRESYNC (3 4 1:5 (1:2 3:4))",
    b"INBOX (QRESYNC (3 4) QRESYNC (3 4))",
    b"INBOX (QRESYNC (3 4)) x",
]


@pytest.mark.parametrize("arguments", BAD_SELECTS)
def test_no_select(arguments: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_select(Cursor.over(arguments))


@pytest.mark.parametrize(
    ("name", "arguments", "items", "since", "vanished"),
    [
        ("FETCH", b"1:3 (MODSEQ)", (Item.MODSEQ,), None, False),
        ("FETCH", b"1 MODSEQ", (Item.MODSEQ,), None, False),
        ("UID FETCH", b"1:* (FLAGS) (CHANGEDSINCE 12345)",
         (Item.UID, Item.FLAGS, Item.MODSEQ), 12345, False),
        ("UID FETCH", b"300:500 (FLAGS) (CHANGEDSINCE 12345 VANISHED)",
         (Item.UID, Item.FLAGS, Item.MODSEQ), 12345, True),
        ("UID FETCH", b"300:500 (FLAGS MODSEQ) (vanished changedsince 12345)",
         (Item.UID, Item.FLAGS, Item.MODSEQ), 12345, True),
        ("FETCH", b"1:* (UID FLAGS) (CHANGEDSINCE 0)",
         (Item.UID, Item.FLAGS, Item.MODSEQ), 0, False),
    ],
)  # fmt: skip
def test_fetch(
    name: str, arguments: bytes, items: tuple[Item, ...], since: int | None, vanished: bool
) -> None:
    got = parse_fetch(Command("a", name, arguments))
    assert (got.items, got.changed_since, got.vanished) == (items, since, vanished)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("FETCH", b"1:* FLAGS (CHANGEDSINCE)"),
        ("FETCH", b"1:* FLAGS (CHANGEDSINCE x)"),
        ("FETCH", b"1:* FLAGS (CHANGEDSINCE 9223372036854775808)"),
        ("FETCH", b"1:* FLAGS (CHANGEDSINCE 5 CHANGEDSINCE 6)"),
        ("FETCH", b"1:* FLAGS (CHANGEDSINCE 5 VANISHED)"),  # by number it means nothing
        ("UID FETCH", b"1:* FLAGS (VANISHED)"),
        ("UID FETCH", b"1:* FLAGS ()"),
        ("UID FETCH", b"1:* FLAGS (CHANGEDSINCE 5"),
        ("UID FETCH", b"1:* FLAGS CHANGEDSINCE 5"),
    ],
)
def test_no_fetch(name: str, arguments: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_fetch(Command("a", name, arguments))


@pytest.mark.parametrize(
    ("arguments", "mode", "silent", "flags", "since"),
    [
        (b"7,5,9 (UNCHANGEDSINCE 320162338) +FLAGS.SILENT (\\Deleted)",
         StoreMode.ADD, True, ("\\Deleted",), 320162338),
        (b"1 (UNCHANGEDSINCE 0) FLAGS \\Seen x", StoreMode.REPLACE, False, ("\\Seen", "x"), 0),
        (b"100:150 (unchangedsince 212030000000) +flags.silent ($Processed)",
         StoreMode.ADD, True, ("$Processed",), 212030000000),
        (b"1 +FLAGS (\\Seen)", StoreMode.ADD, False, ("\\Seen",), None),
    ],
)  # fmt: skip
def test_store(
    arguments: bytes, mode: StoreMode, silent: bool, flags: tuple[str, ...], since: int | None
) -> None:
    got = parse_store(Command("a", "STORE", arguments))
    assert (got.mode, got.silent, got.flags, got.unchanged_since) == (mode, silent, flags, since)


@pytest.mark.parametrize(
    "arguments",
    [
        b"1 () +FLAGS x",
        b"1 (UNCHANGEDSINCE) +FLAGS x",
        b"1 (UNCHANGEDSINCE -1) +FLAGS x",
        b"1 (UNCHANGEDSINCE 9223372036854775808) +FLAGS x",
        b"1 (UNCHANGEDSINCE 1 UNCHANGEDSINCE 2) +FLAGS x",
        b"1 (CHANGEDSINCE 1) +FLAGS x",
        b"1 (UNCHANGEDSINCE 1)+FLAGS x",
        b"1 +FLAGS x (UNCHANGEDSINCE 1)",
    ],
)
def test_no_store(arguments: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_store(Command("a", "STORE", arguments))


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        (b"MODSEQ 620162338", ModseqIs(620162338)),
        (b'MODSEQ "/flags/\\\\draft" all 620162338', ModseqIs(620162338)),
        (b'modseq "/flags/$Work" priv 0', ModseqIs(0)),
        (
            b'OR NOT MODSEQ 720162338 MODSEQ "/flags/\\\\Seen" shared 5 FLAGGED',
            And((Or(Not(ModseqIs(720162338)), ModseqIs(5)), HasFlag("\\Flagged"))),
        ),
    ],
)
def test_search(arguments: bytes, want: SearchKey) -> None:
    assert parse_search(Command("a", "SEARCH", arguments)) == want


@pytest.mark.parametrize(
    "arguments",
    [
        b"MODSEQ",
        b"MODSEQ x",
        b"MODSEQ 9223372036854775808",
        b'MODSEQ "/comment" all 5',
        b'MODSEQ "/flags/x" some 5',
        b'MODSEQ "/flags/x" all',
        b'MODSEQ "/flags/x" 5',
    ],
)
def test_no_search(arguments: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_search(Command("a", "SEARCH", arguments))
