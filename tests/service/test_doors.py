"""What strangers meet: greeting, TLS, logging in and failing to, limits, and what attackers try."""

import base64
import contextlib
import imaplib
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.service.clients import Talk, logged_in, talk
from tests.service.conftest import double_server
from tests.support.server import PATIENCE, Server, client_context, wait_until

pytestmark = pytest.mark.superuser

FAILED = b"NO [AUTHENTICATIONFAILED] Authentication failed.\r\n"


def plain(user: bytes, password: bytes, authzid: bytes = b"") -> bytes:
    return base64.b64encode(b"\0".join((authzid, user, password)))


def test_greeting_and_capabilities(server: Server) -> None:
    with talk(server, greeted=False) as client:
        assert client.line() == (
            b"* OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE STARTTLS AUTH=PLAIN]"
            b" sharefs ready.\r\n"
        )
    with talk(server, tls=True, greeted=False) as client:
        assert b"STARTTLS" not in client.line()


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"a LOGIN alice pass\r\n", id="login"),
        pytest.param(b'a login "alice" {4+}\r\npass\r\n', id="literal-plus"),
        pytest.param(b"a AUTHENTICATE PLAIN " + plain(b"alice", b"pass") + b"\r\n", id="sasl-ir"),
    ],
)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_ways_to_log_in(server: Server, octets: bytes, tls: bool) -> None:
    """And what was sent after it in the same packet reaches the session."""
    with talk(server, tls=tls) as client:
        client.send(octets + b"b WHO\r\nc LOGOUT\r\n")
        assert client.until(b"a ")[-1].startswith(b"a OK")
        assert b"user=alice" in client.until(b"b ")[0]
        assert client.rest().endswith(b"c OK\r\n")


def test_synchronising_literals_and_continuation(server: Server) -> None:
    with talk(server) as client:
        client.send(b"a LOGIN {5}\r\n")
        assert client.line().startswith(b"+ ")
        client.send(b"alice {4}\r\n")
        assert client.line().startswith(b"+ ")
        client.send(b"pass\r\n")
        assert client.line().startswith(b"a OK")
    with talk(server) as client:
        client.send(b"a AUTHENTICATE PLAIN\r\n")
        assert client.line() == b"+ \r\n"
        client.send(b"*\r\n")
        assert client.line().startswith(b"a BAD")
        client.send(b"b AUTHENTICATE PLAIN\r\n")
        assert client.line() == b"+ \r\n"
        client.send(plain(b"alice", b"pass") + b"\r\n")
        assert client.line().startswith(b"b OK")


def test_imaplib_over_everything(server: Server) -> None:
    for tls in (False, True):
        with server.imap("bob", tls=tls) as client:
            assert client.state == "AUTH"
    client = imaplib.IMAP4("localhost", server.port, timeout=PATIENCE)
    client.starttls(client_context())
    client.login("bob", "pass")
    client.logout()


def test_starttls_throws_away_what_came_before_it(server: Server) -> None:
    """CVE-2011-0411: a command injected in front of the handshake must never be carried out."""
    with talk(server) as client:
        client.send(b"a STARTTLS\r\nevil NOOP\r\n")
        assert client.line().startswith(b"a OK")
        client.starttls()
        client.send(b"b CAPABILITY\r\n")
        answer = client.until(b"b ")
        assert not any(b"evil" in line for line in answer)
        assert not any(b"STARTTLS" in line for line in answer), "it is on already"
        assert client.ask(b"c STARTTLS")[-1].startswith(b"c BAD")
        assert client.ask(b"d LOGIN alice pass")[-1].startswith(b"d OK")
        assert client.who()["tls"] == "True"


def test_failures_look_all_alike(server: Server) -> None:
    answers = set()
    for command in (
        b"a LOGIN alice wrong",
        b"a LOGIN nobody-knows pass",
        b'a LOGIN "" ""',
        b'a LOGIN "\xff" pass',
        b"a LOGIN ../../etc/passwd pass",
        b'a LOGIN "alice\tuid=0" pass',
        b"a AUTHENTICATE PLAIN " + plain(b"alice", b"pass", b"bob"),
        b"a AUTHENTICATE PLAIN " + base64.b64encode(b"nonsense"),
    ):
        with talk(server) as client:
            answers.add(client.ask(command)[-1])
    assert answers == {b"a " + FAILED}


def test_master_users_name_the_user_both_ways(open_tmp: Path) -> None:
    """`bob*admin` as in Dovecot, and SASL's authorization identity."""
    masters = open_tmp / "masters"
    masters.write_text("admin:{PLAIN}adminpass\n")
    config = f"""
auth_master_user_separator = *
passdb masters {{
  driver = passwd-file
  master = yes
  passwd_file_path = {masters}
}}
"""
    with double_server(config) as server:
        for command in (
            b"a LOGIN bob*admin adminpass",
            b"a AUTHENTICATE PLAIN " + plain(b"admin", b"adminpass", b"bob"),
        ):
            with talk(server) as client:
                assert client.ask(command)[-1].startswith(b"a OK"), server.log_text()
                who = client.who()
                assert (who["user"], who["uids"]) == ("bob", "(70002, 70002, 70002)")
        for command in (
            b"a LOGIN bob*admin pass",
            b"a LOGIN bob*alice pass",
            b"a AUTHENTICATE PLAIN " + plain(b"alice", b"pass", b"bob"),
        ):
            with talk(server) as client:
                assert client.ask(command)[-1] == b"a " + FAILED


def test_three_failures_end_the_connection(server: Server) -> None:
    with talk(server) as client:
        for tag in (b"a", b"b", b"c"):
            assert client.ask(tag + b" LOGIN alice wrong")[-1] == tag + b" " + FAILED
        assert client.rest().startswith(b"* BYE")
    server.wait_for_log(r"auth failed, 3 attempts in \d+ secs\): user=<alice>")


def test_failures_are_answered_late() -> None:
    with double_server("auth_failure_delay = 1s\n") as server, talk(server) as client:
        began = time.monotonic()
        client.ask(b"a LOGIN alice wrong")
        assert time.monotonic() - began > 0.95
        began = time.monotonic()
        with logged_in(server, "alice"):
            assert time.monotonic() - began < 0.9, "nobody else waits"


def test_no_password_is_ever_logged() -> None:
    with double_server("log_debug = category=auth\n") as server:
        with talk(server) as client:
            client.ask(b"a LOGIN alice sEcReT1")
            client.ask(b"b AUTHENTICATE PLAIN " + plain(b"alice", b"sEcReT2"))
        with logged_in(server, "alice"):
            pass
        server.wait_for_log("Login: user=<alice>")
        text = server.log_text()
        assert "sEcReT" not in text
        assert base64.b64encode(b"sEcReT2").decode()[:6] not in text


def test_logins_are_logged_with_all_one_asks_for(server: Server) -> None:
    with logged_in(server, "alice", tls=True) as client:
        session, pid = client.who()["session"], client.who()["pid"]
        client.ask(b"z LOGOUT")
    server.wait_for_log(
        "imap-login: Info: Login: user=<alice>, method=LOGIN, rip=127.0.0.1, lip=127.0.0.1, "
        f"mpid={pid}, TLS, session=<{session}>"
    )
    server.wait_for_log(rf"imap\(alice\)<{pid}><{session}>: Info: Disconnected: Logged out in=\d+")


def test_connections_of_one_user_and_address_are_limited() -> None:
    with (
        double_server("mail_max_userip_connections = 2\n") as server,
        logged_in(server, "alice"),
        logged_in(server, "bob"),
        logged_in(server, "alice", tls=True) as second,
    ):
        with talk(server) as third:
            answer = third.ask(b"a LOGIN alice pass")[-1]
            assert answer.startswith(b"a NO [LIMIT] ")
            assert b"mail_max_userip_connections=2" in answer
        second.ask(b"z LOGOUT")
        wait_until(lambda: _can_log_in(server, "alice"))


def _can_log_in(server: Server, user: str) -> bool:
    with talk(server) as client:
        return client.ask(b"a LOGIN %s pass" % user.encode())[-1].startswith(b"a OK")


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"\0" * 4096 + b"\r\n", id="NULs"),
        pytest.param(
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 40 + b"\r\n", id="TLS-hello"
        ),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20, id="http"),
        pytest.param(b"a" * 1_000_000, id="endless-line"),
        pytest.param(b"a LOGIN {99999999999999999999999}\r\n", id="absurd-literal"),
        pytest.param(b"a LOGIN {4000000000+}\r\n" + b"x" * 100_000, id="huge-literal-plus"),
        pytest.param(b"a LOGIN " + b"{0+}\r\n" * 50_000, id="endless-literals"),
        pytest.param(b"a NOOP\r\n" * 5000, id="endless-noops"),
        pytest.param(b"\r\n" * 5000, id="empty-lines"),
        pytest.param(b"a ID (" + b"(" * 5000 + b"\r\n", id="parentheses"),
        pytest.param(b"a AUTHENTICATE PLAIN\r\n" + b"x" * 100_000, id="endless-sasl"),
    ],
)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_garbage_ends_the_strangers_connection_and_nothing_else(
    server: Server, octets: bytes, tls: bool
) -> None:
    before = [process.pid for process in server.processes("sharefs-login")]
    with talk(server, tls=tls) as client:
        with contextlib.suppress(OSError):  # hung up while we are talking
            client.send(octets)
            if not tls:
                client.sock.shutdown(socket.SHUT_WR)
            else:
                client.send(b"z LOGOUT\r\n")
        client.sock.settimeout(1)
        with contextlib.suppress(TimeoutError):
            assert b" OK Logged in" not in client.rest()
    with logged_in(server, "alice"):
        pass
    assert [process.pid for process in server.processes("sharefs-login")] == before
    assert "Our bug" not in server.log_text()


def test_garbage_on_the_tls_port(server: Server) -> None:
    for octets in (b"a NOOP\r\n", b"\0" * 10_000, b"\x16\x03\x01\xff\xff" + b"\0" * 70_000, b""):
        with socket.create_connection(("127.0.0.1", server.tls_port), timeout=PATIENCE) as sock:
            with contextlib.suppress(OSError):
                sock.sendall(octets)
                sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                assert b"* OK" not in sock.recv(100)
    with logged_in(server, "alice", tls=True):
        pass


def test_slow_strangers_are_sent_away() -> None:
    with double_server("sharefs_login_timeout = 1s\n") as server:
        silent_tls = socket.create_connection(("127.0.0.1", server.tls_port), timeout=PATIENCE)
        with silent_tls, talk(server) as silent, talk(server) as dripping:
            stop = threading.Event()

            def drip() -> None:
                with contextlib.suppress(OSError):
                    while not stop.wait(0.1):
                        dripping.send(b"x")

            dripper = threading.Thread(target=drip)
            dripper.start()
            try:
                assert silent.rest() == b"* BYE Inactivity during login.\r\n"
                assert dripping.rest().startswith(b"* BYE Inactivity")
                with contextlib.suppress(ConnectionError):
                    assert silent_tls.recv(10) == b""
            finally:
                stop.set()
                dripper.join()
        with logged_in(server, "alice") as client:
            threading.Event().wait(1.2)
            assert client.who()["user"] == "alice", "the limit ends with the login"


def test_strangers_of_one_address_are_limited(server: Server) -> None:
    """At most 50 for each login process, and whoever comes when they are gone is welcome."""
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(talk(server, greeted=False)) for _ in range(110)]
        greetings = [client.line() for client in crowd]
        assert any(line.startswith(b"* BYE [LIMIT]") for line in greetings)
        assert sum(line.startswith(b"* OK") for line in greetings) >= 50
    wait_until(lambda: _can_log_in_quietly(server))


def _can_log_in_quietly(server: Server) -> bool:
    try:
        with talk(server) as client:
            return client.ask(b"a LOGIN alice pass")[-1].startswith(b"a OK")
    except AssertionError:
        return False


def test_a_full_house_makes_room_for_newcomers() -> None:
    config = "service imap-login {\n  client_limit = 3\n  process_min_avail = 1\n}\n"
    with double_server(config) as server, contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(talk(server)) for _ in range(3)]
        with logged_in(server, "alice"):
            assert crowd[0].rest().startswith(b"* BYE Too many clients")
        assert crowd[2].ask(b"a NOOP")[-1].startswith(b"a OK")


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_client_that_never_reads_harms_nobody(server: Server, tls: bool) -> None:
    """64 MiB are on their way to it; the same worker answers others, and does not hold the rest."""
    with logged_in(server, "alice", tls=tls) as deaf, logged_in(server, "alice", tls=tls) as other:
        pid = int(other.who()["pid"])
        deaf.send(b"a FLOOD 65536\r\n")
        for _ in range(20):
            assert other.who()["user"] == "alice"
        with logged_in(server, "bob", tls=tls) as bob:
            assert bob.who()["user"] == "bob"
        worker = server.process("sf-imap:alice")
        assert worker.pid == pid
        assert _resident(pid) < 80 << 20
        assert max(_resident(login.pid) for login in server.processes("sharefs-login")) < 80 << 20


def _resident(pid: int) -> int:
    """Octets in memory."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * 4096


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_much_arrives_whole_and_a_half_closed_client_hears_the_end(
    server: Server, tls: bool
) -> None:
    with logged_in(server, "alice", tls=tls) as client:
        client.send(b"a FLOOD 8192\r\nb WHO\r\nc LOGOUT\r\n")
        if not tls:
            client.sock.shutdown(socket.SHUT_WR)
        octets = client.rest()
        assert octets.count(b"* xxx") == 8192
        assert octets.endswith(b"c OK\r\n")
        assert octets.index(b"a OK") < octets.index(b"b OK") < octets.index(b"c OK")


def test_tls_ends_with_close_notify(server: Server) -> None:
    """A client can tell the end from an attacker's cut."""
    with logged_in(server, "alice", tls=True) as client:
        client.send(b"a LOGOUT\r\n")
        sock = client.sock
        assert hasattr(sock, "suppress_ragged_eofs")
        sock.suppress_ragged_eofs = False
        assert client.rest().endswith(b"a OK\r\n")


def test_a_client_that_vanishes_in_the_middle(server: Server) -> None:
    for tls in (False, True):
        with talk(server, tls=tls) as client:
            client.send(b"a LOGIN alice {4}\r\n")
        with logged_in(server, "alice", tls=tls) as client:
            client.send(b"a FLOOD 20000\r\n")
            assert isinstance(client, Talk)
    with logged_in(server, "alice") as client:
        assert client.who()["user"] == "alice"
