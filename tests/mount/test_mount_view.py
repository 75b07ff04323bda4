"""The view, mounted: what alice and bob see, under their own uids."""

import errno
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sharefs.acl import Mode
from sharefs.identifiers import user
from sharefs.rights import Rights
from tests.account.world import UIDS, World, append, world_in_tmp
from tests.support.become import Identity
from tests.support.mount import Mount, mounted
from tests.support.server import wait_until

pytestmark = [pytest.mark.superuser, pytest.mark.fuse]

WHO = {name: Identity(uid, uid) for name, uid in UIDS.items()}


@pytest.fixture
def world() -> Iterator[World]:
    """alice has Work, with a message, and Private; every home is closed to everybody else."""
    with world_in_tmp() as world:
        for name, uid in UIDS.items():
            os.chown(world.home(name), uid, uid)
            world.home(name).chmod(0o700)
            world.as_user(name, lambda account: append(account, "INBOX"))
        world.as_user("alice", prepare)
        yield world


def prepare(account: Any) -> None:
    account.create("Work")
    account.create("Private")
    append(account, "Work")


@pytest.fixture
def view(world: World) -> Iterator[Mount]:
    with mounted(world.top, ["--state", world.top / "state"], config=world.config_path) as mount:
        yield mount


def share(world: World, mailbox: str, viewer: str, rights: str) -> None:
    def change(account: Any) -> None:
        account.set_acl(mailbox, user(viewer), Mode.REPLACE, Rights.parse(rights))

    world.as_user("alice", change)


def outcome(action: Callable[[], Any]) -> Any:
    """The value, or the name of the errno."""
    try:
        return action()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def seen_by(view: Mount, name: str, *below: str) -> Any:
    return WHO[name].run(outcome, lambda: sorted(os.listdir(view.top.joinpath(*below))))


def test_each_sees_his_own_directory(view: Mount) -> None:
    for name in ("alice", "bob"):
        assert seen_by(view, name) == [name]
    assert set(os.listdir(view.top)) == set(UIDS)


def test_a_tree_of_mailboxes(world: World, view: Mount) -> None:
    shown = seen_by(view, "alice", "alice")
    assert {"cur", "new", "tmp", ".Work", ".Private"} <= set(shown)
    assert not {name for name in seen_by(view, "bob", "bob") if name.startswith(".shared")}
    assert (
        len(seen_by(view, "alice", "alice", ".Work", "cur"))
        + len(seen_by(view, "alice", "alice", ".Work", "new"))
        == 1
    )


def test_trees_of_others_do_not_exist(view: Mount) -> None:
    assert seen_by(view, "alice", "alice", ".Work")  # the kernel knows the names now
    for below in (["alice"], ["alice", ".Work"], ["alice", "cur"]):
        path = view.top.joinpath(*below)
        assert seen_by(view, "bob", *below) == "ENOENT"
        got = WHO["bob"].run(outcome, partial(os.stat, path))
        assert got == "ENOENT"


def test_shared_mailboxes_appear_with_their_messages(world: World, view: Mount) -> None:
    share(world, "Work", "bob", "lr")
    assert ".shared.alice.Work" in seen_by(view, "bob", "bob")
    assert ".shared.alice.Private" not in seen_by(view, "bob", "bob")
    mailbox = view.top / "bob" / ".shared.alice.Work"
    (path,) = WHO["bob"].run(lambda: [*(mailbox / "cur").iterdir(), *(mailbox / "new").iterdir()])
    assert b"Subject: hello" in WHO["bob"].run(Path.read_bytes, path)
    assert not os.access(world.home("alice"), os.X_OK) or os.geteuid() == 0
    with pytest.raises(PermissionError):
        WHO["bob"].run(os.listdir, world.home("alice"))


def test_public_mailboxes_and_children(world: World, view: Mount) -> None:
    world.make_public(".info", "anyone lr\n")
    world.make_public(".info.2024", "user=bob lr\n")
    world.make_public(".secret", "user=carol lr\n")
    world.as_user("alice", lambda account: account.create("Work/Minutes"))
    share(world, "Work", "bob", "lr")
    share(world, "Work/Minutes", "bob", "lrs")
    shown = set(seen_by(view, "bob", "bob"))
    assert {".Public.info", ".Public.info.2024", ".shared.alice.Work"} <= shown
    assert {".shared.alice.Work.Minutes"} <= shown
    assert ".Public.secret" not in shown
    assert seen_by(view, "bob", "bob", ".Public.secret") == "ENOENT"
    assert {"cur", "new", "tmp"} <= set(seen_by(view, "bob", "bob", ".Public.info.2024"))
    assert ".Public.info.2024" not in seen_by(view, "carol", "carol")
    assert ".Public.secret" in os.listdir(view.top / "carol")  # root sees what carol sees
    assert "cur" in os.listdir(view.top / "bob" / ".Public.secret")  # and enters what bob may not


PREFIXES = """
namespace shared {
  separator = .
  prefix = Others.$user.
}
namespace public {
  separator = .
  prefix = Common.
  list = no
}
namespace inbox {
  separator = .
}
"""


def test_prefixes_and_separators_are_the_configurations() -> None:
    """And with the fs layout below: what programs see is Maildir++ all the same."""
    with world_in_tmp(PREFIXES + "mailbox_list_layout = fs\n") as world:
        for name, uid in UIDS.items():
            os.chown(world.home(name), uid, uid)
            world.home(name).chmod(0o700)
        world.as_user("alice", lambda account: account.create("Work.Sub"))
        share(world, "Work.Sub", "bob", "lri")
        for folder in ("cur", "new", "tmp"):
            (world.public / "info" / folder).mkdir(parents=True)
        (world.public / "info" / "dovecot-acl").write_text("anyone lr\n")
        state: list[str | Path] = ["--state", world.top / "state"]
        with mounted(world.top, state, config=world.config_path) as view:
            assert world.maildir("alice", "Work", "Sub", "cur").is_dir()
            assert ".Work.Sub" in seen_by(view, "alice", "alice")
            shown = seen_by(view, "bob", "bob")
            assert ".Others.alice.Work.Sub" in shown
            assert not [name for name in shown if "Common" in name]  # list = no
            assert "cur" in seen_by(view, "bob", "bob", ".Common.info")
            path = view.top / "bob" / ".Others.alice.Work.Sub" / "new" / "1.host"
            WHO["bob"].run(path.write_text, "x")
            assert world.maildir("alice", "Work", "Sub", "new", "1.host").read_text() == "x"


def test_new_shares_and_mailboxes_appear_within_a_second(world: World, view: Mount) -> None:
    assert ".shared.alice.Work" not in seen_by(view, "bob", "bob")
    path = view.top / "bob" / ".shared.alice.Work"
    assert WHO["bob"].run(outcome, lambda: os.stat(path)) == "ENOENT"
    share(world, "Work", "bob", "lr")
    wait_until(lambda: ".shared.alice.Work" in seen_by(view, "bob", "bob"), 1)
    wait_until(lambda: WHO["bob"].run(outcome, lambda: os.stat(path).st_ino > 0) is True, 1)
    world.as_user("alice", lambda account: account.create("Later"))
    wait_until(lambda: ".Later" in seen_by(view, "alice", "alice"), 1)
