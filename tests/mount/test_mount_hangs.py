"""File systems below that stop answering, whoever mounted them: nobody else waits for long.

What hangs is a mirror of our own whose daemon is stopped (SIGSTOP): to the daemon above it a FUSE
file system of root's.
"""

import contextlib
import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final, TextIO

import pytest

from sharefs.acl import Mode
from sharefs.identifiers import user
from sharefs.mount.foreign import Mounted
from sharefs.mount.silent import Silent, mount_of
from sharefs.mount.turn import Turn
from sharefs.rights import Rights
from tests.account.world import UIDS, World
from tests.mount.test_mount_control import outcome
from tests.mount.worlds import make_inboxes, users_at_home, view_of
from tests.support.become import Identity, start_as
from tests.support.mount import Mount, mounted
from tests.support.server import wait_until

ALICE: Final = Identity(UIDS["alice"], UIDS["alice"])
CAROL: Final = Identity(UIDS["carol"], UIDS["carol"])
BOB: Final = Identity(UIDS["bob"], UIDS["bob"])


def test_a_turn_that_was_taken_is_not_let_go_of() -> None:
    turn, inside, go_on = Turn(), threading.Event(), threading.Event()
    done: list[str] = []

    def hold() -> None:
        turn.when_relieved(lambda: done.append("refused"))
        with turn:
            inside.set()
            go_on.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(20)
    assert thread.ident is not None
    assert not turn.take_from(thread.ident, lambda: False, lambda: done.append("never"))
    assert turn.locked()
    assert turn.take_from(thread.ident, lambda: True, lambda: done.append("first"))
    assert done == ["first", "refused"]
    assert not turn.locked()
    with turn:
        go_on.set()
        thread.join(20)
        assert turn.locked()
    assert not turn.take_from(thread.ident, lambda: True, lambda: done.append("twice"))


def test_where_a_path_leads_to(tmp_path: Path) -> None:
    """Through links, and without a look at what may hang."""
    far = Mounted(PurePosixPath(tmp_path, "far"), 7, "nfs4", None, 7)
    mounts = (Mounted(PurePosixPath("/"), 1, "ext4", None, 1), far)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "up").symlink_to("../far/alice")
    (tmp_path / "home" / "away").symlink_to(tmp_path / "far")
    (tmp_path / "home" / "loop").symlink_to("loop")
    where = {
        "far": far, "far/alice/deep": far, "home/up": far, "home/up/Maildir": far,
        "home/away/x": far, "home": mounts[0], "farther": mounts[0], "home/loop": None,
        "home/../far": far,
    }  # fmt: skip
    for name, want in where.items():
        assert mount_of(PurePosixPath(tmp_path, name), mounts) == want, name
    silent = Silent()
    silent.mounts = mounts
    silent.demand_path(tmp_path / "far")
    silent.begin(far.device)
    with pytest.raises(TimeoutError):
        silent.demand_path(tmp_path / "home" / "up" / "Maildir")
    silent.demand_path(tmp_path / "home")
    silent.end(far.device)
    silent.demand_path(tmp_path / "far")


def is_stopped(mount: Mount) -> bool:
    """Whether every thread of its daemon is."""
    tasks = Path(f"/proc/{mount.process.pid}/task").iterdir()
    return all("\nState:\tT" in (task / "status").read_text() for task in tasks)


@contextlib.contextmanager
def not_answering(below: Mount) -> Iterator[None]:
    """A file system does not answer."""
    os.kill(below.process.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: is_stopped(below))
        yield
    finally:
        os.kill(below.process.pid, signal.SIGCONT)


FIRST: Final[dict[str, Callable[[Path, TextIO], object]]] = {
    "list": lambda top, held: os.listdir(top),
    "look up": lambda top, held: os.stat(top / "another"),  # the compiled part's
    "close": lambda top, held: held.close(),
}


@pytest.mark.superuser
@pytest.mark.fuse
@pytest.mark.parametrize("first", list(FIRST))
def test_the_others_in_a_mirror_go_on(open_tmp: Path, first: str) -> None:
    """Whatever it is that somebody waits for when it begins."""
    top, far = open_tmp / "top", open_tmp / "far"
    homes = top / "homes"
    for name, uid in (("alice", ALICE.uid), ("bob", BOB.uid)):
        (homes / name).mkdir(parents=True)
        os.chown(homes / name, uid, uid)
    (homes / "bob" / "letter").write_text("bob's")
    os.chown(homes / "bob" / "letter", BOB.uid, BOB.uid)
    far.mkdir()
    (far / "letter").write_text("alice's")
    # The lower one is mounted on homes/mnt.
    with mounted(homes, ["--mirror", far]) as alices, mounted(top, ["--mirror", homes]) as mount:
        letter = mount.top / "mnt" / "letter"
        assert letter.read_text() == "alice's"
        held = letter.open("a")
        assert outcome(lambda: os.stat(mount.top / "mnt" / "missing")) == "ENOENT"
        begin = functools.partial(FIRST[first], mount.top / "mnt", held)
        look = functools.partial(os.listdir, mount.top / "mnt")
        with not_answering(alices), start_as(0, 0, (), lambda: outcome(begin)) as waiting:
            assert BOB.run((mount.top / "bob" / "letter").read_text) == "bob's"
            assert waiting.result() == "ETIMEDOUT"
            # From now on nobody waits at all.
            assert outcome(look) == "ETIMEDOUT"
            assert outcome(letter.read_text) == "ETIMEDOUT"
            assert outcome(held.close) == "ETIMEDOUT"  # its locks may not have ended
            assert {"alice", "bob"} <= set(os.listdir(mount.top))
            for number in range(20):
                BOB.run((mount.top / "bob" / f"new{number}").write_text, "x")
            assert len(BOB.run(os.listdir, mount.top / "bob")) == 21
        wait_until(lambda: outcome(look) == "done", 20)
        assert letter.read_text() == "alice's"
        assert "does not answer" in mount.log()


@pytest.fixture
def alices_far() -> Iterator[tuple[World, Mount, Mount]]:
    """A view of a world in which alice's home is on a file system that may hang; that one."""
    with users_at_home() as world:
        far = world.top / "far"
        world.home("alice").rename(far)
        world.home("alice").symlink_to("alice-is/mnt")
        (world.home("alice").parent / "alice-is").mkdir(mode=0o755)
        with mounted(world.home("alice").parent / "alice-is", ["--mirror", far]) as below:
            make_inboxes(world)
            share = Rights.parse("lr")
            world.as_user("alice", lambda own: own.set_acl("Own", user("bob"), Mode.REPLACE, share))
            with view_of(world) as view:
                yield world, view, below


@pytest.mark.superuser
@pytest.mark.fuse
def test_the_others_in_a_view_go_on(alices_far: tuple[World, Mount, Mount]) -> None:
    world, mount, below = alices_far
    bobs, shared = mount.top / "bob", mount.top / "bob" / ".shared.alice.Own"
    for name in ("bob", "carol"):
        (world.maildir(name) / "new" / "mine").write_text("Subject: mine\n\n")
    assert BOB.run(lambda: os.listdir(shared / "cur")) == []
    with not_answering(below):
        with (
            start_as(
                ALICE.uid, ALICE.gid, (), lambda: outcome(lambda: os.listdir(mount.top / "alice"))
            ) as alice,
            start_as(
                BOB.uid, BOB.gid, (), lambda: outcome(lambda: os.listdir(shared / "cur"))
            ) as bob,
        ):
            assert "mine" in CAROL.run(os.listdir, mount.top / "carol" / "new")
            assert alice.result() in ("ETIMEDOUT", "EIO")  # it is hers
            assert bob.result() != "done"
        for _ in range(3):
            assert ".Own" in BOB.run(os.listdir, bobs)
            assert BOB.run(os.listdir, bobs / "new") == ["mine"]
    wait_until(lambda: outcome(lambda: BOB.run(os.listdir, shared / "cur")) == "done", 20)
