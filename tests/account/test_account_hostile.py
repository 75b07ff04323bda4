"""Names and links that mean harm: refused at every door, and nothing outside is touched."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sharefs.account import Account
from sharefs.acl import Mode
from sharefs.errors import Code, SharingError
from sharefs.identifiers import user
from sharefs.rights import ALL, Rights
from sharefs.sharing.policy import Policy
from tests.account.world import World, append, names, picture_of, world_in_tmp

HOSTILE = {
    "up": "..",
    "up and away": "../../../etc/passwd",
    "up within": "a/../../b",
    "here": "./a",
    "absolute": "/etc/passwd",
    "empty level": "a//b",
    "trailing levels": "a//",
    "home": "~root",
    "home below": "~/x",
    "nul": "a\0b",
    "newline": "a\nb",
    "carriage return": "a\r\nb",
    "escape": "a\x1b[2Jb",
    "delete": "a\x7fb",
    "too long a level": "a" * 256,
    "too long in the encoding": "é" * 120,
    "too long a path": "/".join(["a" * 200] * 30),
    "too deep": "/".join(["a"] * 300),
    "lone surrogate": "a\ud800b",
    "layout separator": "a.b",
    "control file": "..dovecot",
    "other's up": "shared/alice/../carol/x",
    "owner up": "shared/../alice/x",
    "owner with slash": "shared//etc/passwd",
    "owner with nul": "shared/al\0ice/x",
    "public up": "Public/../x",
    "empty": "",
}  # fmt: skip

DOORS: dict[str, Callable[[Account, str], object]] = {
    "open": lambda account, name: account.open_mailbox(name),
    "append": lambda account, name: account.writable_target(name),
    "create": lambda account, name: account.create(name),
    "delete": lambda account, name: account.delete(name),
    "rename from": lambda account, name: account.rename(name, "New"),
    "rename to": lambda account, name: account.rename("Work", name),
    "subscribe": lambda account, name: account.subscribe(name),
    "rights": lambda account, name: account.rights(name),
    "acl": lambda account, name: account.acl(name),
    "set acl": lambda account, name: account.set_acl(name, user("carol"), Mode.ADD, ALL),
    "delete acl": lambda account, name: account.delete_acl(name, user("carol")),
    "key": lambda account, name: account.mailbox_key(name),
    "guid": lambda account, name: account.guid(name),
    "permissions": lambda account, name: account.permissions(name),
}


@pytest.fixture(scope="module")
def hostile_world() -> Iterator[World]:
    with world_in_tmp() as world:
        world.account("alice").create("Work")
        world.account("bob").create("Work")
        yield world


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_every_door_refuses(hostile_world: World, name: str) -> None:
    bob = hostile_world.account("bob")
    before = picture_of(hostile_world.top)
    for door, action in DOORS.items():
        with pytest.raises(SharingError) as refused:
            action(bob, name)
        assert refused.value.code in (Code.CANNOT, Code.NONEXISTENT, Code.NO_PERMISSION), door
        assert refused.value.detail
    assert not bob.exists(name)
    assert picture_of(hostile_world.top) == before


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_looking_never_raises(hostile_world: World, name: str) -> None:
    bob = hostile_world.account("bob")
    assert all(one.name for one in bob.list("", [name, name + "*", name + "%"]))
    assert bob.explain(name)
    assert bob.separator_of(name) == "/"


def test_unsubscribing_from_a_hostile_name_writes_nothing(hostile_world: World) -> None:
    bob = hostile_world.account("bob")
    before = picture_of(hostile_world.top)
    for name in HOSTILE.values():
        with contextlib.suppress(SharingError):
            bob.unsubscribe(name)
    assert picture_of(hostile_world.top) == before


# --- links in the way ------------------------------------------------------------------------


def swap(world: World, when: Callable[[], object]) -> Path:
    """Put a link to carol's Work in the place of alice's, as somebody with write access could."""
    when()
    work = world.maildir("alice", ".Work")
    work.rename(work.with_name(".Hidden"))
    os.symlink(world.maildir("carol", ".Work"), work)
    return work


@pytest.fixture
def trap(world: World) -> World:
    """bob may do everything with alice's Work and nothing with carol's."""
    for owner in ("alice", "carol"):
        account = world.account(owner)
        account.create("Work")
        append(account, "Work")
    world.account("alice").set_acl("Work", user("bob"), Mode.REPLACE, ALL)
    return world


def test_a_link_has_the_rights_of_where_it_leads(trap: World) -> None:
    bob = trap.account("bob")
    assert bob.rights("shared/alice/Work").rights == ALL
    swap(trap, lambda: None)
    before = picture_of(trap.maildir("carol"))
    for door in ("open", "append", "delete", "set acl", "delete acl", "acl", "rights"):
        with pytest.raises(SharingError) as refused:
            DOORS[door](bob, "shared/alice/Work")
        assert refused.value.code is Code.NONEXISTENT
    assert picture_of(trap.maildir("carol")) == before


def test_a_swap_between_judging_and_acting_is_noticed(
    trap: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ACL was alice's when it was read; what would be written to is carol's."""
    judge = Policy.judge

    def judge_then_swap(self: Policy, *args: object, **kwargs: object) -> object:
        found = judge(self, *args, **kwargs)  # type: ignore[arg-type]  # passed on as they came
        if not trap.maildir("alice", ".Work").is_symlink():
            swap(trap, lambda: None)
        return found

    before = picture_of(trap.maildir("carol"))
    bob = trap.account("bob")
    monkeypatch.setattr(Policy, "judge", judge_then_swap)
    for door in ("append", "set acl"):
        with pytest.raises(SharingError) as refused:
            DOORS[door](bob, "shared/alice/Work")
        assert refused.value.code is Code.UNAVAILABLE
        work = trap.maildir("alice", ".Work")
        work.unlink()
        work.with_name(".Hidden").rename(work)
    assert picture_of(trap.maildir("carol")) == before


def test_a_loop_of_links_is_no_mailbox(world: World) -> None:
    bob = world.account("bob")
    bob.create("Work")
    loop = world.maildir("bob", ".Loop")
    loop.symlink_to(loop)
    assert "Loop" not in names(bob)
    assert not bob.exists("Loop")
    with pytest.raises(SharingError):
        bob.open_mailbox("Loop")


def test_rights_are_read_anew(trap: World) -> None:
    """A share that is taken back is taken back for accounts that are open already."""
    bob = trap.account("bob")
    bob.demand("shared/alice/Work", Rights.parse("lrwstipekxa"))
    trap.account("alice").delete_acl("Work", user("bob"))
    with pytest.raises(SharingError) as refused:
        bob.demand("shared/alice/Work", Rights.parse("r"))
    assert refused.value.code is Code.NONEXISTENT
