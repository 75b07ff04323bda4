"""The whole server with connections that fall asleep at once: nobody can tell, nothing is lost."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest

from imap.service.spare import NAME
from tests.service.clients import Talk, logged_in, talk
from tests.support.dovecot import MailUser
from tests.support.server import Process, Server, private_server, wait_until

pytestmark = pytest.mark.superuser

MESSAGE = b"Subject: hello\n\nworld\n"
AFTER = 0.1  # seconds
CONFIG = """
mail_driver = maildir
mail_path = ~/Maildir
imap_idle_notify_interval = 1s
"""


def make_users(top: Path, names: Sequence[str]) -> list[MailUser]:
    users = []
    for number, name in enumerate(names):
        uid, home = 61200 + number, top / name
        for folder in ("cur", "new", "tmp"):
            (home / "Maildir" / folder).mkdir(parents=True)
        for message in range(3):
            (home / "Maildir" / "cur" / f"{1700000000 + message}.x:2,").write_bytes(MESSAGE)
        for path in (home, *home.rglob("*")):
            shutil.chown(path, uid, uid)
        users.append(MailUser(name, uid, uid, home))
    return users


def drowsy(users: list[MailUser], config: str = "") -> AbstractContextManager[Server]:
    command = (sys.executable, "-m", "tests.support.drowsy_server", "{config}", str(AFTER))
    return private_server(CONFIG + config, users, command=command)


@pytest.fixture
def users(open_tmp: Path) -> list[MailUser]:
    return make_users(open_tmp, ("ann", "ben", "cat"))


@pytest.fixture
def fragile(users: list[MailUser]) -> Iterator[Server]:
    """For one test, which may harm it."""
    with drowsy(users) as started:
        yield started


@pytest.fixture(scope="module")
def hotel() -> Iterator[tuple[Server, list[MailUser]]]:
    """One server for all tests that harm no process of ours, with a user for each."""
    top = Path(tempfile.mkdtemp(prefix="sharefs-test-"))
    top.chmod(0o755)
    users = make_users(top, [f"guest{number}" for number in range(12)])
    try:
        with drowsy(users) as started:
            yield started, users
    finally:
        shutil.rmtree(top)


@pytest.fixture
def server(hotel: tuple[Server, list[MailUser]]) -> Server:
    return hotel[0]


@pytest.fixture
def user(hotel: tuple[Server, list[MailUser]]) -> MailUser:
    """Whom no other test knows."""
    return hotel[1].pop()


def workers(server: Server, name: str = "") -> list[Process]:
    """Everybody's, or those of one user: guest10 is not guest1."""
    found = server.processes(f"sf-imap:{name}")
    return [process for process in found if not name or process.name == f"sf-imap:{name}"]


def wait_asleep(server: Server, name: str = "") -> None:
    wait_until(lambda: not workers(server, name), explain=server.log_text)


def deliver(user: MailUser, name: str) -> None:
    """As a delivery agent does."""
    maildir = user.home / "Maildir"
    (maildir / "tmp" / name).write_bytes(MESSAGE)
    shutil.chown(maildir / "tmp" / name, user.uid, user.uid)
    (maildir / "tmp" / name).rename(maildir / "new" / name)


def mark_seen(user: MailUser) -> None:
    """As another program does with the first message."""
    first = min((user.home / "Maildir" / "cur").iterdir())
    first.rename(first.with_name(first.name.partition(":")[0] + ":2,S"))


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_idle_is_told_of_mail_and_goes_on(server: Server, user: MailUser, tls: bool) -> None:
    with logged_in(server, user.name, tls=tls) as client:
        client.ask(b"a SELECT INBOX")
        client.send(b"b IDLE\r\n")
        assert client.line() == b"+ idling\r\n"
        for number in (4, 5):
            wait_asleep(server, user.name)
            deliver(user, f"18{number}.x")
            assert client.until(b"* %d EXISTS" % number)
            assert client.until(b"* %d RECENT" % (number - 3))
        wait_asleep(server, user.name)
        client.send(b"DONE\r\n")
        assert client.until(b"b OK Idle completed.\r\n")
        assert client.ask(b"c FETCH 4:5 UID")[-1] == b"c OK Fetch completed.\r\n"
        assert client.ask(b"d LOGOUT")[-1].startswith(b"d OK")


def test_a_silent_client_is_told_with_its_next_command(server: Server, user: MailUser) -> None:
    with logged_in(server, user.name) as client:
        client.ask(b"e ENABLE QRESYNC")
        client.ask(b"a SELECT INBOX")
        wait_asleep(server, user.name)
        mark_seen(user)
        deliver(user, "1900.x")
        assert not workers(server, user.name), "it did not ask"
        told = client.ask(b"b NOOP")
        assert b"* 4 EXISTS\r\n" in told
        (flags,) = [line for line in told if b"FETCH" in line]
        assert flags.startswith(b"* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (")
        wait_asleep(server, user.name)
        assert client.ask(b"c NOOP") == [b"c OK NOOP completed.\r\n"]
        client.ask(b"d STORE 2 +FLAGS (\\Deleted)")
        wait_asleep(server, user.name)
        assert b"* VANISHED 2\r\n" in client.ask(b"f EXPUNGE")


def test_connections_of_one_user_sleep_and_wake_together(server: Server, user: MailUser) -> None:
    with logged_in(server, user.name) as one, logged_in(server, user.name) as two:
        with logged_in(server, user.name, tls=True) as unselected:
            for client in (one, two):
                client.ask(b"a SELECT INBOX")
                client.send(b"b IDLE\r\n")
                assert client.line() == b"+ idling\r\n"
            wait_asleep(server, user.name)
            assert unselected.ask(b'c LIST "" INBOX')[-1].startswith(b"c OK")
            deliver(user, "1901.x")
            for client in (one, two):
                assert client.until(b"* 4 EXISTS\r\n")
            wait_asleep(server, user.name)
            unselected.ask(b"d LOGOUT")
        with logged_in(server, user.name) as later:
            assert b"MESSAGES 4" in later.ask(b"e STATUS INBOX (MESSAGES)")[0]
        one.send(b"DONE\r\n")
        assert one.until(b"b OK")
        assert two.until(b"* OK Still here\r\n")


def test_input_in_the_moment_of_falling_asleep_is_answered_once(
    server: Server, user: MailUser
) -> None:
    """Commands around the time at which it falls asleep, in one and in two pieces."""
    with logged_in(server, user.name) as client:
        client.ask(b"a SELECT INBOX")
        for number in range(60):
            time.sleep(AFTER * (0.7 + number / 100))
            tag = b"t%d" % number
            if number % 2:
                client.send(tag + b" NO")
                time.sleep(AFTER * number / 60)
                client.send(b"OP\r\n")
            else:
                client.send(tag + b" NOOP\r\n")
            assert client.line() == tag + b" OK NOOP completed.\r\n"
    assert "sleep" not in server.log_text()


def test_half_a_command_keeps_it_awake(server: Server, user: MailUser) -> None:
    with logged_in(server, user.name) as client:
        client.send(b"a SELECT IN")
        time.sleep(AFTER * 5)
        assert workers(server, user.name)
        client.send(b"BOX\r\n")
        assert client.until(b"a OK")


def test_a_compressed_connection_stays_awake(server: Server, user: MailUser) -> None:
    with logged_in(server, user.name) as client:
        client.ask(b"a COMPRESS DEFLATE")
        time.sleep(AFTER * 5)
        assert workers(server, user.name)


def test_those_asleep_hear_that_the_server_is_there(server: Server, user: MailUser) -> None:
    with logged_in(server, user.name) as client:
        client.ask(b"a SELECT INBOX")
        client.send(b"b IDLE\r\n")
        client.line()
        wait_asleep(server, user.name)
        assert client.line() == b"* OK Still here\r\n"
        assert client.line() == b"* OK Still here\r\n"
        assert not workers(server, user.name)


def test_no_process_of_a_sleeper_is_left_and_the_spawner_has_nothing_of_his(
    server: Server, user: MailUser
) -> None:
    with logged_in(server, user.name) as client:
        client.ask(b"a SELECT INBOX")
        client.send(b"b IDLE\r\n")
        client.line()
        wait_asleep(server, user.name)
        assert not [each for each in server.processes() if user.uid in each.uids]
        held = server.process("sharefs-spawner").descriptors().values()
        kinds = {target.split(":")[0] for target in held}
        assert kinds <= {"/dev/null", "pipe", "socket", "anon_inode"}, held


def test_who_hangs_up_asleep_is_gone(server: Server, user: MailUser) -> None:
    with logged_in(server, user.name) as client:
        client.ask(b"a SELECT INBOX")
        wait_asleep(server, user.name)
        server.process(NAME)  # to which the spawner has a channel
        before = len(server.process("sharefs-spawner").descriptors())
    server.wait_for_log(
        rf"imap\({user.name}\)<\d+><.*>: Info: Disconnected: Connection closed in=\d+ out=\d+"
    )
    assert len(server.process("sharefs-spawner").descriptors()) == before - 2
    assert not workers(server, user.name)


def test_sleepers_count_as_connections(users: list[MailUser]) -> None:
    with drowsy(users, "mail_max_userip_connections = 2\n") as server:
        with logged_in(server, "ann"), logged_in(server, "ann"):
            wait_asleep(server)
            with talk(server) as third:
                assert third.ask(b"a LOGIN ann pass")[-1].startswith(b"a NO [LIMIT]")
        wait_until(lambda: server.log_text().count("Connection closed") >= 2)
        with logged_in(server, "ann") as again:
            assert again.ask(b"a NOOP")[-1].startswith(b"a OK")


def test_more_sleepers_than_workers_may_be(users: list[MailUser]) -> None:
    """They wake in turn: nobody is sent away because others have woken too."""
    with drowsy(users, "service imap {\n  process_limit = 1\n}\n") as server:
        clients: list[Talk] = []
        try:
            for user in users:
                clients.append(Talk(server.connect()))
                clients[-1].line()
                assert clients[-1].ask(b"in LOGIN %s pass" % user.name.encode())
                clients[-1].ask(b"a SELECT INBOX")
                clients[-1].send(b"b IDLE\r\n")
                clients[-1].line()
                wait_asleep(server)
                wait_until(lambda: not _unburied(server))  # until then there is no room
            for user in users:
                deliver(user, "1902.x")
            for client in clients:
                assert client.until(b"* 4 EXISTS\r\n")
        finally:
            for client in clients:
                client.sock.close()


def _unburied(server: Server) -> list[int]:
    """Workers that have ended, of which the spawner has not heard yet."""
    found = []
    for process in psutil.Process(server.process("sharefs-spawner").pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name().startswith("sf-imap:"):
                found.append(process.pid)
    return found


def test_sleepers_hear_that_the_server_ends(fragile: Server) -> None:
    with logged_in(fragile, "ann") as client, logged_in(fragile, "ben", tls=True) as other:
        wait_asleep(fragile)
        fragile.stop()
        assert client.rest() == b"* BYE Server shutting down.\r\n"
        assert other.rest() == b"* BYE Server shutting down.\r\n"


@pytest.mark.parametrize("asleep", [True, False], ids=["asleep", "awake"])
@pytest.mark.parametrize("role", ["sharefs-spawner", "master"])
def test_a_death_of_ours_leaves_no_client_waiting(fragile: Server, role: str, asleep: bool) -> None:
    with logged_in(fragile, "ann") as client:
        if asleep:
            wait_asleep(fragile)
        else:
            client.send(b"a COMPR")  # half a command
        if role == "master":
            fragile.kill()
        else:
            os.kill(fragile.process(role).pid, signal.SIGKILL)
        assert b"BYE" in client.rest() or asleep


def test_a_worker_that_dies_ends_its_connections_at_once(fragile: Server) -> None:
    """Although the spawner has a descriptor of each."""
    with logged_in(fragile, "ann") as client:
        client.send(b"a SEL")  # so that it does not fall asleep
        os.kill(fragile.process("sf-imap:ann").pid, signal.SIGKILL)
        assert client.rest() == b""
    fragile.wait_for_log("died: signal 9 .*, 1 connections closed")


def test_a_new_configuration_lets_sleepers_sleep(fragile: Server) -> None:
    with logged_in(fragile, "ann") as client:
        client.ask(b"a SELECT INBOX")
        wait_asleep(fragile)
        os.kill(fragile.pid, signal.SIGHUP)
        wait_until(lambda: len(fragile.processes("sharefs-spawner")) == 2)
        with logged_in(fragile, "ann") as other:
            assert other.ask(b"b NOOP")[-1].startswith(b"b OK")
        assert client.ask(b"c NOOP") == [b"c OK NOOP completed.\r\n"]
        wait_asleep(fragile)
        assert client.ask(b"d LOGOUT")[-1].startswith(b"d OK")
    wait_until(lambda: len(fragile.processes("sharefs-spawner")) == 1, explain=fragile.log_text)


def test_without_a_superuser(users: list[MailUser]) -> None:
    command = (sys.executable, "-m", "tests.support.drowsy_server", "{config}", str(AFTER))
    with (
        private_server(CONFIG, users[:1], command=command, uid=users[0].uid) as server,
        logged_in(server, "ann") as client,
    ):
        client.ask(b"a SELECT INBOX")
        client.send(b"b IDLE\r\n")
        client.line()
        wait_asleep(server)
        deliver(users[0], "1903.x")
        assert client.until(b"* 4 EXISTS\r\n")


@pytest.mark.parametrize("idling", [True, False], ids=["idling", "silent"])
def test_a_mailbox_that_goes_away_meanwhile(server: Server, user: MailUser, idling: bool) -> None:
    with logged_in(server, user.name) as client:
        client.ask(b"a CREATE Work")
        client.ask(b"b SELECT Work")
        if idling:
            client.send(b"c IDLE\r\n")
            client.line()
        wait_asleep(server, user.name)
        mailbox = user.home / "Maildir" / ".Work"
        mailbox.rename(mailbox.with_name("gone"))
        shutil.rmtree(mailbox.with_name("gone"))
        if not idling:
            client.send(b"c NOOP\r\n")
        assert client.until(b"* BYE The selected mailbox was deleted")
        answer = b"OK Idle completed." if idling else b"NO [NONEXISTENT] The mailbox is gone"
        assert client.rest() == b"c " + answer + b"\r\n"
