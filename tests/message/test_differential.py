"""The same messages described by Dovecot and by us, octet for octet."""

from collections.abc import Iterator

import pytest

from imap.wire import Command
from imap.wire.fetch import BodySection, parse_fetch
from sharefs.message import (
    body,
    bodystructure,
    crlf,
    envelope,
    matches_body,
    matches_header,
    matches_text,
    parse,
    section,
    sent_day,
    virtual_size,
)
from tests.message.corpus import BROKEN, SEARCHED, WELL_FORMED
from tests.message.oracle import Oracle, oracle

pytestmark = [pytest.mark.dovecot, pytest.mark.superuser]

CORPUS = WELL_FORMED | BROKEN
NUMBERS = {name: number for number, name in enumerate(CORPUS, start=1)}

# Where we follow the RFC and Dovecot 2.3.19 does not: what is asked for -> why.
EXCEPTIONS = {
    ("dotted phrase", "ENVELOPE"): "RFC 5322 4.4: white space around dots of a local part",
    ("address <a . b@c.d>", "ENVELOPE"): "the same",
    ("address a . b@c.d", "ENVELOPE"): "the same",
    ("RFC 2231 continuations", "BODY"): "title* becomes title*2*: a number left over",
    ("RFC 2231 continuations", "BODYSTRUCTURE"): "the same",
    ("NUL", "ENVELOPE"): "NUL in an address",
    **{
        (f"type {text}", item): "RFC 2045 5.2: broken types are text/plain, not empty strings"
        for text in ("text", "text/", "/plain", "text plain", "", "application", "text/plain (open")
        for item in ("BODY", "BODYSTRUCTURE")
    },
}

PARTS = ["1", "2", "3", "4", "9", "1.1", "1.2", "2.1", "2.2", "1.1.1", "2.1.1", "2.2.1", "1.1.1.1"]
SECTIONS = [
    *("", "HEADER", "TEXT", "HEADER.FIELDS (Subject to X-None)", "HEADER.FIELDS (none)"),
    "HEADER.FIELDS.NOT (subject From Content-Type)",
    *PARTS,
    *(
        f"{part}.{text}"
        for part in PARTS
        for text in ("MIME", "HEADER", "TEXT", "HEADER.FIELDS (Subject)")
    ),
]


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Oracle]:
    with oracle(list(CORPUS.values())) as server:
        yield server


@pytest.mark.parametrize("name", CORPUS)
def test_structure_is_dovecots(dovecot: Oracle, name: str) -> None:
    octets = CORPUS[name]
    part = parse(octets)
    got = {
        "ENVELOPE": envelope(part),
        "BODY": body(part),
        "BODYSTRUCTURE": bodystructure(part),
        "RFC822.SIZE": b"%d" % virtual_size(octets),
    }
    want = {item: dovecot.fetch(NUMBERS[name], item.encode()) for item in got}
    differs = {item for item in got if got[item] != want[item]}
    assert {(name, item) for item in differs} == {key for key in EXCEPTIONS if key[0] == name}, (
        got,
        want,
    )


@pytest.mark.parametrize("name", [*WELL_FORMED, *(name for name in BROKEN if " " not in name)])
def test_sections_are_dovecots(dovecot: Oracle, name: str) -> None:
    octets = CORPUS[name]
    part = parse(octets)
    for text in SECTIONS:
        for partial in ("", "<3.7>", "<100000.5>"):
            item = f"BODY.PEEK[{text}]{partial}".encode()
            asked = parse_fetch(Command("a", "FETCH", b"1 " + item)).items[0]
            assert isinstance(asked, BodySection)
            got = section(octets, part, asked.section, asked.partial) or b""
            want = dovecot.section(NUMBERS[name], item)
            assert got.replace(b"\0", b"\x80") == want, item


def test_bare_lf_makes_no_difference() -> None:
    for octets in CORPUS.values():
        if b"\r" not in octets.replace(b"\r\n", b""):
            bare = octets.replace(b"\r\n", b"\n")
            assert crlf(bare) == octets
            assert virtual_size(bare) == len(octets)


BODY_KEYS = [
    "preamblia", "epiloguia", "mimehead", "filename.bin", "binarytext", "innersubj", "innerfield",
    "innerbody", "straße", "STRAßE", "NAÏVE", "naive", "onetwo", "line break", "--b", "<b>ht",
    "bht", "grüß", "latin gr", "GRÜ", "",
]  # fmt: skip
TEXT_KEYS = [
    "subject: no", "subject:", "mimehead", "filename.bin", "mime-version", "binarytext",
    "innersubj", "innerfield", "", "grü",
]  # fmt: skip
# Not white space runs: Dovecot's answer depends on whether the field is in its cache.
HEADER_KEYS = [
    ("From", "Doe, John"), ("From", '"Doe'), ("From", 'John" <joe'), ("To", "ann"),
    ("To", "Ann Comment"), ("Subject", "grüße folded"), ("Subject", "GRÜßE"),
    ("X-Empty", ""), ("Subject", ""), ("X-None", ""), ("X-Mimehead", "mime"),
    ("Content-Type", "multipart"), ("Subject", "ü"),
]  # fmt: skip
DAYS = ["1-Jan-1970", "2-Nov-2020", "3-Nov-2020", "1-Dec-2021", "5-Mar-1999"]


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def test_searches_are_dovecots() -> None:
    parts = [parse(octets) for octets in SEARCHED]
    got: dict[str, set[int]] = {}
    for text in BODY_KEYS:
        got[f"BODY {quoted(text)}"] = {
            number
            for number, octets in enumerate(SEARCHED, start=1)
            if matches_body(octets, parts[number - 1], text)
        }
    for text in TEXT_KEYS:
        got[f"TEXT {quoted(text)}"] = {
            number
            for number, octets in enumerate(SEARCHED, start=1)
            if matches_text(octets, parts[number - 1], text)
        }
    for field, text in HEADER_KEYS:
        got[f"HEADER {field} {quoted(text)}"] = {
            number
            for number, part in enumerate(parts, start=1)
            if matches_header(part.header, field, text)
        }
    for day in DAYS:
        got[f"SENTON {day}"] = {
            number
            for number, part in enumerate(parts, start=1)
            if f"{sent_day(part.header):%-d-%b-%Y}" == day
        }
    with oracle(SEARCHED) as server:
        want = {keys: server.search(keys) for keys in got}
    assert got == want
