"""Configurations that cannot be served, and more connections than anybody needs."""

import contextlib
import subprocess
import sys
from typing import Final

import psutil
import pytest

from tests.robust.world import make_dir, ok, world
from tests.service.clients import logged_in, talk
from tests.support.dovecot import MailUser
from tests.support.server import TOP, private_server

pytestmark = pytest.mark.superuser

GOOD: Final = """
mail_driver = maildir
mail_path = ~/Maildir
namespace inbox {
  inbox = yes
  separator = /
}
"""
# The whole of a file that the main one includes, and what the one line about it must say.
BROKEN: Final = {
    "open block": (b"namespace inbox {\n", "extra.conf:"),
    "brace too many": (b"}\n", "extra.conf:1"),
    "no setting": (b"nonsense\n", "extra.conf:1"),
    "binary": (bytes(range(256)) * 8, "extra.conf:"),
    "not utf-8": (b"mail_path = \xff\xfe\n", "extra.conf:1"),
    "NUL": (b"mail_path = ~/Mail\0dir\n", "extra.conf:1"),
    "a line of 1 MB": (b"mail_path = " + b"x" * 1_000_000 + b"\n", "extra.conf:"),
    "deep nest": (b"namespace a {\n" * 5_000, "extra.conf:"),
    "includes itself": (b"!include extra.conf\n", "extra.conf:1"),
    "includes nothing": (b"!include /nonexistent.conf\n", "extra.conf:"),
    "open variable": (b"mail_path = %{home\n", "extra.conf:1"),
    "unknown variable": (b"mail_path = %{nonsense}/x\n", "extra.conf:1"),
    "unknown group": (b"mail_access_groups = no-such-group-here\n", "extra.conf:1"),
    "bad number": (b"first_valid_uid = many\n", "extra.conf:1"),
    "huge number": (b"first_valid_uid = 99999999999999999999\n", "extra.conf:1"),
    "bad time": (b"auth_failure_delay = soon\n", "extra.conf:1"),
    "no private inbox": (b"namespace p {\n type = public\n prefix = P/\n mail_path = /tmp/p\n}\n",
                         "extra.conf:"),
    "shared without owner": (
        GOOD.encode()
        + b"namespace s {\n type = shared\n prefix = shared/$user/\n mail_path = /tmp/one\n}\n",
        "extra.conf:",
    ),
    "unknown storage": (b"mail_driver = floppy\n", "extra.conf:1"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "want"), BROKEN.values(), ids=BROKEN)
def test_a_broken_configuration_is_explained(content: bytes, want: str) -> None:
    with private_server("", [], start=False) as server:
        (server.base / "extra.conf").write_bytes(content)
        got = subprocess.run(
            [sys.executable, "-m", "sharefs", "-c", str(server.config), "serve", "-F"],
            capture_output=True, text=True, errors="replace", timeout=30, cwd=TOP, check=False,
        )  # fmt: skip
    assert got.returncode not in (0, -9), got
    assert want in got.stderr, got.stderr[:2000]
    assert "Traceback" not in got.stderr, got.stderr[-2000:]
    assert len(got.stderr) < 20_000


CROWD: Final = 20
EACH: Final = 10


@pytest.mark.slow
def test_two_hundred_idle_connections_of_twenty_users() -> None:
    with world("mail_max_userip_connections = 20\n") as host, contextlib.ExitStack() as stack:
        users = [f"u{number}" for number in range(CROWD)]
        with open(host.server.base / "users", "a") as file:
            for number, name in enumerate(users):
                home = make_dir(host.home(name), 0o700, 47200 + number, 47200 + number)
                file.write(MailUser(name, 47200 + number, 47200 + number, home).line())
        clients = []
        for number in range(CROWD * EACH):
            client = stack.enter_context(logged_in(host.server, users[number % CROWD]))
            assert ok(client.ask(b"a SELECT INBOX"))
            client.send(b"i IDLE\r\n")
            assert client.line().startswith(b"+ ")
            clients.append(client)
        workers = host.server.processes("sf-imap")
        assert len(workers) == CROWD
        own = sum(psutil.Process(worker.pid).memory_full_info().uss for worker in workers)
        most = max(len(worker.descriptors()) for worker in workers)
        print(
            f"{CROWD} workers with {EACH} IDLE connections each: {own >> 20} MB of their own in"
            f" all, at most {most} descriptors in one"
        )
        assert most < 100
        with host.user("alice") as other:
            assert ok(other.ask(b"a SELECT INBOX"))
        for client in clients:
            client.send(b"DONE\r\n")
            assert ok(client.until(b"i "))


def test_users_without_what_a_user_needs() -> None:
    """Nobody is served as somebody else, nobody is served as root, and the log says why."""
    with world() as host:
        entries = {
            "nohome": "nohome:{PLAIN}pass:47301:47301::::",
            "nouid": f"nouid:{{PLAIN}}pass::47302::{host.top}::",
            "root-uid": f"root-uid:{{PLAIN}}pass:0:0::{host.top}::",
            "words": f"words:{{PLAIN}}pass:many:few::{host.top}::",
            "huge": f"huge:{{PLAIN}}pass:99999999999:47303::{host.top}::",
            "relative": "relative:{PLAIN}pass:47304:47304::not/absolute::",
            "dotted": f"dotted:{{PLAIN}}pass:47305:47305::{host.top}/home/../home/alice::",
        }
        with open(host.server.base / "users", "a") as file:
            file.writelines(f"{line}\n" for line in entries.values())
        for name in entries:
            with talk(host.server) as client:
                answer = client.ask(b"a LOGIN %b pass" % name.encode())
                if ok(answer):
                    inbox = client.ask(b"b SELECT INBOX")
                    assert not ok(inbox), (name, inbox)
                    assert b"SECRET" not in b"".join(client.ask(b'c LIST "" *'))
                else:
                    assert answer[-1].startswith(b"a NO ["), (name, answer)
        assert not {process.uids[0] for process in host.server.processes("sf-imap")} - {
            47301, 47302, 47304, 47305,
        }  # fmt: skip
        host.demand_sound()
