"""What happens to a session when its selected mailbox is taken away under it."""

import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.robust.world import UIDS, World, append, make_maildir, message, ok, status_of
from tests.service.clients import Talk

pytestmark = pytest.mark.superuser

BOX = b"shared/alice/Box"
ACL = "user=bob lrwstipe\n"


def box(host: World) -> Path:
    path = host.maildir("alice") / ".Box"
    if path.exists():
        shutil.rmtree(path)
    return make_maildir(path, UIDS["alice"], ACL, messages=[message("one"), message("two")])


def quiet(client: Talk, seconds: float = 1.2) -> bytes:
    """What comes without asking within so many seconds."""
    before = client.sock.gettimeout()
    client.sock.settimeout(seconds)
    try:
        return client.sock.recv(65536)
    except TimeoutError:
        return b""
    finally:
        client.sock.settimeout(before)


def test_a_revoked_mailbox_tells_nothing(host: World) -> None:
    box(host)
    with (
        host.user("alice") as alice, host.user("bob") as idler, host.user("bob") as asker,
        host.user("bob") as plain,
    ):  # fmt: skip
        for client in (idler, asker, plain):
            assert ok(client.ask(b"s SELECT " + BOX))
        idler.send(b"i IDLE\r\n")
        assert idler.line().startswith(b"+ ")
        assert ok(alice.ask(b"s SELECT Box"))
        assert ok(alice.ask(b"d DELETEACL Box bob"))
        assert ok(append(alice, b"Box", message("SECRET"), b"(\\Flagged) "))
        assert ok(alice.ask(b"x STORE 1 +FLAGS (\\Deleted secretkeyword)"))
        assert ok(alice.ask(b"e EXPUNGE"))
        assert quiet(idler) == b""
        assert plain.ask(b"n NOOP") == [b"n OK NOOP completed.\r\n"]
        for command in (
            b"FETCH 1:* (FLAGS ENVELOPE)", b"UID FETCH 1:* FLAGS", b"SEARCH ALL", b"UID SEARCH ALL",
            b"STORE 1 +FLAGS (\\Seen)", b"UID STORE 1 +FLAGS.SILENT (\\Seen)", b"COPY 1 INBOX",
            b"UID COPY 1:* INBOX", b"MOVE 1 INBOX", b"STATUS " + BOX + b" (MESSAGES)",
            b"FETCH 1:* MODSEQ", b"UID FETCH 1:* FLAGS (CHANGEDSINCE 1)", b"SEARCH MODSEQ 1",
            b"STORE 1 (UNCHANGEDSINCE 9) +FLAGS (\\Seen)", b"STATUS " + BOX + b" (HIGHESTMODSEQ)",
            b"EXAMINE " + BOX,
        ):  # fmt: skip
            answer = asker.ask(b"a " + command)
            if command.startswith(b"EXAMINE"):
                assert answer.pop(0).startswith(b"* OK [CLOSED]")
            assert len(answer) == 1, answer
            assert answer[0].startswith(b"a NO [NONEXISTENT]"), answer
            if command.startswith(b"STATUS"):
                assert ok(asker.ask(b"c CHECK"))
        idler.send(b"DONE\r\n")
        assert ok(idler.until(b"i "))
        assert idler.ask(b"n NOOP") == [b"n OK NOOP completed.\r\n"]
        idler.send(b"i IDLE\r\n")
        assert idler.line().startswith(b"+ ")
        # Given back, it all comes, in order.
        assert ok(alice.ask(b"g SETACL Box bob lr"))
        assert ok(alice.ask(b"x STORE 1 +FLAGS (\\Answered)"))
        news = b"".join(plain.ask(b"n NOOP"))
        assert b"* 1 EXPUNGE\r\n" in news
        assert b"* 2 EXISTS\r\n" in news
        assert b"* 2 EXISTS\r\n" in b"".join(idler.until(b"* 2 EXISTS"))
    host.demand_sound()


def delete(host: World, alice: Talk) -> None:
    assert ok(alice.ask(b"d DELETE Box"))


def rename(host: World, alice: Talk) -> None:
    assert ok(alice.ask(b"d RENAME Box Elsewhere"))
    alice.ask(b"d DELETE Elsewhere")


def remove(host: World, alice: Talk) -> None:
    shutil.rmtree(host.maildir("alice") / ".Box")


def replace(host: World, alice: Talk) -> None:
    box(host)


def replace_by_imap(host: World, alice: Talk) -> None:
    assert ok(alice.ask(b"d DELETE Box"))
    assert ok(alice.ask(b"c CREATE Box"))
    assert ok(alice.ask(b"p SETACL Box bob lrwstipe"))


def move_aside(host: World, alice: Talk) -> None:
    path = host.maildir("alice") / ".Box"
    path.rename(path.with_name("aside"))
    shutil.rmtree(path.with_name("aside"))


@pytest.mark.parametrize(
    "away", [delete, rename, remove, replace, replace_by_imap, move_aside], ids=lambda f: f.__name__
)
def test_a_mailbox_that_goes_away(host: World, away: Callable[[World, Talk], None]) -> None:
    """Nobody is shown another mailbox as if it were the old one; the session parts with BYE."""
    box(host)
    begin = len(host.server.log_text())
    with (
        host.user("alice") as alice, host.user("alice") as same, host.user("bob") as idler,
        host.user("bob") as asker, host.user("bob") as bystander,
    ):  # fmt: skip
        assert ok(same.ask(b"s SELECT Box"))
        for client in (idler, asker):
            assert ok(client.ask(b"s SELECT " + BOX))
        idler.send(b"i IDLE\r\n")
        assert idler.line().startswith(b"+ ")
        away(host, alice)
        for client in (same, asker):
            client.send(b"f FETCH 1:* (UID FLAGS BODY.PEEK[])\r\nn NOOP\r\nz SEARCH ALL\r\n")
            client.sock.shutdown(socket.SHUT_WR)
            got = client.rest()
            assert b"* BYE " in got, got
            assert b"z OK" not in got
        began = time.monotonic()
        assert b"BYE" in idler.until(b"* BYE")[-1]
        assert time.monotonic() - began < 3.0
        assert ok(bystander.ask(b"n NOOP"))
    fresh = box(host)
    with host.user("bob") as bob:
        answer = bob.ask(b"s SELECT " + BOX)
        assert b"* 2 EXISTS\r\n" in answer, answer
        assert status_of(answer) == "OK READ-WRITE"
        assert ok(append(bob, BOX, message("three")))
    assert sum(len(list((fresh / name).iterdir())) for name in ("cur", "new")) == 3
    host.demand_sound(begin)
