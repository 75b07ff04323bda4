"""Our dotlocks and Dovecot's keep each other out."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sharefs.dotlock import DotLock
from sharefs.errors import SharingError
from tests.support.become import Identity, start_as
from tests.support.dovecot import Dovecot, MailUser, private_dovecot

pytestmark = [pytest.mark.superuser, pytest.mark.dovecot]

BOB = Identity(5002, 5200)
MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


@pytest.fixture
def home(open_tmp: Path) -> Path:
    path = open_tmp / "bob"
    path.mkdir()
    path.chmod(0o777)
    return path


@pytest.fixture
def server(home: Path) -> Iterator[Dovecot]:
    users = [MailUser("bob", BOB.uid, BOB.gid, home)]
    with private_dovecot("mail_location = maildir:~/Maildir", users) as running:
        with running.imap("bob") as client:
            client.append("INBOX", "", "", MESSAGE)
        yield running


def test_dovecot_waits_for_ours(home: Path, server: Dovecot) -> None:
    """A message cannot get a UID while we hold the uidlist."""
    path = home / "Maildir/dovecot-uidlist"

    def append() -> float:
        with server.imap("bob") as client:
            assert client.append("INBOX", "", "", MESSAGE)[0] == "OK"
        return time.monotonic()

    with (
        DotLock(path, timeout=5, stale=120) as lock,
        start_as(0, 0, (), append) as appending,
    ):
        time.sleep(0.7)
        assert len(path.read_text().splitlines()) == 2
        released = time.monotonic()
        lock.release()
        assert appending.result() > released
    assert len(path.read_text().splitlines()) == 3
    assert not Path(lock.lock_path).exists()


def test_dovecot_breaks_the_lock_of_a_dead_process(home: Path, server: Dovecot) -> None:
    path = home / "Maildir/dovecot-uidlist"

    def die() -> str:
        DotLock(path, timeout=5, stale=120).acquire()
        return "without releasing"

    assert BOB.run(die)
    assert Path(f"{path}.lock").exists()
    started = time.monotonic()
    with server.imap("bob") as client:
        assert client.append("INBOX", "", "", MESSAGE)[0] == "OK"
    assert time.monotonic() - started < 10
    assert not Path(f"{path}.lock").exists()


def test_we_wait_for_dovecots_and_break_it_when_its_holder_died(home: Path) -> None:
    """The lock is made by a helper of Dovecot's that prints its pid; then it is killed."""
    helper = Path("/usr/lib/dovecot/maildirlock")
    if not helper.exists():
        pytest.skip("no maildirlock here")
    path = home / "dovecot-uidlist"
    path.touch()
    done = subprocess.run([helper, home, "60"], capture_output=True, timeout=10, check=True)
    holder = int(done.stdout)
    with contextlib.suppress(ProcessLookupError):
        os.kill(holder, signal.SIGKILL)
    with pytest.raises(SharingError, match=f"process {holder}"):
        DotLock(path, timeout=0, stale=120).acquire()
    started = time.monotonic()
    with DotLock(path, timeout=10, stale=120):
        assert time.monotonic() - started < 8
