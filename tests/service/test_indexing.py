"""The whole server with an index: built in the background, private, and never in the way."""

import time
from pathlib import Path

import pytest

from sharefs.index.place import BROKEN
from tests.service.indexed import (
    UID,
    file_of,
    indexed_or_none,
    user_with_mail,
    wait_until_indexed,
)
from tests.service.indexed import server as server
from tests.support.dovecot import MailUser
from tests.support.server import Server, wait_until

pytestmark = pytest.mark.superuser

COUNT = 1200


@pytest.fixture
def user(open_tmp: Path) -> MailUser:
    return user_with_mail(open_tmp, COUNT)


def test_built_in_the_background(server: Server, user: MailUser) -> None:
    with server.imap("alice") as client:
        client.select()
        before = client.fetch("1:*", "(ENVELOPE BODYSTRUCTURE INTERNALDATE RFC822.SIZE)")
        asked = [
            client.search(None, "BODY", "warehouse"),
            client.search(None, "SUBJECT", "budget", "NOT", "FROM", "sender1@"),
            client.search(None, "TEXT", '"nowhere to be found"'),
        ]
        wait_until_indexed(user, COUNT)
        assert client.fetch("1:*", "(ENVELOPE BODYSTRUCTURE INTERNALDATE RFC822.SIZE)") == before
        assert asked == [
            client.search(None, "BODY", "warehouse"),
            client.search(None, "SUBJECT", "budget", "NOT", "FROM", "sender1@"),
            client.search(None, "TEXT", '"nowhere to be found"'),
        ]
        client.append("INBOX", "", "", b"Subject: fresh\r\n\r\nqqqqq\r\n")
        wait_until_indexed(user, COUNT + 1)
        assert client.search(None, "BODY", "qqqqq") == ("OK", [str(COUNT + 1).encode()])
        client.store("1:3", "+FLAGS", r"(\Deleted)")
        client.expunge()
        assert client.search(None, "BODY", "qqqqq") == ("OK", [str(COUNT - 2).encode()])
    status = file_of(user).stat()
    assert (status.st_uid, status.st_mode & 0o777) == (UID, 0o600)


def test_commands_are_answered_meanwhile(server: Server, user: MailUser) -> None:
    with server.imap("alice") as client:
        client.select()
        client.fetch("1", "(ENVELOPE)")  # indexing begins
        answered = 0
        while indexed_or_none(user) != COUNT:
            client.fetch("7", "(FLAGS BODY.PEEK[])")
            answered += 1
        assert answered > 1, "the first was kept waiting until all was indexed"


def test_damage_under_a_running_server(server: Server, user: MailUser) -> None:
    with server.imap("alice") as client:
        client.select()
        want = client.fetch("1:*", "(ENVELOPE)")
        found = client.search(None, "TEXT", "warehouse")
        wait_until_indexed(user, COUNT)
    path = file_of(user)
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * (path.stat().st_size - 8192))
    for _ in range(2):
        with server.imap("alice") as client:
            client.select()
            assert client.fetch("1:*", "(ENVELOPE)") == want
            assert client.search(None, "TEXT", "warehouse") == found
    wait_until(lambda: path.with_name(BROKEN).exists())
    wait_until(lambda: indexed_or_none(user) == COUNT)
    assert "built anew" in server.log_text()


def test_nowhere_to_write(server: Server, user: MailUser) -> None:
    """The index is in memory, and all goes on."""
    (user.home / ".cache").write_text("a file in the way")
    with server.imap("alice") as client:
        client.select()
        want = client.fetch("1:*", "(ENVELOPE)")
        time.sleep(0.5)
        assert client.fetch("1:*", "(ENVELOPE)") == want
        assert client.search(None, "SUBJECT", "qqqq") == ("OK", [b""])
