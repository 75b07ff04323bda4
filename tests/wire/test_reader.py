"""The command reader: split points never matter, limits hold, garbage stays harmless."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imap.wire import (
    NEED_DATA,
    Command,
    CommandReader,
    Limits,
    LiteralData,
    LiteralWanted,
    ProtocolError,
)
from imap.wire.events import Event

SMALL = Limits(line=60, literal=20, command=90, append=50)


def drain(reader: CommandReader) -> list[Event | tuple[str, str | None, bool]]:
    """Events until more is needed.  APPEND messages are streamed, other literals accepted."""
    events: list[Event | tuple[str, str | None, bool]] = []
    while True:
        try:
            event = reader.next_event()
            if event is NEED_DATA:
                return events
            events.append(event)
            if isinstance(event, LiteralWanted):
                if event.so_far.name == "REFUSE":
                    reader.refuse()
                elif event.so_far.name == "APPEND":
                    reader.stream()
                else:
                    reader.accept()
        except ProtocolError as error:
            events.append((error.text, error.tag, error.fatal))
            if error.fatal:
                return events


def joined(
    events: list[Event | tuple[str, str | None, bool]],
) -> list[Event | tuple[str, str | None, bool]]:
    """Streamed octets in one event, however they were cut."""
    result: list[Event | tuple[str, str | None, bool]] = []
    for event in events:
        before = result[-1] if result else None
        if isinstance(event, LiteralData) and isinstance(before, LiteralData) and not before.last:
            result[-1] = LiteralData(before.octets + event.octets, event.last)
        else:
            result.append(event)
    return result


def events_of(*pieces: bytes) -> list[Event | tuple[str, str | None, bool]]:
    reader = CommandReader(SMALL)
    events = []
    for piece in pieces:
        reader.feed(piece)
        events += drain(reader)
        if events and isinstance(events[-1], tuple) and events[-1][2]:
            break
    return joined(events)


def wanted(
    size: int, sync: bool, tag: str, name: str, arguments: bytes = b"", *, binary: bool = False
) -> LiteralWanted:
    return LiteralWanted(size, sync, Command(tag, name, arguments), binary)


TRANSCRIPTS: dict[str, tuple[bytes, list[object]]] = {
    "plain": (b"a NOOP\r\n", [Command("a", "NOOP")]),
    "lower case": (b"a1 noop\r\n", [Command("a1", "NOOP")]),
    "bare LF": (b"a NOOP\nb NOOP\r\n", [Command("a", "NOOP"), Command("b", "NOOP")]),
    "trailing space": (b"a NOOP \r\n", [Command("a", "NOOP")]),
    "pipelined": (
        b"a SELECT INBOX\r\nb UID FETCH 1 FLAGS\r\nc IDLE\r\n",
        [
            Command("a", "SELECT", b"INBOX"),
            Command("b", "UID FETCH", b"1 FLAGS"),
            Command("c", "IDLE"),
        ],
    ),
    "literals": (
        b'a LOGIN {3}\r\nbob {4+}\r\ns"\n!\r\nb NOOP\r\n',
        [
            wanted(3, True, "a", "LOGIN"),
            wanted(4, False, "a", "LOGIN", b"{3}\r\nbob "),
            Command("a", "LOGIN", b'{3}\r\nbob {4}\r\ns"\n!'),
            Command("b", "NOOP"),
        ],
    ),
    "literal holds an announcement": (
        b"a LIST {6+}\r\n{3+}\r\n x\r\n",
        [wanted(6, False, "a", "LIST"), Command("a", "LIST", b"{6}\r\n{3+}\r\n x")],
    ),
    "empty literal": (
        b"a LIST {0+}\r\n x\r\n",
        [wanted(0, False, "a", "LIST"), Command("a", "LIST", b"{0}\r\n x")],
    ),
    "announcement inside the line": (b"a X {3} y\r\n", [Command("a", "X", b"{3} y")]),
    "append": (
        b"a APPEND x (\\Seen) {7+}\r\nab\r\n\0cd\r\nb NOOP\r\n",
        [
            wanted(7, False, "a", "APPEND", b"x (\\Seen) "),
            LiteralData(b"ab\r\n\0cd", True),
            Command("a", "APPEND"),
            Command("b", "NOOP"),
        ],
    ),
    "append nothing": (
        b"a APPEND x {0}\r\n\r\n",
        [wanted(0, True, "a", "APPEND", b"x "), LiteralData(b"", True), Command("a", "APPEND")],
    ),
    "append two": (
        b"a APPEND x {1+}\r\n1 (\\Seen) {1+}\r\n2\r\n",
        [
            wanted(1, False, "a", "APPEND", b"x "),
            LiteralData(b"1", True),
            wanted(1, False, "a", "APPEND", b" (\\Seen) "),
            LiteralData(b"2", True),
            Command("a", "APPEND"),
        ],
    ),
    "append binary": (
        b"a APPEND x ~{3+}\r\n\0\xff\n ~{1}\r\n2\r\n",
        [
            wanted(3, False, "a", "APPEND", b"x ", binary=True),
            LiteralData(b"\0\xff\n", True),
            wanted(1, True, "a", "APPEND", b" ", binary=True),
            LiteralData(b"2", True),
            Command("a", "APPEND"),
        ],
    ),
    "a tilde that ends a word": (
        b"a LIST x~{1+}\r\n2\r\n",
        [wanted(1, False, "a", "LIST", b"x~"), Command("a", "LIST", b"x~{1}\r\n2")],
    ),
    "append over the limit, waiting": (
        b"a APPEND x {51}\r\nb NOOP\r\n",
        [
            wanted(51, True, "a", "APPEND", b"x "),
            ("Message too big", "a", False),
            Command("b", "NOOP"),
        ],
    ),
    "append over the limit, not waiting": (
        b"a APPEND x {51+}\r\n",
        [wanted(51, False, "a", "APPEND", b"x "), ("Literal too big", "a", True)],
    ),
    "refused, waiting": (
        b"a REFUSE {3}\r\nb NOOP\r\n",
        [wanted(3, True, "a", "REFUSE"), Command("b", "NOOP")],
    ),
    "refused, not waiting": (
        b"a REFUSE {3+}\r\n\r\n\n more {5+}\r\na b\r\n and {3}\r\nb NOOP\r\n",
        [wanted(3, False, "a", "REFUSE"), Command("b", "NOOP")],
    ),
    "literal over the limit": (
        b"a LOGIN {21+}\r\n" + b"x" * 21 + b" y\r\nb NOOP\r\n",
        [
            wanted(21, False, "a", "LOGIN"),
            ("Literal too big", "a", False),
            Command("b", "NOOP"),
        ],
    ),
    "command over the limit": (
        b"a X {20+}\r\n" + b"1" * 20 + b" {20+}\r\n" + b"2" * 20 + b" {20+}\r\n" + b"3" * 20
        + b" {5+}\r\n44444\r\nb NOOP\r\n",
        [
            wanted(20, False, "a", "X"),
            wanted(20, False, "a", "X", b"{20}\r\n" + b"1" * 20 + b" "),
            wanted(
                20, False, "a", "X", b"{20}\r\n" + b"1" * 20 + b" {20}\r\n" + b"2" * 20 + b" "
            ),
            wanted(
                5, False, "a", "X",
                b"{20}\r\n" + b"1" * 20 + b" {20}\r\n" + b"2" * 20 + b" {20}\r\n" + b"3" * 20
                + b" ",
            ),
            ("Literal too big", "a", False),
            Command("b", "NOOP"),
        ],
    ),
    "line at the limit": (
        b"a X " + b"y" * 56 + b"\r\n", [Command("a", "X", b"y" * 56)],
    ),
    "line over the limit": (
        b"a X " + b"y" * 57 + b"\r\nb NOOP\r\n",
        [("Command line too long", "a", False), Command("b", "NOOP")],
    ),
    "line over the limit with literals": (
        b"a X " + b"y" * 990 + b" {3+}\r\n\r\n\n z\r\nb NOOP\r\n",
        [("Command line too long", "a", False), Command("b", "NOOP")],
    ),
    "empty": (b"\r\nb NOOP\r\n", [("Empty command", None, False), Command("b", "NOOP")]),
    "tag alone": (
        b"a\r\nb NOOP\r\n",
        [("Missing or invalid command name", "a", False), Command("b", "NOOP")],
    ),
    "UID alone": (b"a UID\r\n", [("Missing or invalid command name", "a", False)]),
    "bad tag": (b"+ NOOP\r\n", [("Invalid tag", None, False)]),
    "bad tag, then literal": (
        b"* LOGIN {5+}\r\na b\r\n {1+}\r\nx\r\nb NOOP\r\n",
        [("Invalid tag", None, False), Command("b", "NOOP")],
    ),
    "NUL": (
        b"a LOGIN a\0 b\r\nb NOOP\r\n",
        [("NUL in command", "a", False), Command("b", "NOOP")],
    ),
    "8-bit": (b'a LOGIN "\xe9" x\r\n', [Command("a", "LOGIN", b'"\xe9" x')]),
    "literal beyond reason": (
        b"a X {99999999999999999999}\r\n", [("Literal size invalid", None, True)],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("octets", "want"), TRANSCRIPTS.values(), ids=TRANSCRIPTS)
def test_split_points_never_matter(octets: bytes, want: list[object]) -> None:
    assert events_of(octets) == want
    assert events_of(*(octets[at : at + 1] for at in range(len(octets)))) == want
    for cut in range(len(octets)):
        assert events_of(octets[:cut], octets[cut:]) == want


GOES_ON = {name: case for name, case in TRANSCRIPTS.items() if isinstance(case[1][-1], Command)}


@pytest.mark.parametrize(("octets", "want"), GOES_ON.values(), ids=GOES_ON)
def test_trailing_data_waits(octets: bytes, want: list[object]) -> None:
    assert events_of(octets + b"z CAPABIL") == want


WORDS = st.sampled_from(
    [b"a", b" ", b"\r\n", b"\n", b"{3}", b"{3+}", b"{99999+}", b"NOOP", b"APPEND", b"UID", b"\0",
     b'"', b"REFUSE", b"x" * 70, b"{0+}", b"{5", b"\xff"]
)  # fmt: skip


@given(st.lists(WORDS | st.binary(max_size=12), max_size=30), st.integers(1, 7))
@settings(max_examples=300)
def test_garbage_is_events_or_errors_however_cut(words: list[bytes], step: int) -> None:
    octets = b"".join(words)
    whole = events_of(octets)
    assert events_of(*(octets[at : at + step] for at in range(0, len(octets), step))) == whole


def test_a_long_line_is_not_kept_while_it_is_skipped() -> None:
    reader = CommandReader(SMALL)
    for _ in range(1000):
        reader.feed(b"x" * 100)
        drain(reader)
        assert len(reader.take_unread()) < 100


def test_a_huge_message_passes_in_pieces() -> None:
    reader = CommandReader()
    reader.feed(b"a APPEND x {10000000+}\r\n")
    assert drain(reader) == [wanted(10_000_000, False, "a", "APPEND", b"x ")]
    passed = 0
    for _ in range(100):
        reader.feed(b"y" * 100_000)
        events = drain(reader)
        passed += sum(len(event.octets) for event in events if isinstance(event, LiteralData))
    assert passed == 10_000_000
    reader.feed(b"\r\n")
    assert drain(reader) == [Command("a", "APPEND")]


def test_an_abandoned_message_is_skipped_with_its_command() -> None:
    reader = CommandReader()
    reader.feed(b"a APPEND x {10+}\r\n123")
    drain(reader)
    reader.abandon()
    reader.feed(b"4567890 {4+}\r\nz N\n\r\nb NOOP\r\n")
    assert drain(reader) == [Command("b", "NOOP")]


def test_a_message_abandoned_at_its_last_octet_is_answered_once() -> None:
    reader = CommandReader()
    reader.feed(b"a APPEND x {3+}\r\n123")
    drain(reader)
    reader.abandon()
    reader.feed(b"\r\nb NOOP\r\n")
    assert drain(reader) == [Command("b", "NOOP")]


def test_raw_lines_for_sasl_and_done() -> None:
    reader = CommandReader(SMALL)
    reader.feed(b"a AUTHENTICATE PLAIN\r\nAGJv")
    assert drain(reader) == [Command("a", "AUTHENTICATE", b"PLAIN")]
    assert reader.next_line() is NEED_DATA
    reader.feed(b"Yg==\r\nDONE\nb NOOP\r\n")
    assert reader.next_line() == b"AGJvYg=="
    assert reader.next_line() == b"DONE"
    assert drain(reader) == [Command("b", "NOOP")]
    reader.feed(b"x" * 61)
    with pytest.raises(ProtocolError) as caught:
        reader.next_line()
    assert caught.value.fatal


def test_unread_octets_can_be_taken_along() -> None:
    reader = CommandReader()
    reader.feed(b"a LOGIN bob x\r\nb SELECT INB")
    assert reader.next_event() == Command("a", "LOGIN", b"bob x")
    assert reader.take_unread() == b"b SELECT INB"
    assert reader.next_event() is NEED_DATA


def test_a_literal_must_be_decided_on() -> None:
    reader = CommandReader()
    reader.feed(b"a LOGIN {3}\r\n")
    reader.next_event()
    with pytest.raises(RuntimeError):
        reader.next_event()


def test_octet_by_octet_is_linear() -> None:
    """A line of 60 KiB in single octets: a quadratic search for its end would take minutes."""
    reader = CommandReader()
    line = b"a SEARCH UID " + b"1," * 30_000 + b"1\r\n"
    for octet in line[:-1]:
        reader.feed(bytes((octet,)))
        assert reader.next_event() is NEED_DATA
    reader.feed(b"\n")
    assert isinstance(reader.next_event(), Command)


def test_error_response_lines() -> None:
    assert ProtocolError("No", tag="a").response() == b"a BAD No\r\n"
    assert ProtocolError("No").response() == b"* BAD No\r\n"
    assert ProtocolError("No", tag="a", fatal=True).response() == b"* BYE No\r\n"
    error = ProtocolError("No", tag="a", condition="NO", code="TOOBIG")
    assert error.response() == b"a NO [TOOBIG] No\r\n"
