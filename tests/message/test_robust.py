"""Nothing a message contains makes the parser raise, loop, or take more than linear time."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharefs.message import (
    Part,
    Spec,
    body,
    bodystructure,
    crlf,
    envelope,
    find_header_end,
    header_fields,
    matches_body,
    matches_header,
    matches_text,
    parse,
    section,
    sent_day,
    virtual_size,
)
from sharefs.message.parser import DEPTH_LIMIT, PARTS_LIMIT
from sharefs.message.search import walk

PIECES = st.sampled_from(
    [b"\r\n", b"\r\n\r\n", b"--b\r\n", b"--b--\r\n", b"--bb\r\n", b"--b", b"--c\r\n", b"--",
     b"Content-Type: multipart/mixed; boundary=b\r\n", b"Content-Type: message/rfc822\r\n",
     b"Content-Type: multipart/digest; boundary=\"bb\"\r\n", b"Content-Type: text/plain\r\n",
     b"Content-Type: multipart/mixed; boundary=c\r\n", b"Content-Type: multipart/mixed;\r\n",
     b"Content-Type: multipart/x; boundary=\"\"\r\n", b"MIME-Version: 1.0\r\n", b" folded\r\n",
     b"Content-Disposition: attachment; filename*0*=utf-8''x; filename*1=y\r\n", b"From: ",
     b"To: Group: a@b, \"c\" <d@e>;, (x\r\n", b"Subject: =?utf-8?Q?=C3?= =?x?b?!?=\r\n", b"\0",
     b"Content-Transfer-Encoding: base64\r\n", b"Date: 1 Jan 99999\r\n", b"\xff\xfe", b"text",
     b"Content-Type: text/plain; charset=idna\r\n", b"Content-Type: text/plain; charset=\"\0\"\r\n"]
)  # fmt: skip
MESSAGES = st.lists(PIECES | st.binary(max_size=8), max_size=25).map(b"".join).map(crlf)


def check_spans(part: Part, octets: bytes) -> None:
    """Parts lie inside their parents, in order, without overlap, and their lines are counted."""
    assert 0 <= part.start <= part.body_start <= part.end <= len(octets)
    assert part.header == octets[part.start : part.body_start]
    assert part.body_lines == octets.count(b"\n", part.body_start, part.end)
    at = part.body_start
    for child in part.children:
        assert at <= child.start or child.end == child.start
        assert child.end <= max(part.end, child.start)
        at = child.end
        check_spans(child, octets)


@given(MESSAGES, st.text(max_size=5))
@settings(max_examples=400)
def test_anything_is_a_message(octets: bytes, text: str) -> None:
    part = parse(octets)
    assert (part.start, part.end) == (0, len(octets))
    assert part.body_start == find_header_end(octets)
    check_spans(part, octets)
    for made in (envelope(part), body(part), bodystructure(part)):
        assert b"\0" not in made
        assert made.startswith(b"(")
        assert made.endswith(b")")
    matches_body(octets, part, text)
    matches_text(octets, part, text)
    matches_header(part.header, text, text)
    matches_header(part.header, "To", text)
    sent_day(part.header)
    for numbers in ((), (1,), (2,), (1, 1), (1, 2), (1, 1, 1)):
        for name in ("", "HEADER", "TEXT", "MIME", "HEADER.FIELDS", "HEADER.FIELDS.NOT"):
            section(octets, part, Spec(numbers, name, (b"To", b"X")), (2, 3))


@given(st.binary(max_size=60))
def test_crlf_and_size_agree(octets: bytes) -> None:
    made = crlf(octets)
    assert len(made) == virtual_size(octets)
    assert crlf(made) is made
    assert made.replace(b"\r\n", b"\n").count(b"\n") == octets.count(b"\n")


@given(MESSAGES, st.sets(st.sampled_from([b"from", b"TO", b"Subject", b"Date", b"text"])))
def test_fields_and_the_other_fields_are_all_fields(octets: bytes, names: set[bytes]) -> None:
    header = octets[: find_header_end(octets)]
    with_names = header_fields(header, names)
    without = header_fields(header, names, inverted=True)
    assert with_names.endswith(b"\r\n")
    assert header_fields(with_names, names) == with_names
    assert header_fields(without, names).strip() == b""
    if header.endswith(b"\r\n\r\n"):
        assert len(with_names) + len(without) == len(header) + 2


def nested(levels: int) -> bytes:
    lines = [
        b"Content-Type: multipart/mixed; boundary=b%dx\r\n\r\n--b%dx\r\n" % (level, level)
        for level in range(levels)
    ]
    return b"".join(lines) + b"\r\ninnermost\r\n"


def depth_of(part: Part) -> int:
    return 1 + max((depth_of(child) for child in part.children), default=0)


def test_depth_is_limited() -> None:
    part = parse(nested(5000))
    assert depth_of(part) == DEPTH_LIMIT + 1
    assert bodystructure(part).count(b'"octet-stream"') == 1
    messages = b"Content-Type: message/rfc822\r\n\r\n" * 5000
    assert depth_of(parse(messages)) == DEPTH_LIMIT + 1


def test_parts_are_limited() -> None:
    head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    part = parse(head + b"--b\r\n\r\nx\r\n" * (PARTS_LIMIT + 500) + b"--b--\r\n")
    assert len(list(walk(part))) == PARTS_LIMIT
    assert part.children[-1].size > 4000


MIXED = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
# id -> what grows with n; each has tripped some MIME parser into quadratic time
GROWING: dict[str, Callable[[int], bytes]] = {
    "parts without blank lines": lambda n: MIXED + b"--b\r\nX: y\r\n" * n,
    "lines that are nearly boundaries": lambda n: nested(90) + b"--bx\r\n" * n,
    "empty parts": lambda n: MIXED + b"--b\r\n" * n,
    "one header line": lambda n: b"Subject: " + b"x " * n + b"\r\n\r\n",
    "header line of spaces": lambda n: b" " * n + b"\r\nTo" + b" " * n + b"x\r\n\r\n",
    "many header lines": lambda n: b"To: a\r\n" * n + b"\r\n",
    "many folds": lambda n: b"Content-Type: text/plain;\r\n" + b" a=b;\r\n" * n + b"\r\n",
    "broken parameters": lambda n: b"Content-Type: text/plain" + b";=" * n + b"\r\n\r\n",
    "continued parameters": lambda n: (
        b"Content-Type: a/b" + b"".join(b";n*%d=x" % i for i in range(n)) + b"\r\n\r\n"
    ),
    "open comments": lambda n: b"To: " + b"(" * n + b"\r\n\r\n",
    "open comments in a list": lambda n: b"To: " + b"a (," * n + b"\r\n\r\n",
    "open quotes": lambda n: b'To: "' + b'\\"a,' * n + b"\r\n\r\n",
    "quotes in a list": lambda n: b"To: " + b'"a" b,' * n + b"\r\n\r\n",
    "angles": lambda n: b"To: " + b"<a@b" * n + b"\r\n\r\n",
    "dots": lambda n: b"To: " + b". " * n + b"\r\n\r\n",
    "groups": lambda n: b"To: " + b"a:" * n + b";" * n + b"\r\n\r\n",
    "routes": lambda n: b"To: <" + b"@a," * n + b"\r\n\r\n",
    "encoded words": lambda n: b"Subject: " + b"=?utf-8?q?x" * n + b"\r\n\r\n",
    "good encoded words": lambda n: b"Subject: " + b"=?utf-8?q?x?= " * n + b"\r\n\r\n",
    "base64": lambda n: (
        b"Content-Type: text/x\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b"=A\r\n" * n
    ),
    "idna": lambda n: b"Content-Type: text/x; charset=idna\r\n\r\n" + b"xn--a\xff" * n,
    "rfc822 in rfc822": lambda n: b"Content-Type: message/rfc822\r\n\r\n" * n,
}


def cost(octets: bytes) -> float:
    """Seconds of CPU for everything that is done with one message; the better of two."""
    best = 60.0
    for _ in range(2):
        start = time.process_time()
        part = parse(octets)
        envelope(part)
        bodystructure(part)
        matches_header(part.header, "Subject", "needle")
        matches_header(part.header, "To", "needle")
        matches_text(octets, part, "needle")
        header_fields(part.header, (b"To", b"X-None"), inverted=True)
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.parametrize("grow", GROWING.values(), ids=GROWING)
def test_time_is_linear(grow: Callable[[int], bytes]) -> None:
    """Eight times the size takes about eight times as long; quadratic would be 64 times."""
    small, large = cost(grow(2_000)), cost(grow(16_000))
    assert large < max(20 * small, 0.25), (small, large)
