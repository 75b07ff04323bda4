"""`sharefs index` over the small host, as root for users."""

import os

import pytest

from sharefs.index.place import NAME, RESERVE
from tests.account.world import UIDS, World, append
from tests.cli.command import Shell

pytestmark = pytest.mark.superuser


def test_from_building_to_dropping(shell: Shell, host: World) -> None:
    shell.ok("mailbox create -u bob Work")
    for _ in range(3):
        host.as_user("bob", lambda account: append(account, "Work"))
    (before,) = shell.ok("index status -u bob --json Work").records
    assert (before["messages"], before["indexed"], before["path"]) == (3, 0, None)
    assert (before["size"], before["share"]) == (0, "0%")  # an empty one in memory is none
    assert not (host.home("bob") / ".cache").exists()
    (built,) = shell.ok("index build -u bob --jobs 2 --json Work").records
    assert (built["messages"], built["added"]) == (3, 3)
    (after,) = shell.ok("index status -u bob --json Work").records
    assert (after["indexed"], after["texts"]) == (3, 3)
    place = host.home("bob") / ".cache" / "sharefs" / "index"
    (file,) = place.rglob(NAME)
    assert after["path"] == str(file)
    assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (UIDS["bob"], 0o600)
    assert shell.ok("index verify -u bob Work").out == ""
    assert shell.ok("index drop -u bob Work").lines == ["dropped the index of Work"]
    assert shell.ok("index drop -u bob Work").lines == []
    # What is left says which numbers were given, for the next index of it.
    assert [path.name for path in place.rglob("*") if path.is_file()] == [RESERVE]


def test_all_mailboxes_of_all_users(shell: Shell, host: World) -> None:
    records = shell.ok("index build -A --json").records
    assert {record["username"] for record in records} == set(UIDS)
    assert {record["mailbox"] for record in records} >= {"INBOX", "Drafts"}


def test_verify_tells_what_is_wrong(shell: Shell, host: World) -> None:
    host.as_user("bob", lambda account: append(account, "INBOX"))
    shell.ok("index build -u bob INBOX")
    (path,) = [path for name in ("cur", "new") for path in host.maildir("bob", name).iterdir()]
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"hello", b"hallo"))
    done = shell.run("index verify -u bob INBOX --json")
    assert done.status == 1
    problems = {record["problem"] for record in done.records}
    assert "the ENVELOPE of message 1 is not what the message says" in problems
    assert "the subject of message 1 is not what the message says" in problems


def test_orphans(shell: Shell, host: World) -> None:
    shell.ok("mailbox create -u bob Old New")
    shell.ok("index build -u bob")
    shell.ok("mailbox delete -u bob Old")
    place = host.home("bob") / ".cache" / "sharefs" / "index"
    before = len(list(place.iterdir()))
    (line,) = shell.ok("index drop -u bob --orphans").lines
    assert str(place) in line
    assert len(list(place.iterdir())) == before - 1


def test_which_must_be_said(shell: Shell) -> None:
    done = shell.run("index drop -u bob")
    assert done.status == 2
    assert "--orphans" in done.err
    assert shell.run("index status -u nobody-here").status == os.EX_NOUSER
