"""`sharefs serve` with real sessions: from login to mail on disk under the user's uid."""

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.service.clients import logged_in, talk
from tests.support.dovecot import MailUser
from tests.support.server import TOP, Server, private_server, wait_until

pytestmark = pytest.mark.superuser

CONFIG = """
mail_driver = maildir
mail_path = ~/Maildir
namespace inbox {
  inbox = yes
  separator = /
}
"""


def users(tmp: Path) -> list[MailUser]:
    """Two users with homes of their own."""
    found = [
        MailUser("alice", 70001, 70001, tmp / "alice"),
        MailUser("bob", 70002, 70002, tmp / "bob"),
    ]
    for user in found:
        user.home.mkdir(mode=0o700)
        os.chown(user.home, user.uid, user.gid)
    return found


@contextmanager
def real_server(tmp: Path, config: str = CONFIG, *, start: bool = True) -> Iterator[Server]:
    with private_server(config, users(tmp), start=start) as server:
        yield server


def test_mail_is_written_and_read_as_its_user(open_tmp: Path) -> None:
    with real_server(open_tmp) as server:
        for tls in (False, True):
            with server.imap("alice", tls=tls) as client:
                assert client.append("INBOX", "", "", b"Subject: x\r\n\r\nhello\r\n")[0] == "OK"
        with server.imap("alice") as client:
            assert client.select("INBOX")[1] == [b"2"]
            assert "hello" in repr(client.fetch("2", "BODY[TEXT]"))
        with server.imap("bob") as client:
            assert client.select("INBOX")[1] == [b"0"]
    made = [path for path in (open_tmp / "alice").rglob("*")]
    assert made
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in made} == {(70001, 70001)}


def test_commands_after_login_in_the_same_packet(open_tmp: Path) -> None:
    with real_server(open_tmp) as server, talk(server) as client:
        client.send(b"a LOGIN alice pass\r\nb SELECT INBOX\r\nc LOGOUT\r\n")
        octets = client.rest()
        places = [octets.index(line) for line in (b"\r\nb OK", b"* BYE", b"\r\nc OK")]
        assert octets.startswith(b"a OK [CAPABILITY ")
        assert places == sorted(places)


def test_the_end_reaches_a_client_in_idle(open_tmp: Path) -> None:
    with (
        real_server(open_tmp) as server,
        logged_in(server, "alice") as plain,
        logged_in(server, "bob", tls=True) as tls,
    ):
        for client in (plain, tls):
            client.ask(b"a SELECT INBOX")
            client.send(b"b IDLE\r\n")
            assert client.until(b"+ ")
        server.stop()
        assert [c.rest() for c in (plain, tls)] == [b"* BYE Server shutting down.\r\n"] * 2


@pytest.mark.parametrize("select", [True, False], ids=["selected", "unselected"])
@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
def test_a_client_that_vanishes_in_idle_takes_nobody_along(
    open_tmp: Path, select: bool, reset: bool
) -> None:
    with real_server(open_tmp) as server, logged_in(server, "alice") as other:
        (before,) = server.processes("sf-imap:alice")
        with logged_in(server, "alice") as client:
            if select:
                client.ask(b"a SELECT INBOX")
            client.send(b"b IDLE\r\n")
            assert client.until(b"+ ")
            if reset:  # the kernel sends RST instead of FIN
                linger = struct.pack("ii", 1, 0)
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        server.wait_for_log("Disconnected: Connection closed")
        assert other.ask(b"a NOOP")[-1].startswith(b"a OK")
        assert server.processes("sf-imap:alice") == [before]
        assert "Our bug" not in server.log_text()


def test_garbage_after_login_ends_nobody_elses_session(open_tmp: Path) -> None:
    with real_server(open_tmp) as server, logged_in(server, "alice") as other:
        for octets in (
            b"\0" * 1000 + b"\r\n",
            b"x" * 300_000 + b"\r\n",
            b"a APPEND INBOX {9999999999999}\r\n",
        ):
            with logged_in(server, "alice") as client:
                client.send(octets + b"z LOGOUT\r\n")
                assert client.rest()
        assert other.ask(b"a NOOP")[-1].startswith(b"a OK")
        assert "Our bug" not in server.log_text()


def sharefs(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    """The command, with the server's configuration."""
    command = [sys.executable, "-m", "sharefs", "-c", server.config.name, *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, cwd=server.base, check=False,
        env={**os.environ, "PYTHONPATH": str(TOP)},
    )  # fmt: skip


def greeting(server: Server) -> bytes:
    with talk(server, greeted=False) as client:
        return client.line()


def test_in_the_background(open_tmp: Path) -> None:
    """It returns when the server is ready, and the same command reloads and stops it."""
    with real_server(open_tmp, start=False) as server:
        pid_file = server.base / "run" / "sharefs.pid"
        got = sharefs(server, "serve", "--stop")
        assert got.returncode == os.EX_TEMPFAIL
        assert "no server is running" in got.stderr
        assert "Traceback" not in got.stderr

        pid_file.parent.mkdir(exist_ok=True)
        pid_file.write_text(f"{os.getpid()}\n")  # a crash left it, and the number is ours by now
        got = sharefs(server, "serve", "--stop")
        assert got.returncode == os.EX_TEMPFAIL
        assert "does not hold its lock" in got.stderr

        got = sharefs(server, "serve")
        assert (got.returncode, got.stdout, got.stderr) == (0, "", "")
        pid = int(pid_file.read_text())
        try:
            with server.imap("alice"):
                pass
            got = sharefs(server, "serve")
            assert got.returncode == os.EX_TEMPFAIL
            assert f"runs already, as process {pid}" in got.stderr
            (server.base / "extra.conf").write_text(CONFIG + "login_greeting = again\n")
            assert sharefs(server, "serve", "--reload").returncode == 0
            server.wait_for_log("Ready(.|\n)*Ready")
            # Login processes of before serve whom the kernel gives them, until they have ended.
            wait_until(lambda: greeting(server).endswith(b"again\r\n"))
            (server.base / "extra.conf").write_text("nonsense\n")
            got = sharefs(server, "serve", "--reload")
            assert got.returncode == os.EX_DATAERR
            assert "extra.conf:1" in got.stderr
        finally:
            (server.base / "extra.conf").write_text(CONFIG)
            got = sharefs(server, "serve", "--stop")
        assert got.returncode == 0
        assert not Path(f"/proc/{pid}").exists()
        assert not pid_file.exists()


@pytest.mark.parametrize(
    ("change", "want"),
    [
        ("nonsense = {\n", "extra.conf:1"),
        ("base_dir = /proc/nowhere\n", "base_dir /proc/nowhere cannot be made"),
        ("ssl_server_key_file = /nonexistent\n", "/nonexistent cannot be loaded"),
        ("ssl_min_protocol = SSLv3\n", "ssl_min_protocol = SSLv3: use one of"),
        ("listen = 192.0.2.77\n", "this host does not have the address"),
        ("log_path = /nonexistent/log\n", "cannot log to /nonexistent/log: No such file"),
    ],
)
def test_what_cannot_be_served_is_one_clear_line(open_tmp: Path, change: str, want: str) -> None:
    with real_server(
        open_tmp, CONFIG + change if "{" not in change else change, start=False
    ) as server:
        for mode in ((), ("--foreground",)):
            got = sharefs(server, "serve", *mode)
            assert got.returncode in (os.EX_TEMPFAIL, os.EX_DATAERR, os.EX_CONFIG)
            assert want in got.stderr
            assert got.stderr.startswith("sharefs: ")
            assert "Traceback" not in got.stderr
