"""What the kernel remembers of the view for long, and that it ends with rights and with changes.

Who is inside a mailbox, as his working directory, asks for nothing but names in it: what he is told
of those without the daemon is what lasts.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from sharefs.acl import Mode
from sharefs.identifiers import user
from sharefs.mount import view_lasting
from sharefs.mount.caller import Caller
from sharefs.mount.copies import Copies
from sharefs.mount.lasting import Lasting
from sharefs.mount.leave import Acts
from sharefs.mount.nodes import ROOT
from sharefs.mount.questions import NotYet
from sharefs.mount.view import View
from sharefs.mount.view_lasting import SHARE
from sharefs.mount.viewers import Viewers
from sharefs.mount.waiting import Pausing
from sharefs.rights import Rights
from tests.account.world import UIDS, World, world_in_tmp
from tests.mount.test_mount_events import Marks, Told
from tests.mount.test_mount_lasting import (
    SIZES,
    is_remembered,
    missing,
    numbers,
)
from tests.mount.test_mount_rights import make_box
from tests.mount.test_mount_view import outcome
from tests.mount.test_mount_visibility import BELOW, NAME, Case, content, names, seen_in_time
from tests.mount.worlds import viewed
from tests.support.become import Identity
from tests.support.mount import Mount

pytestmark = [pytest.mark.superuser, pytest.mark.fuse]

ALICE, BOB, CAROL = (Identity(UIDS[name], UIDS[name]) for name in ("alice", "bob", "carol"))
WHO: Final = {"alice": ALICE, "bob": BOB}
PATIENCE: Final = 60.0  # seconds until something must last
ENOUGH: Final = "lrswtie"
NOT_HERE: Final = frozenset({"mode of a directory", "a directory more", "a link anew",
                             "tree moved", "tree gone", "owner"})  # fmt: skip
CASES: Final = [
    case for case in (*BELOW, *SIZES) if case.look is not names and case.name not in NOT_HERE
]


@dataclass(frozen=True)
class Inside:
    """Somebody whose working directory is a mailbox's cur in his view.  fd: of that."""

    identity: Identity
    fd: int

    def see(self, look: Callable[[Path], Any]) -> Any:
        """What look(directory) gives him."""
        return self.identity.run(self._here, look)

    def _here(self, look: Callable[[Path], Any]) -> Any:
        os.fchdir(self.fd)
        return look(Path())

    def is_told(self, mount: Mount, look: Callable[[Path], Any]) -> bool:
        """Whether the kernel tells him without the daemon.  Root asks, whom it tells the same."""
        return is_remembered(mount, lambda: look(Path(f"/proc/self/fd/{self.fd}")))


BACK: Final = NAME + "R"


def of_message(directory: Path) -> Any:
    """Mode, links, size, time."""

    def told() -> Any:
        found = (directory / NAME).lstat()
        return found.st_mode & 0o7777, found.st_nlink, found.st_size, found.st_mtime_ns

    return outcome(told)


def flagged(directory: Path) -> Any:
    return outcome(lambda: (directory / BACK).stat().st_size)


def picture(directory: Path) -> Any:
    return [look(directory) for look in (of_message, missing, flagged)]


@dataclass
class Box:
    """One of alice's mailboxes, closed to all by its modes, with one message.  below: its cur."""

    world: World
    mount: Mount
    name: str

    def __post_init__(self) -> None:
        for path in (
            self.below.parent,
            *(self.below.parent / one for one in ("cur", "new", "tmp")),
        ):
            path.mkdir(mode=0o700)
            os.chown(path, ALICE.uid, ALICE.gid)
        (self.below / NAME).write_bytes(b"hello")
        (self.below / NAME).chmod(0o644)
        self.give(ENOUGH)
        for path in (self.below / NAME, self.acl):
            os.chown(path, ALICE.uid, ALICE.gid)
        self.insiders = {
            who: Inside(identity, os.open(self.seen(who), os.O_PATH | os.O_DIRECTORY))
            for who, identity in WHO.items()
        }

    @property
    def below(self) -> Path:
        return self.world.maildir("alice", f".{self.name}", "cur")

    @property
    def acl(self) -> Path:
        return self.below.with_name("dovecot-acl")

    def give(self, rights: str) -> None:
        """To bob, as an editor does: another file takes the place of the ACL file."""
        self.acl.with_name("edited").write_text(f"owner {ENOUGH}a\nuser=bob {rights}\n")
        os.rename(self.acl.with_name("edited"), self.acl)

    def seen(self, who: str) -> Path:
        """Its cur in somebody's view."""
        shown = f".{self.name}" if who == "alice" else f".shared.alice.{self.name}"
        return self.mount.top / who / shown / "cur"

    def is_told(self, look: Callable[[Path], Any] = picture) -> bool:
        """To both without the daemon."""
        return all(one.is_told(self.mount, look) for one in self.insiders.values())

    def settle(self, look: Callable[[Path], Any] = picture) -> None:
        """Ask until it lasts for both."""
        deadline = time.monotonic() + PATIENCE
        while not self.is_told(look):
            assert time.monotonic() < deadline, "it never lasts"
            for _ in range(2):
                time.sleep(1.1)  # so long root is told, too
                for one in self.insiders.values():
                    one.see(look)

    def close(self) -> None:
        while self.insiders:
            os.close(self.insiders.popitem()[1].fd)


@pytest.fixture
def world() -> Iterator[World]:
    with world_in_tmp() as world:
        for name in UIDS:
            world.as_user(name, lambda account: account.create("Own"))
        yield world


@pytest.fixture(scope="module")
def view() -> Iterator[tuple[World, Mount]]:
    with viewed() as both:
        yield both


@pytest.fixture(scope="module")
def boxes(view: tuple[World, Mount]) -> Iterator[list[Box]]:
    """One for each test, in all of which everything lasts for alice and bob."""
    found = [Box(*view, f"Box{number}") for number in range(len(CASES) + 24)]

    def look_at_all(who: str) -> None:
        for box in found:
            os.fchdir(box.insiders[who].fd)
            for look in (picture, *(case.look for case in CASES)):
                look(Path())

    for _ in range(3):
        for who, identity in WHO.items():
            identity.run(look_at_all, who)
        time.sleep(1.1)
    yield found
    for box in found:
        box.close()


@pytest.fixture
def box(boxes: list[Box]) -> Iterator[Box]:
    box = boxes.pop()
    box.settle()
    yield box
    box.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_lasts_ends_with_a_change_below(box: Box, case: Case) -> None:
    """For everybody who has been told."""
    if case.look is not content:  # which is asked for at open(2)
        box.settle(case.look)
    for one in box.insiders.values():
        assert _without_owner(one.see(case.look)) == _without_owner(case.before)
    case.act(box.below)
    for one in box.insiders.values():
        look = partial(one.see, lambda directory: _without_owner(case.look(directory)))
        assert seen_in_time(look, _without_owner(case.after))


def _without_owner(seen: Any) -> Any:
    """Of (mode, owner, links, size)."""
    return (seen[0], *seen[2:]) if isinstance(seen, tuple) else seen


DOINGS: Final[list[tuple[str, Callable[[Path], Any]]]] = [
    ("removed", lambda d: (d / NAME).unlink()),
    ("flagged", lambda d: os.rename(d / NAME, d / BACK)),
    ("linked", lambda d: os.link(d / NAME, d / "missing")),
    ("made", lambda d: (d / "missing").write_bytes(b"made")),
    ("given another time", lambda d: os.utime(d / NAME, (1, 2))),
]


@pytest.mark.parametrize("doer", WHO)
@pytest.mark.parametrize("act", [row[1] for row in DOINGS], ids=[row[0] for row in DOINGS])
def test_what_another_viewer_does(box: Box, doer: str, act: Callable[[Path], Any]) -> None:
    """The daemon does it, and the kernel knows of one of the two numbers only."""
    box.insiders[doer].see(act)
    want = picture(box.below)
    for one in box.insiders.values():
        assert seen_in_time(partial(one.see, picture), want)


def test_who_makes_a_file_finds_it_as_he_made_it(box: Box) -> None:
    """Of one's own doings the kernel is told gently: what is open is not shown as deleted."""

    def work(directory: Path) -> set[str]:
        fd = os.open("missing", os.O_CREAT | os.O_RDWR)
        found = set()
        for _ in range(10):
            time.sleep(0.1)
            found.add(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
            assert os.stat("missing").st_ino == os.fstat(fd).st_ino
        os.close(fd)
        return found

    assert box.insiders["alice"].see(work) == {"missing"}


def revoke_beside(box: Box) -> None:
    box.give("l")


def revoke_by_rewriting(box: Box) -> None:
    box.acl.write_text("user=bob l\n")


def revoke_through_the_mount(box: Box) -> None:
    ALICE.run(os.setxattr, box.seen("alice").parent, "user.sharefs.acl.user=bob", b"l")


def revoke_by_the_account(box: Box) -> None:
    def change(account: Any) -> None:
        account.set_acl(box.name, user("bob"), Mode.REPLACE, Rights.parse("l"))

    box.world.as_user("alice", change)


@pytest.mark.parametrize(
    "revoke",
    [revoke_beside, revoke_by_rewriting, revoke_through_the_mount, revoke_by_the_account],
)
def test_a_right_that_was_taken(box: Box, revoke: Callable[[Box], None]) -> None:
    """Nothing is asked meanwhile by which it could be noticed."""
    bob = box.insiders["bob"]
    revoke(box)
    assert seen_in_time(lambda: bob.see(of_message), "EACCES")


def test_a_right_that_was_taken_and_given_again(box: Box) -> None:
    bob = box.insiders["bob"]
    box.give("l")
    assert seen_in_time(lambda: bob.see(of_message), "EACCES")
    assert box.insiders["alice"].is_told(box.mount, of_message)  # the right was bob's
    for _ in range(2):  # and it does not come to last again
        assert seen_in_time(lambda: bob.see(of_message), "EACCES")
        time.sleep(1.1)
    box.give("lr")
    assert seen_in_time(lambda: bob.see(of_message)[2], 5)


def test_a_mailbox_that_is_not_shared_any_more(box: Box) -> None:
    bob, path = box.insiders["bob"], box.seen("bob") / NAME
    box.give("")
    assert seen_in_time(lambda: bob.see(of_message), "ENOENT")
    assert seen_in_time(lambda: BOB.run(outcome, path.stat), "ENOENT")
    for _ in range(3):  # nor does he learn of what there is not
        bob.see(missing)
        time.sleep(0.4)
    (box.below / "missing").touch()
    box.give("lr")
    assert seen_in_time(lambda: bob.see(missing), 0)
    assert seen_in_time(lambda: BOB.run(outcome, lambda: path.stat().st_size), 5)


def test_an_owner_takes_rights_from_himself(box: Box) -> None:
    box.acl.write_text("owner la\n")
    assert seen_in_time(lambda: box.insiders["alice"].see(of_message), "EACCES")


def test_a_mailbox_that_goes_while_somebody_is_inside(box: Box) -> None:
    path = box.seen("alice")
    os.rename(box.below.parent, box.below.parent.with_name(f".{box.name}gone"))
    assert seen_in_time(lambda: ALICE.run(outcome, path.stat), "ENOENT")
    assert seen_in_time(lambda: box.insiders["bob"].see(of_message), "ENOENT")


def test_a_folder_swapped_for_another(box: Box) -> None:
    """And for a link, which is never followed."""
    path, below = box.seen("bob") / NAME, box.below

    def size() -> Any:
        return BOB.run(outcome, lambda: path.stat().st_size)

    assert size() == 5
    os.rename(below, below.with_name("was"))
    below.mkdir(mode=0o700)
    (below / NAME).write_bytes(b"another")
    assert seen_in_time(size, 7)
    os.rename(below, below.with_name("is"))
    below.symlink_to("was")
    assert seen_in_time(size, "ENOENT")


def test_what_root_asks_for_never_lasts(view: tuple[World, Mount]) -> None:
    """He needs no rights, and in the kernel's memory bob would find what he may not know."""
    box = Box(*view, "Closed")
    box.give("l")
    bob = box.insiders["bob"]
    root = Inside(Identity(0, 0), bob.fd)
    for _ in range(2):
        assert root.see(of_message)[2] == 5
        time.sleep(1.1)
    assert not bob.is_told(box.mount, of_message)
    time.sleep(1.1)
    assert bob.see(of_message) == "EACCES"
    box.close()


def test_a_hidden_directory_is_not_remembered_as_missing(box: Box) -> None:
    """No Maildir has one there, so it is not shown; a file that takes its place is."""
    alice = box.insiders["alice"]
    (box.below / "missing").mkdir()
    for _ in range(2):
        assert seen_in_time(lambda: alice.see(missing), "ENOENT")
        time.sleep(0.6)
    (box.below / "missing").rmdir()
    (box.below / "missing").write_bytes(b"a file")
    assert seen_in_time(lambda: alice.see(missing), 6)


def test_mailboxes_that_nobody_comes_back_to_are_let_go(box: Box) -> None:
    before = numbers(box.mount)["mailboxes"]
    (box.below / NAME).unlink()
    os.rename(box.below.parent, box.below.parent.with_name(f".{box.name}gone"))
    assert seen_in_time(lambda: numbers(box.mount)["mailboxes"] <= before - 2, True)


T = TypeVar("T")


def known(ask: Callable[[], T]) -> T:
    """The answer, once the databases have said what it takes."""
    while True:
        try:
            return ask()
        except NotYet as question:
            question.ask(1).result(PATIENCE)


def test_one_viewer_cannot_have_all_that_is_looked_after(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_lasting, "MAX_BOXES", SHARE)  # so one for each viewer
    for box in ("First", "Second"):
        make_box(world, box, "lr")
    view = View(
        Viewers(world.config), Copies(tmp_path), os.open("/", os.O_PATH), Pausing()
    )  # fmt: skip
    view.remember(Lasting(view.gate, view.devices, Marks(), Told(), ours=view.ours))
    view.viewers.start()

    def lasts(who: str, shown: str) -> bool:
        caller = Caller(UIDS[who], UIDS[who], os.getpid())
        node = view.table[ROOT]
        for name in (who, shown, "cur"):
            node, _ = known(partial(view.find, node, name, caller))
        leave = known(partial(view.leave, node, caller))
        return leave is not None and bool(leave.acts & Acts.LASTS)

    try:
        assert lasts("alice", ".First")
        assert not lasts("alice", ".Second")
        assert lasts("bob", ".shared.alice.Second")
        while view.check():  # nothing has come to last there, so there is room again
            pass
        assert lasts("alice", ".Second")
    finally:
        view.close()


# --- what takes back more than one mailbox: last, since the others would have to settle anew ---


def test_strangers_find_nothing_of_what_is_remembered(box: Box) -> None:
    cur = box.seen("bob")
    for path in (cur / NAME, cur / "missing", cur, cur.parent, cur.parent.parent):
        assert CAROL.run(outcome, path.lstat) == "ENOENT"
        assert ALICE.run(outcome, path.lstat) == "ENOENT"


def test_what_is_mounted_on_a_message(box: Box) -> None:
    alice, over = box.insiders["alice"], box.world.top / "over"
    over.write_bytes(b"over it")
    subprocess.run(["mount", "--bind", over, box.below / NAME], check=True)
    try:
        assert seen_in_time(lambda: alice.see(of_message)[2], 7)
    finally:
        subprocess.run(["umount", "-l", box.below / NAME], check=True)
    assert seen_in_time(lambda: alice.see(of_message)[2], 5)
