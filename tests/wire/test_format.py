"""Responses: every formatted value is legal, and reads back as what it was."""

import re
from bisect import bisect_left
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imap.wire import Command, CommandReader, Cursor, LiteralWanted, SequenceSet
from imap.wire import format as wire

OCTETS = st.binary(max_size=30) | st.text('"\\ aü{}%*()', max_size=12).map(str.encode)


@given(OCTETS)
def test_strings_read_back(octets: bytes) -> None:
    want = octets.replace(b"\0", b"\x80")
    for form in (wire.string, wire.astring, wire.literal):
        cursor = Cursor.over(form(octets))
        assert cursor.astring() == want
        cursor.end()
    assert Cursor.over(wire.nstring(octets)).nstring() == want


@given(OCTETS)
def test_quoted_is_seven_bit_without_line_ends(octets: bytes) -> None:
    text = wire.string(octets)
    if text.startswith(b'"'):
        assert re.fullmatch(rb'"(?:[^"\\\r\n\0\x80-\xff]|\\["\\])*"', text)
    else:
        assert b"\0" not in text


@given(st.lists(OCTETS, min_size=1, max_size=4))
def test_commands_read_back(arguments: list[bytes]) -> None:
    """What we format as a client would, our reader hands out whole."""
    reader = CommandReader()
    reader.feed(b"a X " + b" ".join(map(wire.astring, arguments)) + b"\r\n")
    while isinstance(event := reader.next_event(), LiteralWanted):
        reader.accept()
    assert isinstance(event, Command)
    cursor = Cursor(event)
    assert cursor.items(cursor.astring) == [text.replace(b"\0", b"\x80") for text in arguments]


@pytest.mark.parametrize(
    ("octets", "want"),
    [
        (b"INBOX", b"INBOX"),
        (b"", b'""'),
        (b"nil", b'"nil"'),
        (b"a b", b'"a b"'),
        (b'a"b\\', b'"a\\"b\\\\"'),
        (b"a%", b'"a%"'),
        (b"\xc3\xbc", b"{2}\r\n\xc3\xbc"),
        (b"a\r\nb", b"{4}\r\na\r\nb"),
        (b"x" * 1001 + b" ", b"{1002}\r\n" + b"x" * 1001 + b" "),
    ],
)
def test_astring(octets: bytes, want: bytes) -> None:
    assert wire.astring(octets) == want


def test_nstring_flags_lines() -> None:
    assert wire.nstring(None) == b"NIL"
    assert wire.flags(("\\Seen", "x")) == b"(\\Seen x)"
    assert wire.flags(()) == b"()"
    assert wire.tagged("a", "OK", "Done") == b"a OK Done\r\n"
    assert wire.tagged("a", "OK", "Done", "READ-ONLY") == b"a OK [READ-ONLY] Done\r\n"
    assert wire.tagged("*", "OK", "x", b"UIDNEXT 5") == b"* OK [UIDNEXT 5] x\r\n"
    assert wire.untagged(b"5", b"EXISTS") == b"* 5 EXISTS\r\n"
    assert wire.continuation() == b"+ OK\r\n"


@pytest.mark.parametrize(
    ("seconds", "offset", "want"),
    [
        (0, 0, b'"01-Jan-1970 00:00:00 +0000"'),
        (837596665, -420, b'"17-Jul-1996 02:44:25 -0700"'),
        (837596665, 330, b'"17-Jul-1996 15:14:25 +0530"'),
        (-1, 0, b'"31-Dec-1969 23:59:59 +0000"'),
        (2**62, 0, b'"31-Dec-9999 23:59:59 +0000"'),
    ],
)
def test_internal_date(seconds: int, offset: int, want: bytes) -> None:
    assert wire.internal_date(seconds, offset) == want


@given(st.integers(-(10**9), 10**10), st.integers(-14 * 60, 14 * 60))
def test_internal_date_reads_back(seconds: int, offset: int) -> None:
    got = Cursor.over(wire.internal_date(seconds, offset)).date_time()
    assert got == datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds)
    assert got.utcoffset() == timezone(timedelta(minutes=offset)).utcoffset(None)


NUMBERS = st.sets(st.integers(1, 300)).map(sorted)


@given(NUMBERS, st.integers(1, 300))
def test_sets_read_back(numbers: list[int], largest: int) -> None:
    if not numbers:
        assert wire.sequence_set(numbers) == b""
        return
    text = wire.sequence_set(numbers)
    got = SequenceSet.parse(text)
    assert got.pick(range(1, 301)) == numbers
    assert got.resolve(largest) == got.ranges
    assert len(got.ranges) == sum(number - 1 not in numbers for number in numbers)
    assert got.beyond(largest) == (numbers[-1] > largest)


RANGES = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=6)


@given(RANGES, st.sets(st.integers(1, 50), min_size=1).map(sorted))
def test_pick_is_what_the_rfc_says(ranges: list[tuple[int, int]], numbers: list[int]) -> None:
    got = SequenceSet(tuple(ranges)).pick(numbers)
    largest = numbers[-1]
    want = {
        number
        for first, last in ranges
        for number in numbers
        if min(first or largest, last or largest)
        <= number
        <= max(first or largest, last or largest)
    }
    assert got == sorted(want)


@pytest.mark.parametrize(
    ("text", "largest", "want"),
    [
        (b"*", 7, ((7, 7),)),
        (b"5:*", 3, ((3, 5),)),
        (b"*:5", 9, ((5, 9),)),
        (b"3:1,2:4", 9, ((1, 4),)),
        (b"1:2,3:4,6", 9, ((1, 4), (6, 6))),
        (b"1:*,5", 0, ((5, 5),)),
    ],
)
def test_resolve(text: bytes, largest: int, want: tuple[tuple[int, int], ...]) -> None:
    assert SequenceSet.parse(text).resolve(largest) == want


def test_nothing_is_picked_from_nothing() -> None:
    assert SequenceSet.parse(b"1:*").pick([]) == []
    assert SequenceSet.of([3, 1]).pick([1, 2, 3]) == [1, 3]


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), max_size=12))
def test_copyuid_keeps_pairs(pairs: list[tuple[int, int]]) -> None:
    def expand(text: bytes) -> list[int]:
        if not text:
            return []
        ranges = SequenceSet.parse(text).ranges
        return [number for first, last in ranges for number in range(first, last + 1)]

    sources, destinations = wire.copyuid(pairs)
    assert list(zip(expand(sources), expand(destinations), strict=True)) == pairs


def test_large_sets_are_quick_enough_to_be_right() -> None:
    """Every second of 50,000: the worst case for ranges."""
    numbers = list(range(1, 100_000, 2))
    text = wire.sequence_set(numbers)
    assert text.count(b",") == len(numbers) - 1
    picked = SequenceSet.parse(text).pick(range(1, 100_001))
    assert picked == numbers
    assert bisect_left(picked, 99_999) == len(picked) - 1
