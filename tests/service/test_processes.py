"""The process model as the kernel sees it: who runs as whom, with what open, and for how long."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.clients import logged_in, talk
from tests.service.conftest import DOUBLE, USERS, double_server
from tests.support.dovecot import MailUser
from tests.support.server import Server, private_server, wait_until

pytestmark = pytest.mark.superuser


def test_each_process_has_the_rights_it_needs_and_no_more(server: Server) -> None:
    with logged_in(server, "bob"):
        master = next(p for p in server.processes() if p.pid == server.pid)
        assert master.uids == (0, 0, 0, 0)
        for name in ("sharefs-auth", "sharefs-spawner"):
            assert server.process(name).uids == (0, 0, 0, 0)
        logins = server.processes("sharefs-login")
        assert logins
        for login in logins:
            assert 0 not in (*login.uids, *login.gids, *login.groups)
            assert login.root == str(server.base / "run" / "empty")
            assert os.listdir(login.root) == []
            assert login.no_new_privs
            assert login.capabilities == 0
        worker = server.process("sf-imap:bob")
        assert worker.uids == (70002,) * 4
        assert worker.gids == (70002,) * 4
        assert worker.groups == (7777, 70002)
        assert worker.no_new_privs
        assert worker.capabilities == 0


def test_the_worker_says_the_same(server: Server) -> None:
    with logged_in(server, "bob") as client:
        who = client.who()
    assert who["uids"] == "(70002, 70002, 70002)"
    assert who["gids"] == "(70002, 70002, 70002)"
    assert who["groups"] == "[7777, 70002]"


def test_a_worker_holds_no_descriptor_but_its_own(server: Server) -> None:
    """Whatever the spawner and earlier workers had open stays with them."""
    with logged_in(server, "alice"), logged_in(server, "bob"), logged_in(server, "carl", tls=True):
        spawner = server.process("sharefs-spawner").descriptors()
        held = [
            server.process(f"sf-imap:{name}").descriptors() for name in ("alice", "bob", "carl")
        ]
    log_pipe = spawner[2]
    for descriptors in held:
        kinds = {target.split(":")[0] for target in descriptors.values()}
        assert kinds <= {"/dev/null", "pipe", "socket", "anon_inode"}, descriptors
        assert {t for t in descriptors.values() if t.startswith("pipe")} == {log_pipe}
    sockets = [{t for t in each.values() if t.startswith("socket")} for each in held]
    assert not sockets[0] & sockets[1]
    assert not sockets[1] & sockets[2]
    # Of each worker the spawner has the client's socket too, for when it sleeps, and no other.
    kept = {*spawner.values()}
    assert [len(each & kept) for each in sockets] == [1, 1, 1]


def test_a_users_connections_share_a_worker_and_users_do_not(server: Server) -> None:
    with logged_in(server, "alice") as one, logged_in(server, "alice", tls=True) as two:
        assert one.who()["pid"] == two.who()["pid"]
        with logged_in(server, "bob") as other:
            assert other.who()["pid"] != one.who()["pid"]


def test_users_of_one_identity_share_a_pool() -> None:
    with (
        double_server("sharefs_worker_processes = 2\n") as server,
        logged_in(server, "xan") as xan,
        logged_in(server, "yan") as yan,
        logged_in(server, "zan") as zan,
        logged_in(server, "xan") as again,
    ):
        pids = [client.who()["pid"] for client in (xan, yan, zan, again)]
        assert zan.who()["user"] == "zan"
    assert pids[0] == pids[3], "a user stays with a worker"
    assert len({*pids}) == 2


def test_homes_of_others_can_be_looked_up(server: Server) -> None:
    with logged_in(server, "alice") as client:
        assert client.ask(b"a HOME bob")[0] == b"* HOME /nonexistent/bob\r\n"


def test_an_idle_worker_ends_and_the_next_login_gets_a_new_one() -> None:
    with double_server("service imap {\n  idle_kill = 1s\n}\n") as server:
        with logged_in(server, "alice") as client:
            first = client.who()["pid"]
            wait_until(lambda: len(server.processes("sf-imap")) == 1)
            client.ask(b"z LOGOUT")
        wait_until(lambda: not server.processes("sf-imap"), explain=server.log_text)
        with logged_in(server, "alice") as client:
            assert client.who()["pid"] != first
        assert "died" not in server.log_text()
        assert not os.path.exists(f"/proc/{first}"), "no zombie stays"


def test_a_killed_worker_takes_nobody_with_it() -> None:
    with (
        double_server() as server,
        logged_in(server, "alice") as alice,
        logged_in(server, "bob") as bob,
        logged_in(server, "bob", tls=True) as bob_tls,
    ):
        pid = int(bob.who()["pid"])
        os.kill(pid, signal.SIGKILL)
        assert bob.rest() == b""
        assert bob_tls.rest() == b""
        assert alice.who()["user"] == "alice"
        with logged_in(server, "bob") as again:
            assert int(again.who()["pid"]) != pid
        server.wait_for_log(r"worker of bob .*died: signal 9 \(SIGKILL\), 2 connections closed")


def test_our_bug_ends_the_worker_loudly_and_no_other() -> None:
    with (
        double_server() as server,
        logged_in(server, "alice") as alice,
        logged_in(server, "bob") as bob,
        logged_in(server, "bob") as second,
    ):
        bob.send(b"a CRASH\r\n")
        want = b"* BYE Internal error; see the server log.\r\n"
        assert [bob.rest(), second.rest()] == [want] * 2
        assert alice.who()["user"] == "alice"
        server.wait_for_log("RuntimeError: a bug of ours")
        server.wait_for_log("worker of bob .*died: status 70")
        with logged_in(server, "bob") as again:
            assert again.who()["user"] == "bob"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (b"a REFUSE", "Refused: unavailable: refused"),
        (b"a BROKEN", "Connection lost"),
        (b"a XYZZY", "Protocol error"),
    ],
)
def test_faults_of_peers_and_refusals_end_one_session(
    server: Server, command: bytes, reason: str
) -> None:
    with logged_in(server, "alice") as one, logged_in(server, "alice") as other:
        session = one.who()["session"]
        one.send(command + b"\r\n")
        assert one.rest() == b""
        assert other.who()["user"] == "alice"
        server.wait_for_log(f"<{session}>: Info: Disconnected: {reason}")


@pytest.mark.parametrize("name", ["sharefs-login", "sharefs-auth", "sharefs-spawner"])
def test_every_process_is_replaced_when_it_dies(name: str) -> None:
    with double_server() as server:
        server.process("sharefs-spawner")  # alone: what it forks has its name for a moment
        before = {process.pid for process in server.processes(name)}
        with logged_in(server, "alice") as plain:
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            wait_until(
                lambda: len({p.pid for p in server.processes(name)} - before) == len(before),
                explain=server.log_text,
            )
            if name != "sharefs-spawner":
                assert plain.who()["user"] == "alice", "who has a worker notices nothing"
        for user in ("alice", "bob"):
            with logged_in(server, user, tls=True) as client:
                assert client.who()["user"] == user
        server.wait_for_log(r"died: signal 9 \(SIGKILL\); a new one starts in")


def test_when_the_master_is_killed_all_end() -> None:
    with (
        double_server() as server,
        logged_in(server, "alice") as client,
        logged_in(server, "bob", tls=True) as other,
    ):
        server.kill()
        assert b"* BYE" in client.rest()
        assert other.rest() in (b"", b"* BYE Server shutting down.\r\n")


def test_sigterm_says_bye_to_everybody() -> None:
    with double_server() as server:
        with (
            logged_in(server, "alice") as plain,
            logged_in(server, "bob", tls=True) as tls,
            talk(server) as stranger,
        ):
            server.stop()
            want = b"* BYE Server shutting down.\r\n"
            assert [client.rest() for client in (plain, tls, stranger)] == [want] * 3
        assert not (server.base / "run" / "sharefs.pid").exists()
        assert not (server.base / "run" / "lookup").exists()


def test_a_worker_that_does_not_end_is_killed() -> None:
    with double_server() as server, logged_in(server, "alice") as client:
        os.kill(int(client.who()["pid"]), signal.SIGSTOP)
        server.stop()
        assert "does not end; killed" in server.log_text()


def test_a_second_master_is_refused(server: Server) -> None:
    with private_server("", USERS, command=DOUBLE, start=False) as second:
        text = second.config.read_text().replace(f"{second.base}/run", f"{server.base}/run")
        second.config.write_text(text)
        with pytest.raises(AssertionError, match="runs already, as process"):
            second.start()
    with logged_in(server, "alice"):
        pass


def test_a_port_in_use_is_an_error_with_a_remedy(server: Server) -> None:
    with private_server("", USERS, command=DOUBLE, start=False) as second:
        text = second.config.read_text().replace(str(second.port), str(server.port))
        second.config.write_text(text)
        with pytest.raises(
            AssertionError, match=r"cannot listen on .* another server has the port"
        ):
            second.start()


OWN_UID = 70021


@pytest.fixture(scope="module")
def unprivileged() -> Iterator[Server]:
    """A server started by an ordinary user."""
    users = [
        MailUser("me", OWN_UID, OWN_UID, Path("/nonexistent/me")),
        MailUser("other", 70022, 70022, Path("/nonexistent/other")),
    ]
    with private_server("", users, command=DOUBLE, uid=OWN_UID) as started:
        yield started


def test_without_root_the_same_processes_serve_one_uid(unprivileged: Server) -> None:
    with logged_in(unprivileged, "me", tls=True) as client:
        assert client.who()["uids"] == f"({OWN_UID}, {OWN_UID}, {OWN_UID})"
        assert client.ask(b"a HOME other")[0] == b"* HOME /nonexistent/other\r\n"
        processes = unprivileged.processes()
        assert {process.uids for process in processes} == {(OWN_UID,) * 4}
        names = {process.name.split(":")[0] for process in processes}
        assert {"sharefs-auth", "sharefs-spawner", "sharefs-login", "sf-imap"} <= names


def test_without_root_others_are_refused_with_the_reason_in_the_log(unprivileged: Server) -> None:
    with talk(unprivileged) as client:
        assert client.ask(b"a LOGIN other pass")[-1].startswith(b"a NO [UNAVAILABLE]")
    unprivileged.wait_for_log("other has uid 70022 .* only root serves others")
