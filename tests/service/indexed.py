"""The whole server with an index, and one user whom nobody else on this host knows."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from benchmarks.mail import make_maildir
from sharefs.index.place import NAME
from tests.support.dovecot import MailUser
from tests.support.server import Server, private_server, wait_until

UID: Final = 300_000 + os.getpid() % 100_000
CONFIG: Final = """
mail_driver = maildir
mail_path = ~/Maildir
sharefs_index = yes
namespace inbox {
  inbox = yes
  separator = /
}
"""


def user_with_mail(top: Path, count: int) -> MailUser:
    """alice, with so many messages."""
    home = top / "alice"
    home.mkdir()
    shutil.chown(home, UID, UID)
    make_maildir(home / "Maildir", count, uid=UID, gid=UID)
    return MailUser("alice", UID, UID, home)


@pytest.fixture
def server(user: MailUser) -> Iterator[Server]:
    """For modules that have a fixture `user`."""
    with private_server(CONFIG, [user]) as server:
        yield server


def file_of(user: MailUser) -> Path:
    (found,) = (user.home / ".cache" / "sharefs" / "index").rglob(NAME)
    return found


def indexed(user: MailUser) -> int:
    path = file_of(user)
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        (count,) = database.execute("SELECT count(*) FROM messages").fetchone()
        return int(count)
    finally:
        database.close()


def wait_until_indexed(user: MailUser, count: int) -> None:
    wait_until(lambda: indexed(user) == count, explain=lambda: f"{indexed(user)} of {count}")


def indexed_or_none(user: MailUser) -> int | None:
    try:
        return indexed(user)
    except (ValueError, sqlite3.Error):
        return None  # not there yet, or busy
