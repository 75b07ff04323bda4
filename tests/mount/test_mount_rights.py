"""Rights on file operations: each row of the table under bob's uid, with a right and without."""

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from sharefs.rights import CANONICAL
from tests.account.world import SHARED_GID, UIDS, World, world_in_tmp
from tests.mount.rights_table import BODY, MESSAGES, READ_ME, ROWS, Row, opened, picture
from tests.mount.worlds import make_inboxes, users_at_home, view_of
from tests.support.become import Child, Identity, start_as
from tests.support.mount import Mount

pytestmark = [pytest.mark.superuser, pytest.mark.fuse]

BOB: Final = Identity(UIDS["bob"], UIDS["bob"])
ALICE: Final = UIDS["alice"]


def _without(row: Row) -> Iterator[str]:
    """Sets of rights that lack one that the row needs."""
    for letter in row.rights:
        yield "".join(one for one in CANONICAL if one != letter)
    if row.any_of:
        yield "".join(one for one in CANONICAL if one not in row.any_of or one in row.rights)
    if not row.rights + row.any_of:
        yield "".join(one for one in CANONICAL if one != "l")


def _with(row: Row) -> Iterator[str]:
    """Just enough."""
    for letter in row.any_of or [""]:
        yield "l" + row.rights + letter


CASES: Final = [
    *((row, rights, True) for row in ROWS if not row.never for rights in _with(row)),
    *((row, rights, False) for row in ROWS if not row.never for rights in _without(row)),
    *((row, CANONICAL, False) for row in ROWS if row.never),
]
IDS: Final = [f"{row.name}-{rights}-{'ok' if ok else row.refusal}" for row, rights, ok in CASES]


def make_box(world: World, name: str, rights: str) -> Path:
    """A mailbox of alice's, closed to all by its modes, that bob has these rights on."""
    box = world.maildir("alice", "." + name)
    for path in (box, box / "cur", box / "new", box / "tmp"):
        path.mkdir(mode=0o700)
    for message in MESSAGES:
        (box / message).write_bytes(BODY)
        (box / message).chmod(0o600)
    (box / "dovecot-acl").write_text(f"user=bob {rights}\n")
    for path in (box, *box.rglob("*")):
        os.chown(path, ALICE, ALICE)
    return box


@pytest.fixture(scope="module")
def place(engine_choice: str) -> Iterator[tuple[World, Mount]]:
    with users_at_home() as world:
        make_inboxes(world)
        for number, (_, rights, _) in enumerate(CASES):
            make_box(world, f"Box{number}", rights)
        with view_of(world) as mount:
            yield world, mount


def outcome(action: Callable[[], Any]) -> str:
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


@pytest.mark.parametrize("number", range(len(CASES)), ids=IDS)
def test_each_operation_needs_its_rights(place: tuple[World, Mount], number: int) -> None:
    world, mount = place
    row, _, allowed = CASES[number]
    below = world.maildir("alice", f".Box{number}")
    before = picture(below)
    own = picture(world.maildir("bob", "cur"))
    shown = mount.top / "bob" / f".shared.alice.Box{number}"
    got = BOB.run(outcome, lambda: row.do(shown))
    if allowed:
        assert got == "done"
        if row.name.startswith(("chmod", "chgrp")):
            assert picture(below) == before  # modes belong to the mailbox
        return
    assert got == row.refusal
    assert picture(below).keys() - {"tmp/2000.M1P1.host", "tmp/2001.M1P1.host"} == before.keys()
    changed = {name for name in before if picture(below)[name] != before[name]}
    assert not changed
    assert picture(world.maildir("bob", "cur")) == own


def test_modes_and_groups_stay_whoever_copies_them(place: tuple[World, Mount]) -> None:
    """As cp -a and rsync -a do it in one's own mailbox, and with open files; root alone can."""
    world, mount = place
    box = make_box(world, "Modes", "lr")
    own = mount.top / "alice" / ".Modes"
    before = picture(box)

    def change() -> None:
        for path in (own, own / "cur", own / READ_ME, own / "dovecot-acl"):
            os.chmod(path, 0o777)
            os.chown(path, -1, ALICE + 1)
            os.chown(path, ALICE, -1)
        fd = os.open(own / READ_ME, os.O_RDONLY)
        os.fchmod(fd, 0o666)
        os.close(fd)

    Identity(ALICE, ALICE, (ALICE + 1,)).run(change)
    assert picture(box) == before
    assert box.stat().st_mode & 0o777 == 0o700
    os.chmod(own / READ_ME, 0o640)
    assert (box / READ_ME).stat().st_mode & 0o777 == 0o640


def test_strangers_find_nothing(place: tuple[World, Mount]) -> None:
    _, mount = place
    carol = Identity(UIDS["carol"], UIDS["carol"])
    shown = mount.top / "bob" / ".shared.alice.Box0"
    BOB.run(os.listdir, shown)
    for row in ROWS:
        if row.name != "socket" and "own" not in row.name:
            got = carol.run(outcome, lambda: row.do(shown))  # noqa: B023  # run at once
            assert got == "ENOENT", row.name


def test_writing_through_an_older_handle_ends_with_the_right(place: tuple[World, Mount]) -> None:
    world, mount = place
    box = make_box(world, "Older", "lrite")
    shown = mount.top / "bob" / ".shared.alice.Older" / READ_ME
    reader, writer = os.pipe()

    def write_twice() -> tuple[str, str]:
        fd = os.open(shown, os.O_RDWR)
        first = outcome(lambda: os.write(fd, b"first"))
        os.write(writer, b"x")
        time.sleep(1.2)
        second = outcome(lambda: os.write(fd, b"again"))
        os.close(fd)
        return first, second

    child: Child[tuple[str, str]] = start_as(BOB.uid, BOB.gid, (), write_twice)
    with child:
        os.read(reader, 1)
        (box / "dovecot-acl").write_text("user=bob lr\n")
        assert child.result() == ("done", "EACCES")
    os.close(reader)
    os.close(writer)
    assert (box / READ_ME).read_bytes().startswith(b"first")
    assert b"again" not in (box / READ_ME).read_bytes()


def test_a_revoked_mailbox_is_gone_within_a_second(place: tuple[World, Mount]) -> None:
    world, mount = place
    box = make_box(world, "Revoked", "lr")
    shown = mount.top / "bob" / ".shared.alice.Revoked"
    assert BOB.run(outcome, lambda: os.listdir(shown / "cur")) == "done"
    (box / "dovecot-acl").write_text("user=carol lr\n")
    deadline = time.monotonic() + 1.0
    while BOB.run(outcome, lambda: os.stat(shown)) != "ENOENT":
        assert time.monotonic() < deadline + 0.2
    assert BOB.run(outcome, lambda: opened(os.O_RDONLY)(shown / READ_ME)) == "ENOENT"


UMASKS = [0o000, 0o022, 0o077, 0o777]
MODES = [0o000, 0o400, 0o644, 0o777, 0o7777]


@pytest.mark.parametrize("umask", UMASKS, ids=oct)
@pytest.mark.parametrize("mode", MODES, ids=oct)
def test_what_is_made_gets_the_mailboxs_mode_and_group(
    rules: tuple[World, Mount], umask: int, mode: int
) -> None:
    """Whatever the caller's umask and mode argument, by open, mknod and mkdir; setgid is kept."""
    world, mount = rules
    name = f"{umask:o}.{mode:o}"

    def make(home: Path) -> None:
        os.umask(umask)
        os.close(os.open(home / "new" / f"open{name}", os.O_CREAT | os.O_EXCL | os.O_RDWR, mode))
        os.mknod(home / "new" / f"mknod{name}", stat.S_IFREG | mode & 0o777)
        (home / "tmp" / f"moved{name}").touch(mode & 0o777)
        os.rename(home / "tmp" / f"moved{name}", home / "new" / f"moved{name}")

    for owner, box, shown in (
        ("bob", world.maildir("alice", ".Open"), mount.top / "bob" / ".shared.alice.Open"),
        ("alice", world.maildir("alice", ".Shut"), mount.top / "bob" / ".shared.alice.Shut"),
    ):
        BOB.run(make, shown)
        want = 0o660 if owner == "bob" else 0o600
        for how in ("open", "mknod", "moved"):
            status = (box / "new" / f"{how}{name}").stat()
            assert oct(status.st_mode & 0o7777) == oct(want), how
            assert status.st_uid == UIDS[owner], how
            if owner == "bob":
                assert status.st_gid == SHARED_GID, how
    below = mount.top / "bob" / f".shared.alice.Open.m{umask:o}x{mode:o}"

    def make_mailbox() -> None:
        os.umask(umask)
        os.mkdir(below, mode)
        os.mkdir(below / "cur", mode)

    BOB.run(make_mailbox)
    made = world.maildir("alice", below.name.removeprefix(".shared.alice"))
    for path in (made, made / "cur"):
        status = path.stat()
        assert (oct(status.st_mode & 0o7777), status.st_gid) == ("0o2770", SHARED_GID)


@pytest.fixture(scope="module")
def rules(engine_choice: str) -> Iterator[tuple[World, Mount]]:
    """alice's mail root is the shared group's, with setgid; Open follows it, Shut is hers alone."""
    with world_in_tmp() as world:
        root = world.maildir("alice")
        world.as_user("alice", lambda account: account.create("Own"))
        os.chown(root, ALICE, SHARED_GID)
        root.chmod(0o2770)
        for name in ("Open", "Shut"):
            box = make_box(world, name, "lrswipk")
            for path in (box, box / "cur", box / "new", box / "tmp"):
                if name == "Open":
                    os.chown(path, ALICE, SHARED_GID)
                    path.chmod(0o2770)
        with view_of(world) as mount:
            yield world, mount
