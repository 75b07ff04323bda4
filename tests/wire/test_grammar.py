"""One table for each grammar rule, with what real clients send; ProtocolError alone escapes."""

import contextlib
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imap.wire import Command, Cursor, ProtocolError
from imap.wire.esearch import parse_returning
from imap.wire.fetch import (
    BinarySection,
    BinarySize,
    BodySection,
    Item,
    Preview,
    Section,
    Store,
    StoreMode,
    parse_fetch,
    parse_store,
)
from imap.wire.listing import ListRequest, StatusRequest, parse_list, parse_lsub, parse_status
from imap.wire.misc import (
    AppendHead,
    CreateRequest,
    parse_append_head,
    parse_create,
    parse_enable,
    parse_id,
)
from imap.wire.search import parse_search
from imap.wire.sequence import SequenceSet


def command(name: str, arguments: bytes) -> Command:
    return Command("a", name, arguments)


READERS: dict[str, Callable[[Cursor], object]] = {
    "atom": Cursor.atom,
    "astring": Cursor.astring,
    "string": Cursor.string,
    "nstring": Cursor.nstring,
    "mailbox": Cursor.mailbox,
    "list-mailbox": Cursor.list_mailbox,
    "number": Cursor.number,
    "nz-number": Cursor.nz_number,
    "sequence-set": Cursor.sequence_set,
    "flag": Cursor.flag,
    "flag-list": Cursor.flag_list,
    "date": Cursor.date,
    "date-time": Cursor.date_time,
    "sasl-initial": Cursor.sasl_initial,
}

GOOD: list[tuple[str, bytes, object]] = [
    ("atom", b"INBOX", "INBOX"),
    ("atom", b"$Forwarded", "$Forwarded"),
    ("astring", b"bob*admin", b"bob*admin"),
    ("astring", b"a]b%c", b"a]b%c"),
    ("astring", b'""', b""),
    ("astring", b'"a \\"b\\" \\\\"', b'a "b" \\'),
    ("astring", b'"a\\b"', b"ab"),
    ("astring", b'"gr\xc3\xbc\xc3\x9f"', b"gr\xc3\xbc\xc3\x9f"),
    ("astring", b"{3}\r\na\r\n", b"a\r\n"),
    ("astring", b"{0}\r\n", b""),
    ("astring", b"NIL", b"NIL"),
    ("nstring", b"nil", None),
    ("nstring", b'"NIL"', b"NIL"),
    ("string", b'"x"', b"x"),
    ("mailbox", b"inbox", b"INBOX"),
    ("mailbox", b'"InBox"', b"INBOX"),
    ("mailbox", b"{5}\r\niNbOx", b"INBOX"),
    ("mailbox", b"inbox/sub", b"inbox/sub"),
    ("mailbox", b"&ZeVnLIqe-", b"&ZeVnLIqe-"),
    ("list-mailbox", b"shared/%/*", b"shared/%/*"),
    ("number", b"0", 0),
    ("number", b"4294967295", 2**32 - 1),
    ("number", b"007", 7),
    ("nz-number", b"1", 1),
    ("sequence-set", b"1", SequenceSet(((1, 1),))),
    ("sequence-set", b"1:*,3,*", SequenceSet(((1, 0), (3, 3), (0, 0)))),
    ("sequence-set", b"*:4,7:5", SequenceSet(((0, 4), (7, 5)))),
    ("flag", b"\\seen", "\\Seen"),
    ("flag", b"$Junk", "$Junk"),
    ("flag", b"a]b", "a]b"),
    ("flag-list", b"()", ()),
    ("flag-list", b"(\\Seen \\DELETED work)", ("\\Seen", "\\Deleted", "work")),
    ("flag-list", b"( \\Seen  x )", ("\\Seen", "x")),
    ("date", b"1-Feb-1994", date(1994, 2, 1)),
    ("date", b'"01-feb-1994"', date(1994, 2, 1)),
    (
        "date-time",
        b'"17-Jul-1996 02:44:25 -0730"',
        datetime(1996, 7, 17, 2, 44, 25, tzinfo=timezone(-timedelta(hours=7, minutes=30))),
    ),
    (
        "date-time",
        b'" 7-Jul-1996 02:44:60 +0000"',
        datetime(1996, 7, 7, 2, 44, 59, tzinfo=timezone(timedelta(0))),
    ),
    ("sasl-initial", b"", None),
    ("sasl-initial", b" =", b""),
    ("sasl-initial", b" AGJvYgBwYXNz", b"AGJvYgBwYXNz"),
]


@pytest.mark.parametrize(("rule", "octets", "want"), GOOD)
def test_rule(rule: str, octets: bytes, want: object) -> None:
    cursor = Cursor.over(octets)
    assert READERS[rule](cursor) == want
    cursor.end()


BAD: list[tuple[str, bytes]] = [
    ("atom", b""),
    ("atom", b'"x"'),
    ("atom", b"(x"),
    ("astring", b""),
    ("astring", b'"open'),
    ("astring", b'"open\\"'),
    ("astring", b"(x)"),
    ("astring", b"caf\xc3\xa9"),
    ("astring", b"{3}\r\nab"),
    ("astring", b"{3}ab"),
    ("astring", b"{3}\r\na\0b"),
    ("astring", b"{99999999999999999999999}\r\n"),
    ("string", b"x"),
    ("nstring", b"nilly"),
    ("number", b"-1"),
    ("number", b"4294967296"),
    ("number", b"9" * 5000),
    ("nz-number", b"0"),
    ("sequence-set", b""),
    ("sequence-set", b"0"),
    ("sequence-set", b"1,,2"),
    ("sequence-set", b"1:2:3"),
    ("sequence-set", b"*5"),
    ("sequence-set", b"1,"),
    ("sequence-set", b"4294967296"),
    ("sequence-set", b"1:" + b"9" * 5000),
    ("sequence-set", b"$"),
    ("flag", b"\\Strange"),
    ("flag", b"\\"),
    ("flag-list", b"(\\Seen"),
    ("flag-list", b"(a(b))"),
    ("flag-list", b"\\Seen"),
    ("date", b"30-Feb-1994"),
    ("date", b"1-Foo-1994"),
    ("date", b'"1-Feb-1994'),
    ("date", b"1994-02-01"),
    ("date", b"1-Feb-0000"),
    ("date-time", b'"17-Jul-1996 25:44:25 -0700"'),
    ("date-time", b'"17-Jul-1996 02:44:25 -9900"'),
    ("date-time", b"17-Jul-1996 02:44:25 -0700"),
    ("sasl-initial", b" !"),
]


def read_all(rule: str, octets: bytes) -> None:
    cursor = Cursor(command("X", octets))
    READERS[rule](cursor)
    cursor.end()


@pytest.mark.parametrize(("rule", "octets"), BAD)
def test_rule_refuses(rule: str, octets: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        read_all(rule, octets)
    assert caught.value.tag == "a"
    assert not caught.value.fatal


def test_arguments_with_spaces_between() -> None:
    cursor = Cursor(command("LOGIN", b'bob   "p w"  '))
    assert cursor.astring() == b"bob"
    cursor.space()
    assert cursor.astring() == b"p w"
    cursor.end()
    with pytest.raises(ProtocolError, match="extra"):
        Cursor(command("NOOP", b"x")).end()


def test_errors_never_quote_the_client() -> None:
    for rule, octets in BAD:
        with pytest.raises(ProtocolError) as caught:
            read_all(rule, octets.replace(b"x", b"SECRET"))
        assert "SECRET" not in caught.value.text


# -- FETCH and STORE ---------------------------------------------------------------------------

FETCHES: list[tuple[bytes, list[object]]] = [
    (b"1 FLAGS", [Item.FLAGS]),
    (b"1 (FLAGS)", [Item.FLAGS]),
    (b"1 fast", [Item.FLAGS, Item.INTERNALDATE, Item.SIZE]),
    (b"1 ALL", [Item.FLAGS, Item.INTERNALDATE, Item.SIZE, Item.ENVELOPE]),
    (b"1 FULL", [Item.FLAGS, Item.INTERNALDATE, Item.SIZE, Item.ENVELOPE, Item.BODY]),
    (b"1 (UID RFC822.SIZE FLAGS UID)", [Item.UID, Item.SIZE, Item.FLAGS]),
    (b"1 BODYSTRUCTURE", [Item.BODYSTRUCTURE]),
    (b"1 BODY", [Item.BODY]),
    (b"1 BODY[]", [BodySection(Section(), None, False, b"BODY[]")]),
    (b"1 BODY.PEEK[]<0.10>", [BodySection(Section(), (0, 10), True, b"BODY[]<0>")]),
    (b"1 RFC822", [BodySection(Section(), None, False, b"RFC822")]),
    (
        b"1 rfc822.header",
        [BodySection(Section((), "HEADER"), None, True, b"RFC822.HEADER")],
    ),
    (b"1 RFC822.TEXT", [BodySection(Section((), "TEXT"), None, False, b"RFC822.TEXT")]),
    (b"1 PREVIEW", [Preview(lazy=False)]),
    (b"1 (PREVIEW FLAGS)", [Preview(lazy=False), Item.FLAGS]),
    (b"1 (preview (lazy) FLAGS)", [Preview(lazy=True), Item.FLAGS]),
    (b"1 PREVIEW (LAZY)", [Preview(lazy=True)]),
    (b"1 (SAVEDATE EMAILID THREADID)", [Item.SAVEDATE, Item.EMAILID, Item.THREADID]),
    (b"1 BINARY[]", [BinarySection((), None, False, b"BINARY[]")]),
    (b"1 binary.peek[1.2]<3.4>", [BinarySection((1, 2), (3, 4), True, b"BINARY[1.2]<3>")]),
    (b"1 (BINARY.SIZE[2])", [BinarySize((2,), b"BINARY.SIZE[2]")]),
    (b"1 BODY[1.2.MIME]", [BodySection(Section((1, 2), "MIME"), None, False, b"BODY[1.2.MIME]")]),
    (b"1 body.peek[text]", [BodySection(Section((), "TEXT"), None, True, b"BODY[TEXT]")]),
    (
        b"1 BODY.PEEK[4.Header.Fields.Not (\"to\" {2}\r\nCc)]",
        [
            BodySection(
                Section((4,), "HEADER.FIELDS.NOT", (b"TO", b"CC")),
                None,
                True,
                b"BODY[4.HEADER.FIELDS.NOT (TO CC)]",
            )
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "want"), FETCHES)
def test_fetch(arguments: bytes, want: list[object]) -> None:
    assert list(parse_fetch(command("FETCH", arguments)).items) == want


CLIENT_FETCHES = {
    "Thunderbird": b"1:* (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject "
    b"Date Message-ID Priority X-Priority References Newsgroups In-Reply-To Content-Type "
    b"Reply-To)])",
    "mutt": b"1:25 (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (DATE FROM SENDER "
    b"SUBJECT TO CC MESSAGE-ID REFERENCES CONTENT-TYPE CONTENT-DESCRIPTION IN-REPLY-TO REPLY-TO "
    b"LINES LIST-POST LIST-SUBSCRIBE LIST-UNSUBSCRIBE X-LABEL X-ORIGINAL-TO)])",
    "mbsync": b"1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (X-TUID Message-Id)])",
    "Roundcube": b"4,7,9 (UID RFC822.SIZE FLAGS INTERNALDATE BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS "
    b"(DATE FROM TO SUBJECT CONTENT-TYPE CC REPLY-TO LIST-POST DISPOSITION-NOTIFICATION-TO)])",
    "offlineimap": b"1 (BODY.PEEK[])",
    "K-9": b"1 (BODY.PEEK[1.1]<0.5120>)",
}


@pytest.mark.parametrize("arguments", CLIENT_FETCHES.values(), ids=CLIENT_FETCHES)
def test_clients_fetch(arguments: bytes) -> None:
    fetch = parse_fetch(command("UID FETCH", arguments))
    assert fetch.items[0] is Item.UID
    assert not fetch.sets_seen


def test_sections_are_named_as_asked() -> None:
    """Some clients look for their own spelling of the field names."""
    fetch = parse_fetch(command("FETCH", b'1 BODY[header.fields ("To"  from)]<3.4>'))
    item = fetch.items[0]
    assert isinstance(item, BodySection)
    assert item.name == b'BODY[HEADER.FIELDS ("TO"  FROM)]<3>'
    assert fetch.sets_seen


@pytest.mark.parametrize(
    "arguments",
    [b"", b"1", b"1 ()", b"1 NONSENSE", b"1 (FLAGS ALL)", b"1 BODY[", b"1 BODY[]<0>",
     b"1 BODY[]<0.0>", b"1 BODY[MIME]", b"1 BODY[0]", b"1 BODY[1.]", b"1 BODY[HEADER.FIELDS]",
     b"1 BODY[1.FOO]", b"1 BODY[HEADER.FIELDS ()]", b"x FLAGS", b"1 FLAGS x", b"1 RFC822[]",
     b"1 PREVIEW ()", b"1 PREVIEW (FUZZY)", b"1 PREVIEW[]", b"1 (PREVIEW (LAZY", b"1 PREVIEW LAZY",
     b"1 BINARY", b"1 BINARY[HEADER]", b"1 BINARY[1", b"1 BINARY[1.MIME]", b"1 BINARY[0]",
     b"1 BINARY.SIZE", b"1 BINARY.SIZE[1]<0.3>", b"1 BINARY[1]<0.0>",
     b"1 BODY.PEEK", b"1 BODY[" + b"1." * 5000 + b"1]", b"1 BODY[]<4294967296.1>"],
)  # fmt: skip
def test_fetch_refuses(arguments: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_fetch(command("FETCH", arguments))


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        (b"1:3 +FLAGS (\\Seen)", (StoreMode.ADD, False, ("\\Seen",))),
        (b"1:3 -flags.silent (\\Seen x)", (StoreMode.REMOVE, True, ("\\Seen", "x"))),
        (b"1:3 FLAGS ()", (StoreMode.REPLACE, False, ())),
        (b"1:3 +FLAGS.SILENT \\Deleted \\Seen", (StoreMode.ADD, True, ("\\Deleted", "\\Seen"))),
    ],
)
def test_store(arguments: bytes, want: tuple[StoreMode, bool, tuple[str, ...]]) -> None:
    assert parse_store(command("STORE", arguments)) == Store(SequenceSet(((1, 3),)), *want)


@pytest.mark.parametrize(
    "arguments",
    [
        b"1 FLAGS",
        b"1 FLAGS.LOUD ()",
        b"1 *FLAGS ()",
        b"1 +FLAGS (\\X)",
        b"1 FLAGS. ()",
        b"1 FLAGS () x",
    ],
)
def test_store_refuses(arguments: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_store(command("STORE", arguments))


# -- LIST, STATUS and the rest -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        (b'"" ""', ListRequest(b"", (b"",))),
        (b'"" "*"', ListRequest(b"", (b"*",))),
        (b'"" *', ListRequest(b"", (b"*",))),
        (b"shared/ %", ListRequest(b"shared/", (b"%",))),
        (
            b'(SUBSCRIBED) "" "*"',
            ListRequest(b"", (b"*",), frozenset({"SUBSCRIBED"}), extended=True),
        ),
        (b'() "" (INBOX "a/%")', ListRequest(b"", (b"INBOX", b"a/%"), extended=True)),
        (
            b'(SUBSCRIBED RECURSIVEMATCH) "" "*"',
            ListRequest(b"", (b"*",), frozenset({"SUBSCRIBED", "RECURSIVEMATCH"}), extended=True),
        ),
        (
            b'"" "*" RETURN (SPECIAL-USE subscribed STATUS (MESSAGES UNSEEN) MYRIGHTS)',
            ListRequest(
                b"",
                (b"*",),
                returns=frozenset({"SPECIAL-USE", "SUBSCRIBED", "STATUS", "MYRIGHTS"}),
                status=("MESSAGES", "UNSEEN"),
                extended=True,
            ),
        ),
        (b'"" "%" RETURN ()', ListRequest(b"", (b"%",), extended=True)),
    ],
)
def test_list(arguments: bytes, want: ListRequest) -> None:
    assert parse_list(command("LIST", arguments)) == want


@pytest.mark.parametrize(
    "arguments",
    [b"", b'""', b'"" ()', b'(RECURSIVEMATCH) "" *', b'(REMOTE RECURSIVEMATCH) "" *',
     b'(NONSENSE) "" *', b'"" * RETURN (NONSENSE)', b'"" * RETURN', b'"" * x',
     b'"" * RETURN (STATUS ())', b'"" * RETURN (STATUS (NONSENSE))', b'"" * RETURN () x'],
)  # fmt: skip
def test_list_refuses(arguments: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_list(command("LIST", arguments))


def test_lsub_and_status() -> None:
    assert parse_lsub(command("LSUB", b'"" "*"')) == ListRequest(b"", (b"*",))
    status = parse_status(command("STATUS", b"inbox (MESSAGES uidnext MESSAGES)"))
    assert status == StatusRequest(b"INBOX", ("MESSAGES", "UIDNEXT"))
    for arguments in (b"INBOX", b"INBOX ()", b"INBOX (SIZES)", b"INBOX MESSAGES"):
        with pytest.raises(ProtocolError):
            parse_status(command("STATUS", arguments))


def test_append_heads() -> None:
    assert parse_append_head(command("APPEND", b"")) is None
    assert parse_append_head(command("APPEND", b"inbox ")) == AppendHead(b"INBOX", (), None)
    head = parse_append_head(
        command("APPEND", b'{1}\r\nx (\\seen $A) "17-Jul-1996 02:44:25 +0000" ')
    )
    when = datetime(1996, 7, 17, 2, 44, 25, tzinfo=timezone(timedelta(0)))
    assert head == AppendHead(b"x", ("\\Seen", "$A"), when)
    for arguments in (b"x", b"x y ", b"x (\\Seen)", b'x "yesterday" ', b"x (\\Seen) (\\Seen) "):
        with pytest.raises(ProtocolError):
            parse_append_head(command("APPEND", arguments))


def test_id_create_enable() -> None:
    assert parse_id(command("ID", b"NIL")) == {}
    assert parse_id(command("ID", b'("Name" "mutt" "os" NIL)')) == {b"name": b"mutt", b"os": None}
    for arguments in (b"", b"x", b'("name")', b'(NIL "x")', b'("name" "' + b"x" * 1025 + b'")'):
        with pytest.raises(ProtocolError):
            parse_id(command("ID", arguments))
    assert parse_create(command("CREATE", b"a/b")) == CreateRequest(b"a/b")
    assert parse_create(command("CREATE", b"x (USE (\\Sent \\Drafts))")) == CreateRequest(
        b"x", ("\\Sent", "\\Drafts")
    )
    assert parse_enable(command("ENABLE", b"condstore X-Y")) == ("CONDSTORE", "X-Y")
    with pytest.raises(ProtocolError):
        parse_enable(command("ENABLE", b""))


PARSERS: list[Callable[[Command], object]] = [
    parse_fetch, parse_store, parse_list, parse_lsub, parse_status, parse_append_head, parse_id,
    parse_create, parse_enable, parse_search, lambda command: parse_returning(Cursor(command)),
]  # fmt: skip
WORDS = st.sampled_from(
    [b"(", b")", b" ", b'"', b"\\", b"{3}\r\n", b"{0}\r\n", b"NIL", b"1:*", b"FLAGS", b"BODY[",
     b"]", b"HEADER.FIELDS", b"<0.1>", b"RETURN", b"STATUS", b"SUBSCRIBED", b"OR", b"NOT", b"SINCE",
     b"1-Jan-2020", b"CHARSET", b"UTF-8", b"PARTIAL", b"1:2", b"$", b"UID",
     b"SUBJECT", b"INBOX", b"\\Seen", b"\xff", b"\r\n"]
)  # fmt: skip


@given(st.lists(WORDS | st.binary(max_size=4), max_size=12))
@settings(max_examples=300)
def test_garbage_is_a_value_or_a_protocol_error(words: list[bytes]) -> None:
    for glue in (b"", b" "):
        for parse in PARSERS:
            with contextlib.suppress(ProtocolError):
                parse(command("X", glue.join(words)))


@pytest.mark.parametrize("items", [b"1 FLAGS", b"1:3 (FLAGS BODY[]) (CHANGEDSINCE 5)"])
def test_asking_again_is_asking_the_same(items: bytes) -> None:
    """What was understood of other messages, or of UIDs, is not taken for this."""
    first = parse_fetch(Command("a", "FETCH", items))
    by_uid = parse_fetch(Command("a", "UID FETCH", items))
    other = parse_fetch(Command("b", "FETCH", b"7" + items[items.index(b" ") :]))
    assert parse_fetch(Command("c", "FETCH", items)) == first
    assert parse_fetch(Command("c", "UID FETCH", items)) == by_uid
    assert by_uid.items == (Item.UID, *first.items)
    assert other.messages != first.messages
    assert other.items == first.items
