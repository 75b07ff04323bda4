"""What changes elsewhere is seen through the mount within a second, whatever was cached before."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from sharefs.acl import Mode
from sharefs.identifiers import user
from sharefs.rights import Rights
from tests.account.world import UIDS, World, world_in_tmp
from tests.mount.test_mount_rights import make_box
from tests.mount.test_mount_view import outcome
from tests.mount.worlds import viewed
from tests.support.become import Identity
from tests.support.mount import Mount, mounted

pytestmark = [pytest.mark.superuser, pytest.mark.fuse]

PROMISED: Final = 1.0  # seconds; docs/mount.md
BUSY: Final = 1.0  # for a machine that has other things to do
BOB: Final = Identity(UIDS["bob"], UIDS["bob"])
NAME: Final = "1700000000.M1P1.host:2,S"


def seen_in_time(look: Callable[[], Any], want: Any) -> bool:
    deadline = time.monotonic() + PROMISED + BUSY
    while (got := look()) != want:
        if time.monotonic() > deadline:
            raise AssertionError(f"still {got!r} instead of {want!r}")
        time.sleep(0.02)
    return True


@dataclass(frozen=True)
class Case:
    """look(directory seen) gives before, and in time after, once act(directory below) is done."""

    name: str
    look: Callable[[Path], Any]
    act: Callable[[Path], object]
    before: Any
    after: Any


def content(directory: Path) -> Any:
    return outcome((directory / NAME).read_bytes)


def size(directory: Path) -> Any:
    return outcome(lambda: (directory / NAME).stat().st_size)


def names(directory: Path) -> Any:
    return outcome(lambda: sorted(os.listdir(directory)))


def other(directory: Path) -> Any:
    return outcome((directory / "2.host").read_bytes)


def shrink(directory: Path) -> None:
    os.truncate(directory / NAME, 2)


def replace(directory: Path) -> None:
    (directory / "new").write_bytes(b"another file")
    os.rename(directory / "new", directory / NAME)


def overwrite(directory: Path) -> None:
    """The same size; only the time tells."""
    (directory / NAME).write_bytes(b"HELLO")


def give_flag(directory: Path) -> None:
    os.rename(directory / NAME, directory / f"{NAME}F")


def deliver(directory: Path) -> None:
    (directory / "2.host").write_bytes(b"x")


BELOW: Final = [
    Case("overwritten", content, overwrite, b"hello", b"HELLO"),
    Case("cut off", content, shrink, b"hello", b"he"),
    Case("size", size, shrink, 5, 2),
    Case("replaced", content, replace, b"hello", b"another file"),
    Case("removed", content, lambda d: (d / NAME).unlink(), b"hello", "ENOENT"),
    Case("renamed away", content, give_flag, b"hello", "ENOENT"),
    Case("renamed, listed", names, give_flag, [NAME], [f"{NAME}F"]),
    Case(
        "new, asked for before", other, lambda d: (d / "2.host").write_bytes(b"x"), "ENOENT", b"x"
    ),
    Case("new, listed", names, lambda d: (d / "2.host").touch(), [NAME], [NAME, "2.host"]),
]


@pytest.fixture(scope="module")
def mirror(engine_choice: str) -> Iterator[tuple[Path, Mount]]:
    with world_in_tmp() as world:
        source = world.top / "source"
        source.mkdir()
        with mounted(world.top, ["--mirror", source]) as mount:
            yield source, mount


@pytest.fixture(scope="module")
def view(engine_choice: str) -> Iterator[tuple[World, Mount]]:
    with viewed() as both:
        yield both


def check(case: Case, below: Path, seen: Path, run: Callable[..., Any]) -> None:
    assert run(case.look, seen) == case.before
    assert run(case.look, seen) == case.before  # from the caches
    case.act(below)
    assert seen_in_time(lambda: run(case.look, seen), case.after)


@pytest.mark.parametrize("case", BELOW, ids=lambda case: case.name)
def test_changes_below_the_mirror(mirror: tuple[Path, Mount], case: Case) -> None:
    source, mount = mirror
    below = source / case.name
    below.mkdir()
    (below / NAME).write_bytes(b"hello")
    check(case, below, mount.top / case.name, lambda look, *rest: look(*rest))


def test_an_open_file_sees_what_is_written_below(mirror: tuple[Path, Mount]) -> None:
    source, mount = mirror
    (source / "open").write_bytes(b"hello")
    with (mount.top / "open").open("rb", buffering=0) as file:
        assert file.read() == b"hello"
        (source / "open").write_bytes(b"another")
        assert seen_in_time(lambda: os.pread(file.fileno(), 100, 0), b"another")


def test_a_directory_becomes_a_file_below(mirror: tuple[Path, Mount]) -> None:
    source, mount = mirror
    (source / "kind" / "below").mkdir(parents=True)
    assert outcome(lambda: os.listdir(mount.top / "kind")) == ["below"]
    shutil.rmtree(source / "kind")
    (source / "kind").write_bytes(b"a file")
    assert seen_in_time(lambda: outcome((mount.top / "kind").read_bytes), b"a file")


def test_a_right_of_the_mode_taken_below(mirror: tuple[Path, Mount]) -> None:
    source, mount = mirror
    (source / "mode").write_bytes(b"hello")
    (source / "mode").chmod(0o644)
    for directory in (source, source.parent, mount.top):
        directory.chmod(0o755)

    def read() -> Any:
        return BOB.run(outcome, (mount.top / "mode").read_bytes)

    assert read() == b"hello"
    (source / "mode").chmod(0o600)
    assert seen_in_time(read, "EACCES")


@pytest.mark.parametrize("case", BELOW, ids=lambda case: case.name)
def test_changes_below_the_view(view: tuple[World, Mount], case: Case) -> None:
    world, mount = view
    box = f"B{BELOW.index(case)}"
    below = one_message(world, box, "lrs")
    check(case, below, mount.top / "bob" / f".shared.alice.{box}" / "cur", BOB.run)


def one_message(world: World, mailbox: str, rights: str) -> Path:
    """The cur of a new mailbox of alice's."""
    cur = make_box(world, mailbox, rights) / "cur"
    for path in cur.iterdir():
        path.unlink()
    (cur / NAME).write_bytes(b"hello")
    return cur


def give(world: World, mailbox: str, rights: str) -> None:
    def change(account: Any) -> None:
        account.set_acl(mailbox, user("bob"), Mode.REPLACE, Rights.parse(rights))

    world.as_user("alice", change)


def shown(mount: Mount, mailbox: str) -> Any:
    """What bob sees of a mailbox of alice's: whether it is listed and there, and its messages."""
    name = f".shared.alice.{mailbox}"
    listed = name in BOB.run(os.listdir, mount.top / "bob")
    inside = BOB.run(outcome, lambda: len(os.listdir(mount.top / "bob" / name / "cur")))
    return listed, inside


GONE: Final = (False, "ENOENT")
ACLS: Final = [
    ("a new share", "", "lr", GONE, (True, 1)),
    ("a share taken back", "lr", "", (True, 1), GONE),
    ("reading taken away", "lr", "l", (True, 1), (True, "EACCES")),
    ("reading given", "l", "lr", (True, "EACCES"), (True, 1)),
]


@pytest.mark.parametrize(
    ("rights", "then", "before", "after"), [row[1:] for row in ACLS], ids=[row[0] for row in ACLS]
)
def test_rights(view: tuple[World, Mount], rights: str, then: str, before: Any, after: Any) -> None:
    world, mount = view
    box = f"R{rights}to{then}"
    one_message(world, box, rights)
    assert seen_in_time(lambda: shown(mount, box), before)
    give(world, box, then)
    assert seen_in_time(lambda: shown(mount, box), after)


def test_a_file_read_before_the_right_went(view: tuple[World, Mount]) -> None:
    """Its pages are in the cache; they are no way round."""
    world, mount = view
    one_message(world, "Read", "lr")
    path = mount.top / "bob" / ".shared.alice.Read" / "cur" / NAME
    assert BOB.run(outcome, path.read_bytes) == b"hello"
    give(world, "Read", "l")
    assert seen_in_time(lambda: BOB.run(outcome, path.read_bytes), "EACCES")


def test_a_file_opened_before_the_right_went(view: tuple[World, Mount]) -> None:
    """It was never read, so the answer to open(2) must not have brought its content along."""
    world, mount = view
    one_message(world, "Opened", "lr")
    path = mount.top / "bob" / ".shared.alice.Opened" / "cur" / NAME

    def read_later() -> Any:
        fd = os.open(path, os.O_RDONLY)
        try:
            give_from_child()
            time.sleep(PROMISED)
            return outcome(lambda: os.read(fd, 100))
        finally:
            os.close(fd)

    acl = world.maildir("alice", ".Opened", "dovecot-acl")
    acl.chmod(0o666)  # so that bob's process can say when
    for directory in (world.home("alice"), acl.parent.parent, acl.parent):
        directory.chmod(0o711)

    def give_from_child() -> None:
        acl.write_text("user=bob l\n")

    assert BOB.run(read_later) == "EACCES"


def test_mailboxes_that_come_go_and_get_another_name(view: tuple[World, Mount]) -> None:
    world, mount = view
    seen = mount.top / "alice"
    alice = Identity(UIDS["alice"], UIDS["alice"])

    def there() -> Any:
        listed = {".Come", ".Gone"} & set(alice.run(os.listdir, seen))
        found = [alice.run(outcome, (seen / name / "cur").is_dir) for name in (".Come", ".Gone")]
        return listed, found

    assert there() == (set(), [False, False])
    world.as_user("alice", lambda account: account.create("Come"))
    assert seen_in_time(there, ({".Come"}, [True, False]))
    world.as_user("alice", lambda account: account.rename("Come", "Gone"))
    assert seen_in_time(there, ({".Gone"}, [False, True]))
    world.as_user("alice", lambda account: account.delete("Gone"))
    assert seen_in_time(there, (set(), [False, False]))
