"""A user database that stands still, locks that are held: who has to wait, and who goes on."""

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sharefs.mount.entries import TIMEOUT
from sharefs.mount.waiting import MAX_WAITING
from tests.account.world import UIDS, World
from tests.mount.worlds import users_at_home, view_of
from tests.support.become import Child, Identity, start_as
from tests.support.mount import Mount, mounted

pytestmark = [pytest.mark.superuser, pytest.mark.fuse]

WHO = {name: Identity(uid, uid) for name, uid in UIDS.items()}


@pytest.fixture
def still(open_tmp: Path) -> Iterator[tuple[World, Mount, Mount]]:
    """The view, and the mirror in which its user database lies: stopped, that hangs as LDAP may."""
    with users_at_home() as world:
        source = open_tmp / "source"
        source.mkdir()
        source.chmod(0o755)
        (source / "users").write_bytes((world.top / "users").read_bytes())
        with mounted(open_tmp, ["--mirror", source]) as database:
            text = world.config_path.read_text()
            world.config_path.write_text(
                text.replace(f"{world.top}/users", f"{database.top}/users")
            )
            with view_of(world) as view:
                try:
                    yield world, view, database
                finally:
                    database.process.send_signal(signal.SIGCONT)


def outcome(action: Callable[[], object]) -> str:
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def start(name: str, action: Callable[[], object]) -> Child[str]:
    return start_as(UIDS[name], UIDS[name], (), lambda: outcome(action))


def work(home: Path) -> int:
    """What alice does all day."""
    for number in range(20):
        (home / "tmp" / str(number)).write_text("x")
        os.rename(home / "tmp" / str(number), home / "new" / str(number))
    return len(os.listdir(home / "new"))


def test_a_database_that_stands_still_stops_nobody_who_is_known(
    still: tuple[World, Mount, Mount],
) -> None:
    _, view, database = still
    own = view.top / "alice" / ".Own"
    assert ".Own" in WHO["alice"].run(os.listdir, view.top / "alice")
    time.sleep(TIMEOUT)  # the kernel knows by itself that the database has not changed
    database.process.send_signal(signal.SIGSTOP)
    with start("bob", lambda: os.listdir(view.top / "bob")) as bob:
        assert WHO["alice"].run(work, own) == 20
        assert ".Own" in WHO["alice"].run(os.listdir, view.top / "alice")
        time.sleep(0.5)  # long enough for an answer, had there been one
        assert os.waitpid(bob.pid, os.WNOHANG) == (0, 0)
        database.process.send_signal(signal.SIGCONT)
        assert bob.result() == "done"


def test_nobody_waits_for_the_many_requests_of_one(still: tuple[World, Mount, Mount]) -> None:
    """bob asks for more users than there are threads and tasks for; carol's first question, too,
    is answered as soon as the database can."""
    _, view, database = still
    own = view.top / "alice" / ".Own"
    WHO["alice"].run(os.listdir, own)
    told: list[str] = []

    def flood() -> dict[str, int]:
        def knock(number: int) -> None:
            told.append(outcome(lambda: os.stat(view.top / f"nobody{number}")))

        threads = [threading.Thread(target=knock, args=[n]) for n in range(MAX_WAITING + 40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {word: told.count(word) for word in set(told)}

    database.process.send_signal(signal.SIGSTOP)
    bob = start_as(UIDS["bob"], UIDS["bob"], (), flood)
    with bob, start("carol", lambda: os.listdir(view.top / "carol")) as carol:
        for _ in range(5):
            WHO["alice"].run(work, own)
        database.process.send_signal(signal.SIGCONT)
        assert carol.result() == "done"
        answers = bob.result()
    assert answers.pop("ENOENT") >= MAX_WAITING
    assert answers.keys() <= {"EAGAIN"}


def test_waiting_for_a_lock_stops_nobody(still: tuple[World, Mount, Mount]) -> None:
    """bob holds the lock of his own ACL file and has a hundred processes wait for it."""
    world, view, _ = still
    own = view.top / "bob" / ".Own"
    WHO["bob"].run(os.listdir, own)
    lock = world.maildir("bob", ".Own", "dovecot-acl.lock")
    WHO["bob"].run(lock.write_text, "")

    def wait() -> None:
        def change() -> None:
            outcome(lambda: os.setxattr(own, "user.sharefs.acl.user=carol", b"lr"))

        threads = [threading.Thread(target=change, daemon=True) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with start_as(UIDS["bob"], UIDS["bob"], (), wait):
        time.sleep(0.3)
        alice = view.top / "alice" / ".Own"
        name = "user.sharefs.acl.user=carol"
        WHO["alice"].run(os.setxattr, alice, name, b"lr")  # takes a thread, too
        assert WHO["alice"].run(os.getxattr, alice, name) == b"lr"
        lock.unlink()


def test_who_leaves_the_database_loses_what_is_open_already(
    still: tuple[World, Mount, Mount],
) -> None:
    world, view, database = still
    own = view.top / "bob" / ".Own"
    (world.maildir("bob", ".Own", "cur") / "1.host:2,").write_text("x")
    users = database.top.parent / "source" / "users"

    def read_until_refused() -> str:
        os.chdir(own / "cur")
        fd = os.open("1.host:2,", os.O_RDONLY)
        lines = users.read_text().splitlines(keepends=True)
        users.write_text("".join(line for line in lines if not line.startswith("bob:")))
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            answer = outcome(lambda: os.read(os.open("1.host:2,", os.O_RDONLY), 1))
            if answer != "done":
                return answer
            time.sleep(0.05)
        return "never"

    users.chmod(0o666)
    users.parent.chmod(0o777)
    assert WHO["bob"].run(read_until_refused) in ("ENOENT", "EACCES")
