"""Symbolic links to others' mailboxes in a user's own tree: whose they are, and what they give."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.account.world import SHARED_GID, UIDS, World, world_in_tmp
from tests.mount.rights_table import BODY, READ_ME
from tests.mount.test_mount_control import attribute, outcome
from tests.mount.test_mount_rights import make_box
from tests.support.become import Identity
from tests.support.mount import Mount, mounted

pytestmark = [pytest.mark.superuser, pytest.mark.fuse]

ALICE, BOB, CAROL = (Identity(UIDS[name], UIDS[name]) for name in ("alice", "bob", "carol"))
NO_SHARED = """
namespace shared {
  disabled = yes
}
"""


def close_homes(world: World) -> None:
    for name, uid in UIDS.items():
        os.chown(world.home(name), uid, uid)
        world.home(name).chmod(0o700)
        world.as_user(name, lambda account: account.create("Own"))


@pytest.fixture(params=["map", "none"])
def place(request: pytest.FixtureRequest) -> Iterator[tuple[World, Mount]]:
    """With a sharing map, and in a world of links alone."""
    links_only = request.param == "none"
    with world_in_tmp(NO_SHARED if links_only else "", with_map=not links_only) as world:
        close_homes(world)
        arguments: list[str | Path] = ["--state", world.top / "state"]
        with mounted(world.top, arguments, config=world.config_path) as mount:
            yield world, mount


def link(world: World, target: Path | str, name: str = ".Friends.alice") -> None:
    BOB.run(os.symlink, target, world.maildir("bob", name))


def test_a_linked_mailbox_is_its_owners(place: tuple[World, Mount]) -> None:
    world, mount = place
    box = make_box(world, "Work", "lrsx")
    (box / "dovecot-uidlist").write_text("3 V1 N9\n")
    link(world, world.maildir("alice", ".Work"))
    shown = mount.top / "bob" / ".Friends.alice"
    assert ".Friends.alice" in BOB.run(os.listdir, mount.top / "bob")
    assert BOB.run((shown / READ_ME).read_bytes) == BODY
    assert BOB.run(attribute, shown, "myrights") == "lrsx"
    assert BOB.run(attribute, shown, "owner") == "alice"
    assert "link to Work of alice" in BOB.run(attribute, shown, "explain")
    assert BOB.run(outcome, lambda: os.unlink(shown / READ_ME)) == "EACCES"
    assert BOB.run(outcome, lambda: os.rename(shown / READ_ME, shown / (READ_ME + "S"))) == "done"
    BOB.run((shown / "dovecot-uidlist").write_text, "bob's own")
    assert (box / "dovecot-uidlist").read_text() == "3 V1 N9\n"
    assert BOB.run(outcome, lambda: os.rmdir(shown)) == "EPERM"
    assert BOB.run(outcome, lambda: os.rename(shown, shown.with_name(".Mine"))) == "EPERM"
    assert box.is_dir()


def test_without_rights_a_link_shows_nothing(place: tuple[World, Mount]) -> None:
    world, mount = place
    make_box(world, "Work", "")
    link(world, world.maildir("alice", ".Work"))
    assert ".Friends.alice" not in BOB.run(os.listdir, mount.top / "bob")
    shown = mount.top / "bob" / ".Friends.alice"
    assert BOB.run(outcome, lambda: os.stat(shown)) == "ENOENT"


def test_an_administrator_changes_the_owners_acl(place: tuple[World, Mount]) -> None:
    world, mount = place
    box = make_box(world, "Work", "lra")
    link(world, world.maildir("alice", ".Work"))
    shown = mount.top / "bob" / ".Friends.alice"
    BOB.run(os.setxattr, shown, "user.sharefs.acl.user=carol", b"lr")
    text = (box / "dovecot-acl").read_text()
    assert "user=carol lr" in text
    assert (box / "dovecot-acl").stat().st_uid == ALICE.uid


ELSEWHERE = [
    ("nobody's directory", "/etc"),
    ("a directory with an ACL of bob's own making", "{top}/trap"),
    ("alice's home", "{alice}"),
    ("alice's mail, but no mailbox", "{alice}/Maildir/cur"),
    ("a link in alice's tree to carol's", "{alice}/Maildir/.Away"),
    ("nowhere", "{alice}/Maildir/.Missing"),
]


@pytest.mark.parametrize("target", [one for _, one in ELSEWHERE], ids=[one for one, _ in ELSEWHERE])
@pytest.mark.parametrize("place", ["map"], indirect=True)
def test_other_links_show_nothing(place: tuple[World, Mount], target: str) -> None:
    world, mount = place
    trap = world.top / "trap"
    for path in (trap, trap / "cur", trap / "new", trap / "tmp"):
        path.mkdir()
    (trap / "dovecot-acl").write_text("user=bob lrwstipekxa\n")
    (trap / "cur" / "1:2,").write_bytes(BODY)
    closed = world.maildir("carol", ".Own")
    (closed / "dovecot-acl").write_text("user=alice lr\n")
    ALICE.run(os.symlink, closed, world.maildir("alice", ".Away"))
    link(world, target.format(top=world.top, alice=world.home("alice")))
    shown = mount.top / "bob" / ".Friends.alice"
    assert BOB.run(outcome, lambda: os.listdir(shown)) == "ENOENT"
    assert BOB.run(outcome, lambda: os.listdir(shown / "cur")) == "ENOENT"


@pytest.mark.parametrize("place", ["map"], indirect=True)
def test_another_target_is_another_mailbox(place: tuple[World, Mount]) -> None:
    """What is open is judged by the ACL of what it is, not by that of where the link leads now."""
    world, mount = place
    make_box(world, "Little", "lr")
    make_box(world, "Much", "lrwstipe")
    link(world, world.maildir("alice", ".Little"))
    shown = mount.top / "bob" / ".Friends.alice"

    def try_it() -> list[str]:
        os.chdir(shown)
        link_path = world.maildir("bob", ".Friends.alice")
        link_path.unlink()
        link_path.symlink_to(world.maildir("alice", ".Much"))
        answers = []
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            answers.append(outcome(lambda: os.unlink(READ_ME)))
        return answers

    assert set(BOB.run(try_it)) == {"EACCES"}
    assert world.maildir("alice", ".Little", READ_ME).exists()
    assert BOB.run(attribute, shown, "myrights") == "lrwstipe"


def test_where_no_acl_is_obeyed_only_ones_own_is_there() -> None:
    """The daemon opens what the kernel would refuse, so there must be a law."""
    with world_in_tmp() as world:
        close_homes(world)
        world.config_path.write_text(
            world.config_path.read_text().replace("acl_driver = vfile", "")
        )
        make_box(world, "Work", "lr")
        public = world.make_public(".info", "anyone lr\n")
        os.chown(public, 0, SHARED_GID)
        link(world, world.maildir("alice", ".Work"))
        arguments: list[str | Path] = ["--state", world.top / "state"]
        with mounted(world.top, arguments, config=world.config_path) as mount:
            home = mount.top / "bob"
            assert {"cur", ".Own"} <= set(BOB.run(os.listdir, home))
            for name in (".Friends.alice", ".shared.alice.Work", ".Public.info"):
                assert BOB.run(outcome, lambda: os.stat(home / name)) == "ENOENT"  # noqa: B023


def test_a_first_visit_makes_the_inbox() -> None:
    with world_in_tmp() as world:
        for name, uid in UIDS.items():
            os.chown(world.home(name), uid, uid)
            world.home(name).chmod(0o700)
        arguments: list[str | Path] = ["--state", world.top / "state"]
        with mounted(world.top, arguments, config=world.config_path) as mount:
            os.listdir(mount.top / "alice")  # root looks only
            assert not world.maildir("alice").exists()
            own = mount.top / "alice"
            ALICE.run((own / "new" / "1.M1P1.host").write_bytes, BODY)
            below = world.maildir("alice", "new", "1.M1P1.host")
            assert below.read_bytes() == BODY
            for path in (below, below.parent, world.maildir("alice")):
                assert path.stat().st_uid == ALICE.uid
            world.home("bob").chmod(0o500)
            assert BOB.run(os.listdir, mount.top / "bob") == []
            mount.expect_log("cannot create INBOX")
