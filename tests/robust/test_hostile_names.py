"""Mailbox names that mean harm, as octets on the wire and as words on the command line.

Each is refused with NO or BAD, nothing on the disk changes, and the connection goes on.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.robust.world import UIDS, World, make_maildir, message, ok
from tests.service.clients import Talk

pytestmark = pytest.mark.superuser

# The octets of an astring that is sent as a literal.
NAMES = {
    "up": b"..",
    "up and away": b"../../../etc/passwd",
    "one up": b"../x",
    "up within": b"a/../../b",
    "here": b"./a",
    "absolute": b"/etc",
    "other home": b"~root",
    "own home": b"~/x",
    "nul": b"a\0b",
    "cr lf": b"a\r\nz CREATE b",
    "escape": b"a\x1b[2Jb",
    "over-long level": b"a" * 256,
    "over-long": b"/".join([b"a" * 200] * 30),
    "huge": b"a" * 60_000,
    "300 levels": b"/".join([b"a"] * 300),
    "open base64": b"&AOk",
    "bad base64": b"&AO*-",
    "printable in base64": b"&AGEAYg-",
    "lone surrogate": b"&2AA-",
    "null in base64": b"&AAA-",
    "slash in base64": b"a&AC8-b",
    "up in base64": b"&AC4ALg-/x",
    "dot in base64": b"a&AC4-b",
    "utf-8": "é".encode(),
    "latin-1": b"\xe9",
    "layout separator": b"a.b",
    "empty level": b"a//b",
    "owner up": b"shared/../alice/Work",
    "owner absolute": b"shared//etc/Work",
    "owner nul": b"shared/al\0ice/Work",
    "other's up": b"shared/alice/../bob/Work",
    "nobody": b"shared/nobody-of-that-name/Work",
    "public up": b"Public/../home/alice/Maildir/.Work",
    "cur": b"Public/cur/../..",
}
# %b: the literal.
COMMANDS = (
    b"SELECT %b", b"EXAMINE %b", b"CREATE %b", b"DELETE %b", b"RENAME %b New", b"RENAME Work %b",
    b"SUBSCRIBE %b", b"STATUS %b (MESSAGES)", b"GETACL %b", b"SETACL %b carol lr",
    b"DELETEACL %b carol", b"MYRIGHTS %b", b"LISTRIGHTS %b carol", b"COPY 1 %b", b"MOVE 1 %b",
)  # fmt: skip


@pytest.fixture(scope="module")
def bob(host: World) -> Iterator[Talk]:
    for name in ("alice", "bob"):
        make_maildir(host.maildir(name) / ".Work", UIDS[name], messages=[message("one")])
    with host.user("bob") as client:
        assert ok(client.ask(b"a SELECT Work"))
        yield client
        assert ok(client.ask(b"z NOOP"))
    host.demand_sound()


def picture(top: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything below top: mode, owner and content by path."""
    found = {}
    for folder, _, files in os.walk(top):
        for path in [folder, *(os.path.join(folder, name) for name in files)]:
            with contextlib.suppress(FileNotFoundError):  # a journal of an index comes and goes
                status = os.lstat(path)
                content = b"" if path == folder else Path(path).read_bytes()
                found[path] = (status.st_mode, status.st_uid, content)
    return found


def without(
    pattern: re.Pattern[str], found: dict[str, tuple[int, int, bytes]]
) -> dict[str, tuple[int, int, bytes]]:
    return {path: what for path, what in found.items() if not pattern.search(path)}


def literal(octets: bytes) -> bytes:
    return b"{%d+}\r\n%b" % (len(octets), octets)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_over_imap(host: World, bob: Talk, name: bytes) -> None:
    before = picture(host.top)
    for number, command in enumerate(COMMANDS):
        reselect = bob.ask(b"s%d SELECT Work" % number)
        assert ok(reselect)
        answer = bob.ask(b"n%d " % number + command % literal(name))
        assert not ok(answer), (command, answer)
        assert not answer[-1].startswith(b"n%d NO [UNAVAILABLE]" % number), (command, answer)
    for pattern in (name, name + b"*", b"*" + name):
        answer = bob.ask(b"l LIST %b %b" % (literal(b""), literal(pattern)))
        assert len(answer) == 1 or not ok(answer) or name in b"".join(answer[:-1]), answer
        bob.ask(b"l LIST %b *" % literal(name))
        bob.ask(b"l LSUB %b %b" % (literal(name), literal(pattern)))
    bob.ask(b"u UNSUBSCRIBE " + literal(name))
    assert ok(bob.ask(b"a SELECT Work"))
    after = picture(host.top)
    derived = re.compile("dovecot|/sharefs/index/")  # what is kept for the next process among it
    assert without(derived, after) == without(derived, before)
    assert {path for path in after.keys() ^ before.keys() if ".lock" in path} == set()


@pytest.mark.parametrize(
    "name",
    [
        b"..",
        b"../x",
        b"/etc",
        b"~root",
        b"a" * 300,
        b"\xff\xfe",
        b"a\nb",
        b"shared/../alice/x",
        b"",
    ],
)
def test_on_the_command_line(host: World, name: bytes) -> None:
    before = picture(host.top / "home")
    word = os.fsdecode(name)
    got = host.command("mailbox", "create", "-u", "bob", word)
    assert got.returncode not in (0, 1) or got.stderr
    assert got.returncode != 0
    assert "Traceback" not in got.stderr
    assert got.stderr.count("\n") <= 3, got.stderr
    index = re.compile("/sharefs/index/")  # a worker may still be at it, for the tests before
    assert without(index, picture(host.top / "home")) == without(index, before)
