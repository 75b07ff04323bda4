"""Octets that no client sends, before and after login: an error for that client alone."""

import socket
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.robust.world import UIDS, World, append, make_maildir, message, ok
from tests.service.clients import Talk, talk
from tests.support.server import PATIENCE

pytestmark = [pytest.mark.superuser, pytest.mark.slow]

MB = 1 << 20
KEYWORDS = b" ".join(b"k%d" % number for number in range(5_000))

# What is sent, and whether the connection must live on.
GARBAGE = {
    "literal+ of 4 GB": (b"a SELECT {4294967295+}\r\n", False),
    "literal of 4 GB": (b"a SELECT {4294967295}\r\n", True),
    "literal of 20 digits": (b"a SELECT {99999999999999999999}\r\n", False),
    "literal+ of 20 digits": (b"a SELECT {99999999999999999999+}\r\n", False),
    "append of 20 digits": (b"a APPEND INBOX {99999999999999999999}\r\n", False),
    "append of 4 GB": (b"a APPEND INBOX {4294967296}\r\n", True),
    "append of 16 EB": (b"a APPEND INBOX {18446744073709551615}\r\n", False),
    "negative literal": (b"a SELECT {-1}\r\n", True),
    "literal without number": (b"a SELECT {}\r\n", True),
    "many literals": (b"a SEARCH " + b"SUBJECT {1+}\r\nx " * 100_000 + b"\r\n", True),
    "100k parentheses": (b"a SEARCH " + b"(" * 100_000 + b"\r\n", True),
    "60k parentheses": (b"a SEARCH " + b"(" * 60_000 + b"ALL" + b")" * 60_000 + b"\r\n", True),
    "20k NOT": (b"a SEARCH " + b"NOT " * 10_000 + b"ALL\r\n", True),
    "10k OR": (b"a SEARCH " + b"OR ALL " * 5_000 + b"ALL\r\n", True),
    "parentheses in FETCH": (b"a FETCH 1 " + b"(" * 30_000 + b"\r\n", True),
    "parentheses in STATUS": (b"a STATUS INBOX " + b"(" * 30_000 + b"\r\n", True),
    "parentheses in ID": (b"a ID " + b"(" * 30_000 + b"\r\n", True),
    "parentheses in LIST": (b'a LIST "" ' + b"(" * 30_000 + b"\r\n", True),
    "long sequence set": (b"a FETCH " + b"1," * 30_000 + b"1 FLAGS\r\n", True),
    "huge numbers": (b"a FETCH 1:" + b"9" * 5_000 + b" FLAGS\r\n", True),
    "zero": (b"a FETCH 0 FLAGS\r\n", True),
    "part numbers": (b"a FETCH 1 BODY[" + b"1." * 20_000 + b"1]\r\n", True),
    "partial": (b"a FETCH 1 BODY[]<4294967295.4294967295>\r\n", True),
    "wildcards": (b'a LIST "" "' + b"%*" * 20_000 + b'"\r\n', True),
    "wildcards between": (b'a LIST "" "' + b"*a" * 3_000 + b'"\r\n', True),
    "line of 1 MB": (b"a NOOP " + b"x" * MB + b"\r\n", True),
    "line of 1 MB without tag": (b" " * MB + b"\r\n", True),
    "tag of 1 MB": (b"a" * MB + b" NOOP\r\n", True),
    "quoted without end": (b'a SELECT "INBOX\r\n', True),
    "backslash at the end": (b'a SELECT "INBOX\\\r\n', True),
    "binary": (bytes(range(256)) * 40 + b"\r\n", True),
    "NULs": (b"\0" * 10_000 + b"\r\n", True),
    "carriage returns": (b"\r" * 5_000 + b"\n", True),
    "empty lines": (b"\r\n" * 10, True),
    "half a tag": (b"a\r\n", True),
    "high octets in a command": (b"a \xff\xfe\xfd\r\n", True),
    "format string": (b"a %s%s%n %s\r\n", True),
    "other protocols": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", True),
    "charset": (b"a SEARCH CHARSET " + b"x" * 5_000 + b" TEXT y\r\n", True),
    "charset of python": (b"a SEARCH CHARSET rot13 TEXT y\r\n", True),
    "bad charset octets": (b"a SEARCH CHARSET UTF-8 TEXT {2+}\r\n\xc3(\r\n", True),
    "bad date": (b"a SEARCH BEFORE 31-Feb-99999\r\n", True),
    "year zero": (b'a APPEND INBOX "01-Jan-0000 00:00:00 +0000" {1+}\r\nx\r\n', True),
    "date beyond time_t": (b'a APPEND INBOX "31-Dec-9999 23:59:59 -9959" {1+}\r\nx\r\n', True),
    "flags": (b"a STORE 1 +FLAGS (" + b"k" * 20_000 + b")\r\n", True),
    "many keywords": (b"a STORE 1 +FLAGS (%b)\r\n" % KEYWORDS, True),
    "flag that breaks names": (b"a STORE 1 +FLAGS (a/b)\r\n", True),
}  # fmt: skip


@pytest.fixture(scope="module")
def mail(host: World) -> Iterator[World]:
    """alice has one message, and a connection that hears of nothing."""
    root = host.maildir("alice")
    make_maildir(root / ".Big", UIDS["alice"])
    with host.user("alice") as client:
        assert ok(append(client, b"INBOX", message("one")))
        yield host
        assert ok(client.ask(b"a NOOP"))
    host.demand_sound()


@pytest.mark.parametrize(("octets", "lives"), GARBAGE.values(), ids=GARBAGE)
def test_after_login(mail: World, octets: bytes, lives: bool) -> None:
    with mail.user("alice") as other, mail.user("alice") as client:
        assert ok(other.ask(b"a SELECT INBOX"))
        assert ok(client.ask(b"a SELECT INBOX"))
        worker = mail.server.process("sf-imap:alice")  # awake: it had nothing to do between tests
        got = exchange(client, octets)
        assert len(got) < MB
        assert got.endswith(b"y OK NOOP completed.\r\n") == lives, got[-300:]
        assert b"a NO" in got or b" BAD" in got or b"a OK" in got or b"BYE" in got
        assert ok(other.ask(b"a NOOP"))
        assert [one.pid for one in mail.server.processes("sf-imap:alice")] == [worker.pid]


@pytest.mark.parametrize(("octets", "lives"), GARBAGE.values(), ids=GARBAGE)
def test_before_login(mail: World, octets: bytes, lives: bool) -> None:
    with talk(mail.server) as client:
        got = exchange(client, octets)
        assert b"OK NOOP" not in got.split(b"\r\ny OK")[0]
        assert b" BAD" in got or b" NO" in got or b"BYE" in got, got[:300]


def exchange(client: Talk, octets: bytes) -> bytes:
    """What the server says to octets and a NOOP, until it answers that or hangs up."""

    def write() -> None:
        try:
            client.send(octets + b"y NOOP\r\n")
        except OSError:
            return  # it hung up

    thread = threading.Thread(target=write)
    thread.start()
    got = b""
    try:
        client.sock.settimeout(PATIENCE)
        while not got.endswith(b"y OK NOOP completed.\r\n") and (more := client.sock.recv(MB)):
            got += more
    except ConnectionResetError:
        pass
    except TimeoutError:
        raise AssertionError(f"silence after {got[-300:]!r}") from None
    finally:
        client.sock.close()
        thread.join()
    return got


def test_mistakes_now_and_then_are_forgiven_but_nothing_else_is_not(mail: World) -> None:
    with mail.user("alice") as client:
        for _ in range(30):
            assert client.ask(b"a NONSENSE")[-1].startswith(b"a BAD")
            assert ok(client.ask(b"b NOOP"))
        client.send(b"a NONSENSE\r\n" * 30)
        assert b"* BYE Too many invalid commands.\r\n" in client.rest()


def test_octets_one_by_one(mail: World) -> None:
    with mail.user("alice") as other, mail.user("alice") as client:
        for octet in b'a STATUS "INBOX" (MESSAGES)\r\nb STATUS {5}\r\n':
            client.send(bytes((octet,)))
            time.sleep(0.002)
        assert client.line() == b'* STATUS "INBOX" (MESSAGES 1)\r\n'
        assert ok(client.until(b"a "))
        assert ok(other.ask(b"a NOOP"))
        assert client.line().startswith(b"+ ")
        for octet in b"INBOX (UIDNEXT)\r\n":
            client.send(bytes((octet,)))
        assert ok(client.until(b"b "))


def test_a_half_closed_client_gets_its_answers(mail: World) -> None:
    with talk(mail.server) as client:
        client.send(b"a LOGIN alice pass\r\nb SELECT INBOX\r\nc FETCH 1 BODY.PEEK[]\r\n")
        client.sock.shutdown(socket.SHUT_WR)
        got = client.rest()
        assert b"\r\nc OK Fetch completed.\r\n" in got, got


def test_a_client_that_never_reads_keeps_nobody_waiting(mail: World) -> None:
    with mail.user("alice") as filler:
        for _ in range(5):
            assert ok(append(filler, b"Big", b"Subject: big\r\n\r\n" + b"x" * 76 * (20 * MB // 76)))
        worker = mail.server.process("sf-imap:alice")
        process = psutil.Process(worker.pid)
        before = process.memory_info().rss
        with mail.user("alice") as deaf, mail.user("alice") as other, mail.user("bob") as bob:
            assert ok(deaf.ask(b"a SELECT Big"))
            deaf.send(b"b FETCH 1:* BODY.PEEK[]\r\n" * 50)
            assert ok(other.ask(b"a SELECT Big"))
            for number in range(40):
                for client in (other, bob):
                    assert ok(client.ask(b"n NOOP"))
                if number == 20:
                    assert ok(other.ask(b"f FETCH 2 (RFC822.SIZE BODY.PEEK[HEADER])"))
                    assert ok(append(other, b"Big", message("small")))
            grown = process.memory_info().rss - before
            print(f"worker grew by {grown / MB:.0f} MB")
            assert grown < 150 * MB  # a few messages of 20 MB, never 100 MB, nor 50 times that
        assert ok(filler.ask(b"z NOOP"))


def test_answers_that_nobody_reads_do_not_pile_up(mail: World) -> None:
    # Not as a user of the tests before: a worker that still indexes their large messages grows.
    with mail.user("bob") as deaf, mail.user("bob") as other:
        worker = mail.server.process("sf-imap:bob")
        process = psutil.Process(worker.pid)
        deaf.sock.settimeout(2.0)
        before = process.memory_info().rss
        sent = 0
        try:
            for _ in range(2_000):
                deaf.send(b'a LIST "" *\r\nb CAPABILITY\r\n' * 500)
                sent += 500
        except TimeoutError:
            pass  # the server has stopped to read, as it should
        assert sent < 1_000_000
        assert ok(other.ask(b"a NOOP"))
        assert process.memory_info().rss - before < 20 * MB
