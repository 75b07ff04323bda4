"""Tables for each reader in sharefs.message, for hosts without a Dovecot to compare with."""

import subprocess
import sys
from datetime import date

import pytest

from sharefs.message import (
    Spec,
    bodystructure,
    crlf,
    envelope_of,
    find_header_end,
    header_fields,
    header_texts,
    matches_header,
    parse,
    parse_date,
    parse_header,
    section,
    sent_day,
    virtual_size,
)
from sharefs.message.addresses import GROUP_END, Address, parse_addresses
from sharefs.message.decode import (
    decode_base64,
    decode_charset,
    decode_transfer,
    decode_words,
    fold,
)
from sharefs.message.header import fields, unfold_raw
from sharefs.message.imaptext import for_humans, nstring, string, unfolded
from sharefs.message.mimeheader import content_type
from tests.message.corpus import WELL_FORMED


@pytest.mark.parametrize(
    ("octets", "want"),
    [(b"", b""), (b"\n", b"\r\n"), (b"a\r\nb\n", b"a\r\nb\r\n"), (b"a\r", b"a\r"),
     (b"\r\r\n\n\r", b"\r\r\n\r\n\r"), (b"a\r\n", b"a\r\n")],
)  # fmt: skip
def test_crlf(octets: bytes, want: bytes) -> None:
    assert crlf(octets) == want
    assert virtual_size(octets) == len(want)


@pytest.mark.parametrize(
    ("octets", "start", "want"),
    [(b"", 0, 0), (b"\r\nx", 0, 2), (b"A: b\r\n\r\nx", 0, 8), (b"A: b\r\n", 0, 6),
     (b"A: b\r\n \r\n\r\n", 0, 11), (b"A: b\r\n\r\nC: d\r\n\r\nx", 8, 16)],
)  # fmt: skip
def test_header_end(octets: bytes, start: int, want: int) -> None:
    assert find_header_end(octets, start) == want


@pytest.mark.parametrize(
    ("raw", "want"),
    [(b" x", b"x"), (b"\t  x  ", b"x  "), (b"x\r", b"x"), (b"   ", b"  "), (b"", b""),
     (b" a\r\n b\r\n\tc\r", b"a\n b\n\tc"), (b"\r\n late", b"\n late"),
     (b" a\0b", "a\N{REPLACEMENT CHARACTER}b".encode())],
)  # fmt: skip
def test_raw_values(raw: bytes, want: bytes) -> None:
    assert unfold_raw(raw) == want


HEADER = b"From: a\r\nSubject : one\r\n two\r\nno colon\r\nsubject: three\r\nX-Subject: x\r\n\r\n"


def test_fields_in_order() -> None:
    want = [
        (b"From", b"a"),
        (b"Subject", b"one\n two"),
        (b"subject", b"three"),
        (b"X-Subject", b"x"),
    ]
    assert list(fields(HEADER)) == want


@pytest.mark.parametrize(
    ("names", "inverted", "want"),
    [
        ([b"SUBJECT"], False, b"Subject : one\r\n two\r\nsubject: three\r\n\r\n"),
        ([b"x-subject", b"from"], False, b"From: a\r\nX-Subject: x\r\n\r\n"),
        ([b"none"], False, b"\r\n"),
        ([], False, b"\r\n"),
        ([b"(.*"], False, b"\r\n"),
        ([b"subject"], True, b"From: a\r\nno colon\r\nX-Subject: x\r\n\r\n"),
        ([], True, HEADER),
    ],
)
def test_header_fields(names: list[bytes], inverted: bool, want: bytes) -> None:
    assert header_fields(HEADER, names, inverted) == want


def test_header_fields_without_an_end() -> None:
    assert header_fields(b"To: x", [b"to"]) == b"To: x\r\n\r\n"
    assert header_fields(b"To: x\r\nCc: y", [b"to"], inverted=True) == b"Cc: y"


def one(name: str | None, mailbox: str, domain: str, route: str | None = None) -> Address:
    return Address(
        name.encode() if name else None,
        route.encode() if route else None,
        mailbox.encode(),
        domain.encode(),
    )


GROUP = Address(mailbox=b"G")
MISSING = one(None, "MISSING_MAILBOX", "MISSING_DOMAIN")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("", []),
        ("a@b", [one(None, "a", "b")]),
        ("<a@b>", [one(None, "a", "b")]),
        ("A B <a.c@b.d>, x@y", [one("A B", "a.c", "b.d"), one(None, "x", "y")]),
        ('"B, A" <a@b>', [one("B, A", "a", "b")]),
        ('"\\"A\\" \\\\" <a@b>', [one('"A" \\', "a", "b")]),
        ("a@b (Name)", [one("Name", "a", "b")]),
        ("A\n <a@b>,\n c@d", [one("A", "a", "b"), one(None, "c", "d")]),
        ('"a b"@c', [one(None, "a b", "c")]),
        ("a@[1.2.3.4]", [one(None, "a", "[1.2.3.4]")]),
        ("<@x,@y:a@b>", [one(None, "a", "b", "@x,@y")]),
        ("G: a@b, c@d;", [GROUP, one(None, "a", "b"), one(None, "c", "d"), GROUP_END]),
        ("G:;, a@b", [GROUP, GROUP_END, one(None, "a", "b")]),
        ("joe", [one(None, "joe", "MISSING_DOMAIN")]),
        ("<>", [MISSING]),
        ("a@b, , c@d", [one(None, "a", "b"), MISSING, one(None, "c", "d")]),
        ("A <a@b", [one("A", "a", "SYNTAX_ERROR")]),
    ],
)  # fmt: skip
def test_addresses(text: str, want: list[Address]) -> None:
    assert parse_addresses(text.encode()) == want


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (b"text/plain", (b"text", b"plain", ())),
        (b'Text/X; Cs="utf-8"; a=b', (b"Text", b"X", ((b"Cs", b"utf-8"), (b"a", b"b")))),
        (b"a/b (c); x=y (z)", (b"a", b"b", ((b"x", b"y"),))),
        (b"a/b; n*0=x; n*1=y", (b"a", b"b", ((b"n", b"xy"),))),
        (b"a/b; n*1*=%20; n*0*=utf-8''x", (b"a", b"b", ((b"n*", b"utf-8''x%20"),))),
        (b"a/b; n*0=50%; n*1*=%20", (b"a", b"b", ((b"n*", b"''50%25%20"),))),
        (b"a/b; n*0=x; n*2=y", (b"a", b"b", ((b"n*0", b"x"), (b"n*2", b"y")))),
        (b"a/b; N*1=y; n*0=x", (b"a", b"b", ((b"n", b"xy"),))),
        (b"text", (b"text", None, ())),
        (b"", (b"", None, ())),
        (b"a/b; n==?utf-8?q?x?=; c=d", (b"a", b"b", ((b"n", b"=?utf-8?q?x?="), (b"c", b"d")))),
    ],
)  # fmt: skip
def test_content_type(value: bytes, want: object) -> None:
    assert content_type(value) == want


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (b"plain", "plain"),
        (b"=?utf-8?Q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        (b"=?utf-8?B?R3LDvMOfZQ==?= x", "Grüße x"),
        (b"=?utf-8?q?a_b?= =?utf-8?q?c?=", "a bc"),
        (b"=?utf-8?q?a?=\n =?utf-8?q?b?= c", "ab c"),
        (b"=?utf-8?Q?=C3?= =?utf-8?Q?=BC?=", "ü"),
        (b"=?iso-8859-1*en?q?=FC?=", "ü"),
        (b"=?nonsense?q?=C3=BC?=", "ü"),
        (b"=?utf-8?b?R3L?=", "Gr"),
        (b"a\n  b\t c ", "a b c"),
        ("roh ü".encode(), "roh ü"),
        (b"roh \xfc", "roh \N{REPLACEMENT CHARACTER}"),
        (b"=?utf-8?x?y?=", "=?utf-8?x?y?="),
    ],
)
def test_encoded_words(value: bytes, want: str) -> None:
    assert decode_words(value) == want


@pytest.mark.parametrize(
    ("octets", "want"),
    [(b"", b""), (b"YQ==", b"a"), (b"YQ", b"a"), (b"Y", b""), (b"Y W\r\nI=", b"ab"), (b"!", b"")],
)
def test_base64(octets: bytes, want: bytes) -> None:
    assert decode_base64(octets) == want


def test_transfer_and_charset() -> None:
    assert decode_transfer(b"a=20b=\r\nc=C3=BC", b"Quoted-Printable") == "a bcü".encode()
    assert decode_transfer(b"=20", b"x-unknown") == decode_transfer(b"=20", None) == b"=20"
    for charset in (None, b"utf-8", b"us-ascii", b"unheard-of", b"idna", b"hex", b"\0", b"\xff"):
        assert decode_charset("ü".encode(), charset) == "ü"
    assert decode_charset(b"\xfc", b"ISO-8859-1") == "ü"


def test_fold() -> None:
    """i;unicode-casemap (RFC 5051): simple title case, then decomposed, without reordering."""
    assert fold("STRASSE") != fold("Straße") == fold("STRAßE")
    assert fold("Istanbul") == fold("\N{LATIN SMALL LETTER DOTLESS I}stanbul")
    assert fold("ǆ") == fold("Ǆ") == "Dz\N{COMBINING CARON}"
    assert fold("ﬁ") == fold("fi").lower() != fold("fi")  # decomposed after the case is changed
    assert fold("\uff41\uff11") == fold("a1") == "A1"
    assert fold("각") == "\u1100\u1161\u11a8"
    assert fold("\ud800x") == "\ud800X"
    assert fold("a_") < fold("b") < fold("_")  # in title case: "_" comes after letters
    assert fold("Ärger") == fold("A\N{COMBINING DIAERESIS}RGER")
    assert fold("ΟΔΟΣ") == fold("οδος")
    assert fold("x" * 300 + "Ä") == fold("X" * 300 + "ä")


@pytest.mark.parametrize(
    ("value", "day", "seconds"),
    [
        (b"Mon, 2 Nov 2020 23:30:00 -0800", date(2020, 11, 2), 1604388600),
        (b"2 Nov 2020 00:00:00 +0000", date(2020, 11, 2), 1604275200),
        (b"Mon, 02 Nov 2020 00:00 GMT (comment)", date(2020, 11, 2), 1604275200),
        (b"2-Nov-20 01:00:00 +0100", date(2020, 11, 2), 1604275200),
        (b"Sunday, 01 November 1998 05:00 EST", date(1998, 11, 1), 909914400),
        (b"1 Jan 99 00:00:00 Z", date(1999, 1, 1), 915148800),
        (b"1 Jan 100 00:00:00", date(2000, 1, 1), 946684800),
        (b"2 Nov 2020", date(2020, 11, 2), 1604275200),
    ],
)
def test_dates(value: bytes, day: date, seconds: int) -> None:
    got = parse_date(value)
    assert got is not None
    assert (got.day, got.seconds) == (day, seconds)


@pytest.mark.parametrize(
    "value",
    [b"", b"tomorrow", b"31 Feb 2020 00:00:00", b"1 Foo 2020", b"1 Jan 0", b"0 Jan 2020",
     b"(" * 300, b"1 Jan 99999999999999 00:00", b"1 Jan 0001 00:00 +0100",
     b"31 Dec 9999 23:59:60", b"31 Dec 9999 23:00 -0100", b"\xff\0"],
)  # fmt: skip
def test_what_is_no_date(value: bytes) -> None:
    assert parse_date(value) is None
    assert sent_day(b"Date: " + value + b"\r\n\r\n") == date(1970, 1, 1)


@pytest.mark.parametrize(
    ("octets", "want"),
    [
        (b"plain", b'"plain"'),
        (b"", b'""'),
        (b'a "b" \\', b'"a \\"b\\" \\\\"'),
        (b'"""""', b'{5}\r\n"""""'),
        (b"a\r\nb", b"{4}\r\na\r\nb"),
        (b"\xfc", b"{1}\r\n\xfc"),
        (b"a\0", b"{2}\r\na\x80"),
    ],
)
def test_imap_strings(octets: bytes, want: bytes) -> None:
    assert string(octets) == nstring(octets) == want


def test_imap_text_of_headers() -> None:
    assert nstring(None) == unfolded(None) == for_humans(None) == b"NIL"
    assert unfolded(b"a\n b") == b'"a b"'
    assert for_humans(b"a b") == b'"a b"'
    assert for_humans(b"a\n  b ") == b"{3}\r\na b"
    assert for_humans(b'a "b"') == b'{5}\r\na "b"'
    assert for_humans(b"  ") == b'""'


def test_envelope_of_a_bare_header() -> None:
    want = (
        b'(NIL "x" ((NIL NIL "a" "b")) ((NIL NIL "a" "b")) ((NIL NIL "a" "b")) NIL NIL NIL NIL NIL)'
    )
    assert envelope_of(b"From: a@b\r\nSubject: x\r\n\r\n") == want


NESTED = WELL_FORMED["nested"]


@pytest.mark.parametrize(
    ("numbers", "text", "want"),
    [
        ((1, 1), "", b"Gr=C3=BC=C3=9Fe"),
        ((1, 2), "", b"PGI+SGk8L2I+Cg=="),
        ((1,), "MIME", b"Content-Type: multipart/alternative; boundary=inner\r\n"
                       b"Content-ID: <alt@example.org>\r\n\r\n"),
        ((2, 1), "", b"first"),
        ((2, 2), "", b"AAEC"),
        ((2, 1), "MIME", b"\r\n"),
        ((2,), "HEADER.FIELDS", b"Subject: Inside\r\n\r\n"),
        ((3,), "", None),
        ((1, 3), "", None),
        ((1,), "HEADER", None),
        ((2, 1, 2), "", None),
    ],
)  # fmt: skip
def test_sections(numbers: tuple[int, ...], text: str, want: bytes | None) -> None:
    assert section(NESTED, parse(NESTED), Spec(numbers, text, (b"Subject",))) == want


def test_sections_of_the_message_inside() -> None:
    part = parse(NESTED)
    header = section(NESTED, part, Spec((2,), "HEADER"))
    text = section(NESTED, part, Spec((2,), "TEXT"))
    whole = section(NESTED, part, Spec((2,)))
    assert header is not None
    assert text is not None
    assert header.startswith(b"From: Carol")
    assert header + text == whole
    assert section(NESTED, part, Spec((2,)), (6, 5)) == b"Carol"
    assert section(NESTED, part, Spec((2,), "HEADER.FIELDS", (b"to",)), (4, 4)) == b"dave"
    assert section(NESTED, part, Spec(), (10**9, 5)) == b""


def test_structure_of_nothing() -> None:
    want = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)'
    assert bodystructure(parse(b"")) == want


def test_header_search() -> None:
    header = parse_header(
        b"To: =?utf-8?q?J=C3=B6rg?= <j@x.org>\r\nX-A: one\r\nX-A: two\r\n\r\n"
    ).header
    assert header_texts(header, "x-a") == ["one", "two"]
    assert matches_header(header, "to", '"jörg" <j@')
    assert matches_header(header, "x-a", "TWO")
    assert matches_header(header, "x-a", "")
    assert not matches_header(header, "x-b", "")
    assert not matches_header(header, "x-a", "three")


def test_charsets_are_loaded_before_privileges_go() -> None:
    """A worker's user may be unable to read Python's files: unknown charsets read as UTF-8."""
    code = (
        "from sharefs.message import load_charsets, parse, header_texts\n"
        "load_charsets()\n"
        "import sys; sys.path.clear(); sys.path_importer_cache.clear(); sys.meta_path.clear()\n"
        "print(header_texts(b'Subject: =?koi8-r?Q?=D0=D2?= =?shift_jis?B?k/o=?=\\r\\n', 'subject'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['пр日']\n"
