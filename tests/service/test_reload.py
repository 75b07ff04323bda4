"""SIGHUP: new connections get the new configuration, old ones keep what they have."""

import os
import signal
import ssl
from pathlib import Path

import pytest

from imap.service.spare import NAME
from tests.service.clients import Talk, logged_in, talk
from tests.service.conftest import double_server
from tests.support.server import Server, free_ports, wait_until

pytestmark = pytest.mark.superuser


def greeting(server: Server) -> bytes:
    with talk(server, greeted=False) as client:
        return client.line()


def reload(server: Server, config: str, *, log: str) -> None:
    """Change the settings, send SIGHUP, wait for what the master says about it."""
    said = server.log_text().count(log)
    (server.base / "extra.conf").write_text(config)
    os.kill(server.pid, signal.SIGHUP)
    wait_until(lambda: server.log_text().count(log) > said, explain=server.log_text)


def test_new_connections_get_the_new_configuration_and_old_ones_go_on() -> None:
    with double_server("login_greeting = old\n") as server:
        with (
            logged_in(server, "alice") as plain,
            logged_in(server, "alice", tls=True) as tls,
            talk(server) as stranger,
        ):
            before = {process.pid for process in server.processes()} - {server.pid}
            reload(server, "login_greeting = new\n", log="master: Info: Ready")
            wait_until(lambda: greeting(server).endswith(b"] new\r\n"))
            assert plain.who()["user"] == tls.who()["user"] == "alice"
            assert stranger.ask(b"a LOGIN bob pass")[-1].startswith(b"a OK"), "it was there first"
            assert plain.ask(b"a HOME bob")[0] == b"* HOME /nonexistent/bob\r\n"
            for client in (plain, tls, stranger):
                client.ask(b"z LOGOUT")
        wait_until(lambda: not {p.pid for p in server.processes("sharefs-login")} & before)
        assert server.processes("sharefs-login")
        with logged_in(server, "alice") as client:
            assert int(client.who()["pid"]) not in before


def test_a_configuration_with_errors_changes_nothing() -> None:
    with double_server("login_greeting = old\n") as server:
        server.process(NAME)  # or it would be made meanwhile
        before = {process.pid for process in server.processes()}
        for broken in (
            "login_greeting = new\nno_such_setting = 1\n",
            "login_greeting = new\nssl_server_cert_file = /nonexistent\n",
            "login_greeting = new\nbase_dir = /run/elsewhere\n",
            "service imap-login {\n",
        ):
            reload(server, broken, log="master: Error: Not reloaded, the old configuration stays: ")
        assert greeting(server).endswith(b"] old\r\n")
        assert {process.pid for process in server.processes()} == before


def test_ports_come_and_go() -> None:
    with double_server() as server:
        (fresh,) = free_ports(1)
        listener = f"service imap-login {{\n inet_listener imap {{\n  port = {fresh}\n }}\n}}\n"
        reload(server, listener, log="master: Info: Ready")
        old, server.port = server.port, fresh
        with logged_in(server, "alice"):
            pass
        server.port = old
        wait_until(lambda: _refused(server))


def test_a_port_may_change_its_name_and_its_use_of_tls() -> None:
    with double_server() as server:
        config = f"""
service imap-login {{
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    port = {server.port}
    ssl = yes
  }}
}}
"""
        reload(server, config, log="master: Info: Ready")
        server.tls_port = server.port
        wait_until(lambda: _speaks_tls(server), explain=server.log_text)


def _speaks_tls(server: Server) -> bool:
    try:
        with logged_in(server, "alice", tls=True):
            return True
    except ssl.SSLError:
        return False


def _refused(server: Server) -> bool:
    try:
        with Talk(server.connect()):
            return False
    except ConnectionRefusedError:
        return True


def test_sigusr1_reopens_the_log() -> None:
    with double_server() as server:
        log = server.base / "server.log"
        rotated = Path(f"{log}.1")
        log.rename(rotated)
        os.kill(server.pid, signal.SIGUSR1)
        wait_until(log.exists)
        with logged_in(server, "alice"):
            pass
        wait_until(lambda: "Login: user=<alice>" in log.read_text())
        assert "Login" not in rotated.read_text()


def test_many_reloads_leave_one_generation() -> None:
    with double_server() as server:
        for number in range(3):
            reload(server, f"login_greeting = g{number}\n", log="master: Info: Ready")
        wait_until(lambda: greeting(server).endswith(b"] g2\r\n"))
        wait_until(
            lambda: len(server.processes("sharefs-login")) <= len(os.sched_getaffinity(0)),
            explain=server.log_text,
        )
        wait_until(lambda: len(server.processes("sharefs-auth")) == 1)
        wait_until(lambda: len(server.processes("sharefs-spawner")) == 1)
        assert "died" not in server.log_text()
