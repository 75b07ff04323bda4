"""The process that waits for the next user: rehearsed as nobody, taken once, gone with the rest."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest

from imap.service import connection
from imap.service.channel import Channel
from imap.service.rehearsal import Rehearsal
from imap.service.settings import ServiceSettings
from imap.service.spare import NAME, no_rehearsal
from imap.service.tickets import new_ticket
from sharefs.identity.model import MailUser
from tests.service.clients import logged_in
from tests.service.conftest import double_server
from tests.service.spawning import USER, Surroundings, spawner
from tests.support.become import start_as
from tests.support.server import wait_until

pytestmark = pytest.mark.superuser

OTHER = MailUser(name="bob", uid=70002, gid=70002)


def telling_worker(control_fd: int, name: str) -> int:
    """Says on each connection it gets who it is, and closes it."""
    with socket.socket(fileno=control_fd) as control:
        channel = Channel(control)
        control.setblocking(True)
        while message := channel.receive():
            for fd in message.fds:
                os.write(fd, f"{name} {os.getresuid()} {os.getgroups()}".encode())
            message.close()
            channel.send({"closed": message.body["serial"]})
    return 0


def waiting(around: Surroundings) -> list[int]:
    """Processes that are ready for a user."""
    found = psutil.Process(around.pid).children()
    return [each.pid for each in found if _name(each) == NAME]


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return ""


def spare_of(around: Surroundings) -> int:
    wait_until(lambda: len(waiting(around)) == 1)
    return waiting(around)[0]


def log_in(around: Surroundings, user: MailUser) -> tuple[int, bytes]:
    """The worker's pid, and what it says."""
    ticket = new_ticket()
    around.grant(ticket, user)
    answer, said = around.redeem(ticket)
    assert answer["result"] == "ok"
    return int(answer["pid"]), said


def spawning(
    rehearse: Callable[[], None] = no_rehearsal,
) -> AbstractContextManager[Surroundings]:
    return spawner(ServiceSettings(base_dir=Path("/nonexistent")), telling_worker, rehearse)


def test_the_next_worker_is_the_process_that_waits() -> None:
    with spawning() as around:
        for user in (USER, OTHER):
            spare = spare_of(around)
            pid, said = log_in(around, user)
            assert pid == spare
            uids = (user.uid,) * 3
            assert said.decode() == f"imap({user.name}) {uids} [{user.gid}]"
            assert psutil.Process(pid).name() == f"sf-imap:{user.name}"


def test_it_rehearses_before_it_is_anybody(tmp_path: Path) -> None:
    with spawning(lambda: (tmp_path / f"{os.getpid()} {os.getuid()}").touch()) as around:
        spare = spare_of(around)
        assert [each.name for each in tmp_path.iterdir()] == [f"{spare} 0"]


def test_who_comes_while_it_rehearses_gets_a_new_process(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    def rehearse() -> None:
        (tmp_path / "begun").touch()
        wait_until(gate.exists)

    with spawning(rehearse) as around:
        wait_until((tmp_path / "begun").exists)
        pid, said = log_in(around, USER)
        assert said.startswith(b"imap(alice) (70001")
        gate.touch()
        assert spare_of(around) != pid


def _raise() -> None:
    raise RuntimeError("a rehearsal went wrong")


def _leave_a_thread() -> None:
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()


@pytest.mark.parametrize("rehearse", [_raise, _leave_a_thread])
def test_one_that_must_not_be_used_is_not(rehearse: Callable[[], None], tmp_path: Path) -> None:
    def marked() -> None:
        (tmp_path / str(os.getpid())).touch()
        rehearse()

    with spawning(marked) as around:
        wait_until(lambda: bool(list(tmp_path.iterdir())))
        (spare,) = (int(each.name) for each in tmp_path.iterdir())
        wait_until(lambda: not psutil.pid_exists(spare))
        pid, said = log_in(around, USER)
        assert pid != spare
        assert said.startswith(b"imap(alice) (70001")


def test_without_files_it_waits_unrehearsed() -> None:
    def rehearse() -> None:
        raise OSError("no room")

    with spawning(rehearse) as around:
        assert spare_of(around) == log_in(around, USER)[0]


def test_when_it_is_killed_a_new_process_serves() -> None:
    with spawning() as around:
        spare = spare_of(around)
        os.kill(spare, signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(spare))
        pid, said = log_in(around, USER)
        assert said.startswith(b"imap(alice) (70001")
        assert pid != spare


def test_a_retired_spawner_keeps_none() -> None:
    with spawning() as around:
        spare = spare_of(around)
        around.tell(around.control, {"do": "retire"})
        wait_until(lambda: not psutil.pid_exists(spare))
        assert log_in(around, USER)[1].startswith(b"imap(alice) (70001")


def test_a_rehearsal_says_yes_to_all_and_leaves_nothing(tmp_path: Path) -> None:
    rehearsal = Rehearsal.of(connection.serve, tmp_path)

    def perform() -> tuple[bytes, list[str], bool, int]:
        before = os.listdir("/proc/self/fd")
        said = rehearsal.perform()
        same = os.listdir("/proc/self/fd") == before
        return said, os.listdir(tmp_path), same, len(os.listdir("/proc/self/task"))

    with start_as(0, 0, (), perform) as child:
        said, left, same_descriptors, threads = child.result()
    tagged = [line for line in said.split(b"\r\n") if line[:1].isdigit()]
    assert len(tagged) == 7
    assert all(line.split()[1] == b"OK" for line in tagged), said
    assert (left, same_descriptors, threads) == ([], True, 1)


def test_a_worker_that_has_waited_is_as_any_other() -> None:
    with double_server() as server:
        spare = server.process(NAME)
        kinds = [target.split(":")[0] for target in spare.descriptors().values()]
        assert {*kinds} <= {"/dev/null", "pipe", "socket", "anon_inode"}
        assert kinds.count("socket") == 1
        assert not list((server.base / "run").glob("rehearsal-*"))
        with logged_in(server, "bob"):
            worker = server.process("sf-imap:bob")
            assert worker.pid == spare.pid
            assert worker.uids == (70002,) * 4
            assert worker.gids == (70002,) * 4
            assert worker.groups == (7777, 70002)
            assert worker.no_new_privs
            assert worker.capabilities == 0
        assert "rehears" not in server.log_text()
