"""The helpers of the tests are tested too: others trust them."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.become import ChildFailed, Identity, run_as, start_as
from tests.support.dovecot import MailUser, private_dovecot

BOB = Identity(5002, 5002, (6000,))


def whoami() -> tuple[int, int, list[int]]:
    return os.geteuid(), os.getegid(), os.getgroups()


@pytest.mark.superuser
def test_the_child_is_the_identity() -> None:
    assert BOB.run(whoami) == (5002, 5002, [6000])
    assert os.geteuid() == 0


@pytest.mark.superuser
def test_the_child_cannot_come_back() -> None:
    with pytest.raises(PermissionError) as caught:
        BOB.run(os.setuid, 0)
    assert "in child" in caught.value.__notes__[0]


def test_exceptions_travel() -> None:
    def fail() -> None:
        raise FileNotFoundError(2, "gone", "x")

    with pytest.raises(FileNotFoundError) as caught:
        run_as(os.geteuid(), os.getegid(), os.getgroups(), fail)
    assert caught.value.filename == "x"


def test_a_hanging_child_is_ended() -> None:
    with pytest.raises(ChildFailed, match="did not answer"):
        run_as(os.geteuid(), os.getegid(), (), lambda: time.sleep(60), timeout=0.2)


def test_a_dying_child_is_reported() -> None:
    with pytest.raises(ChildFailed, match="without an answer"):
        run_as(os.geteuid(), os.getegid(), (), lambda: os._exit(3))


def test_children_run_side_by_side() -> None:
    def slow() -> int:
        time.sleep(0.1)
        return os.getpid()

    me = (os.geteuid(), os.getegid(), ())
    with start_as(*me, slow) as one, start_as(*me, slow) as two:
        assert one.result() != two.result()


@given(st.integers())
def test_leak_checks_and_hypothesis_get_along(number: int) -> None:
    assert isinstance(number, int)


@pytest.mark.dovecot
@pytest.mark.superuser
def test_private_dovecot_serves_and_ends(open_tmp: Path) -> None:
    home = open_tmp / "bob"
    home.mkdir()
    os.chown(home, 5002, 5002)
    users = [MailUser("bob", 5002, 5002, home)]
    with private_dovecot("mail_location = maildir:~/Maildir", users) as server:
        with server.imap("bob") as client:
            assert client.create("Work")[0] == "OK"
        assert server.doveadm("mailbox", "list", "-u", "bob").stdout.split() == ["Work", "INBOX"]
        assert (home / "Maildir" / ".Work").stat().st_uid == 5002
    with pytest.raises(ConnectionRefusedError):
        server.connect()


@pytest.mark.dovecot
@pytest.mark.superuser
@pytest.mark.slow
def test_a_killed_runner_takes_its_dovecot_along(open_tmp: Path) -> None:
    def run() -> None:
        users = [MailUser("bob", 5002, 5002, open_tmp)]
        with private_dovecot("mail_location = maildir:~/Maildir", users) as server:
            (open_tmp / "port").write_text(f"{server.port} {server.base}")
            os.kill(os.getpid(), signal.SIGKILL)

    with start_as(0, 0, (), run) as child:
        child.wait()
    port, base = (open_tmp / "port").read_text().split()
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", int(port)), timeout=1).close()
            except OSError:
                return
            time.sleep(0.05)
        raise AssertionError("Dovecot still serves")
    finally:
        shutil.rmtree(base, ignore_errors=True)


@pytest.mark.superuser
def test_a_test_is_only_blamed_for_its_own_mounts(
    request: pytest.FixtureRequest, tmp_path: Path, open_tmp: Path
) -> None:
    """Other workers and other runs mount at the same time, in directories of their own."""
    (conftest,) = (
        plugin for plugin in request.config.pluginmanager.get_plugins()
        if getattr(plugin, "__file__", "") == str(Path(__file__).parents[1] / "conftest.py")
    )  # fmt: skip
    command = [sys.executable, "-c", "import tempfile; print(tempfile.mkdtemp())"]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    others = Path(made.strip())
    with contextlib.ExitStack() as stack:
        stack.callback(others.rmdir)
        before = conftest._our_mounts()
        for place in (others, tmp_path, open_tmp):
            if subprocess.run(["mount", "-t", "tmpfs", "none", place], check=False).returncode:
                pytest.skip("mount(2) is not allowed here")
            stack.callback(_unmount, place)
        assert conftest._our_mounts() - before == {str(tmp_path), str(open_tmp)}
    assert conftest._our_mounts() == before


def _unmount(place: Path) -> None:
    subprocess.run(["umount", place], check=True)
