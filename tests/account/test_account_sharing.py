"""Changing ACLs: wire rules, the three places in step, and nobody locked out by accident."""

import os
from pathlib import Path

import pytest

from sharefs.account import Account
from sharefs.acl import Acl, Entry, Mode, Update
from sharefs.errors import Code, SharingError
from sharefs.identifiers import ANYONE, AUTHENTICATED, OWNER, Identifier, Kind, group, user
from sharefs.rights import ALL, Rights
from tests.account.world import SHARED_GID, UIDS, World, names, world_in_tmp

LR = Rights.parse("lr")


def lines(world: World, *below: str) -> list[str]:
    return (world.maildir("alice", *below) / "dovecot-acl").read_text().splitlines()


def keys(world: World) -> list[str]:
    return world.map_path.read_text().splitlines()[::2] if world.map_path.exists() else []


def test_one_change_writes_acl_list_cache_and_map(world: World) -> None:
    alice = world.account("alice")
    alice.create("Work")
    change = alice.set_acl("Work", user("bob"), Mode.REPLACE, LR)
    assert change.changed
    assert not change.warnings
    assert lines(world, ".Work") == ["user=bob lr"]
    mtime = int(world.maildir("alice", ".Work", "dovecot-acl").stat().st_mtime)
    assert world.maildir("alice", "dovecot-acl-list").read_text() == f"{mtime} Work\n"
    assert world.map_path.read_text() == "shared/shared-boxes/user/bob/alice\n1\n"
    alice.delete_acl("Work", user("bob"))
    assert lines(world, ".Work") == []
    assert keys(world) == []
    assert world.maildir("alice", "dovecot-acl-list").read_text() == ""


def test_the_map_keeps_what_another_mailbox_calls_for(world: World) -> None:
    alice = world.account("alice")
    for name in ("One", "Two"):
        alice.create(name)
        alice.set_acl(name, user("bob"), Mode.REPLACE, LR)
    alice.delete_acl("One", user("bob"))
    assert keys(world) == ["shared/shared-boxes/user/bob/alice"]
    alice.delete("Two")
    assert keys(world) == []


def test_getacl_shows_the_owners_default_entry(world: World) -> None:
    alice = world.account("alice")
    alice.create("Work")
    alice.set_acl("Work", user("bob"), Mode.REPLACE, LR)
    alice.set_acl("Work", user("bob"), Mode.REPLACE, Rights.parse("s"), negative=True)
    assert alice.acl("Work").entries == (
        Entry(user("bob"), LR, Rights.parse("s")), Entry(user("alice"), ALL),
    )  # fmt: skip


def test_ones_own_admin_right_is_kept_in_private_namespaces(world: World) -> None:
    alice = world.account("alice")
    alice.create("Work")
    alice.set_acl("Work", user("alice"), Mode.REPLACE, LR)
    assert lines(world, ".Work") == ["user=alice alr"]
    alice.set_acl("Work", OWNER, Mode.REMOVE, Rights.parse("ar"))


WIDE = [ANYONE, AUTHENTICATED]


@pytest.mark.parametrize("identifier", WIDE, ids=str)
def test_sharing_with_everybody_must_be_allowed(world: World, identifier: Identifier) -> None:
    alice = world.account("alice")
    alice.create("Work")
    with pytest.raises(SharingError) as refused:
        alice.set_acl("Work", identifier, Mode.REPLACE, LR)
    assert refused.value.code is Code.INVALID
    assert not world.maildir("alice", ".Work", "dovecot-acl").exists()
    with world_in_tmp("imap_acl_allow_anyone = yes\n") as other:
        alice = other.account("alice")
        alice.create("Work")
        alice.set_acl("Work", identifier, Mode.REPLACE, LR)
        assert keys(other) == ["shared/shared-boxes/anyone/alice"]
        assert "shared/alice/Work" in names(other.account("carol"))


def test_nobody_owns_a_public_mailbox(world: World) -> None:
    world.make_public(".info", "user=bob lra\n")
    bob = world.account("bob")
    with pytest.raises(SharingError) as refused:
        bob.set_acl("Public/info", OWNER, Mode.REPLACE, LR)
    assert refused.value.code is Code.CANNOT
    bob.set_acl("Public/info", user("carol"), Mode.REPLACE, LR)
    assert "Public/info" in names(world.account("carol"))
    assert keys(world) == []  # public mailboxes are not in the map


def test_no_guard_in_public_namespaces(world: World) -> None:
    path = world.make_public(".info", "user=bob lra\n")
    world.account("bob").set_acl("Public/info", user("bob"), Mode.REPLACE, LR)
    assert (path / "dovecot-acl").read_text() == "user=bob lr\n"


def test_groups() -> None:
    with world_in_tmp(groups={"bob": "staff,board"}) as world:
        alice = world.account("alice")
        alice.create("Work")
        alice.set_acl("Work", group("staff"), Mode.REPLACE, LR)
        assert keys(world) == ["shared/shared-boxes/group/staff/alice"]
        assert "shared/alice/Work" in names(world.account("bob"))
        assert "shared/alice/Work" not in names(world.account("carol"))


LOCK_OUTS = [  # updates that leave nobody who could undo them
    Update.whole(OWNER, LR),
    Update.whole(user("alice"), LR),
]


@pytest.mark.parametrize("update", LOCK_OUTS, ids=str)
def test_commands_do_not_lock_the_last_administrator_out(world: World, update: Update) -> None:
    """Pain 19."""
    alice = world.account("alice")
    alice.create("Work")
    with pytest.raises(SharingError) as refused:
        alice.change_acl("Work", update)
    assert refused.value.code is Code.CANNOT
    assert "--force" in refused.value.detail
    assert not world.maildir("alice", ".Work", "dovecot-acl").exists()
    alice.change_acl("Work", update, force=True)
    with pytest.raises(SharingError):
        alice.acl("Work")
    # The administrator of the host can mend it.
    alice.change_acl("Work", Update.whole(update.identifier, ALL), override=True)
    assert alice.acl("Work").entries


def test_a_group_override_that_locks_the_owner_out() -> None:
    with world_in_tmp(groups={"alice": "eng"}) as world:
        alice = world.account("alice")
        alice.create("Work")
        update = Update.whole(Identifier(Kind.GROUP_OVERRIDE, "eng"), LR)
        with pytest.raises(SharingError) as refused:
            alice.change_acl("Work", update)
        assert refused.value.code is Code.CANNOT


def test_a_malformed_file_is_reported_and_not_touched(world: World) -> None:
    alice = world.account("alice")
    alice.create("Work")
    path = world.maildir("alice", ".Work", "dovecot-acl")
    path.write_text("user=bob lr\nuser=carol Z\n")
    with pytest.raises(SharingError) as refused:
        alice.set_acl("Work", user("dave"), Mode.REPLACE, LR)
    assert refused.value.code is Code.CORRUPT
    assert f"{path}:2" in refused.value.detail
    assert path.read_text() == "user=bob lr\nuser=carol Z\n"
    assert not world.account("bob").exists("shared/alice/Work")


# --- the map against the files ---------------------------------------------------------------


def test_rebuilding_a_lost_map(world: World) -> None:
    alice = world.account("alice")
    for name in ("One", "Two"):
        alice.create(name)
    alice.set_acl("One", user("bob"), Mode.REPLACE, LR)
    alice.set_acl("Two", user("carol"), Mode.REPLACE, LR)
    whole = sorted(keys(world))
    world.map_path.unlink()
    assert "shared/alice/One" not in names(world.account("bob"))
    report = alice.rebuild_map(dry_run=True)
    assert [state for state, _, _ in report.differences()] == ["missing", "missing"]
    assert keys(world) == []
    alice.rebuild_map()
    assert sorted(keys(world)) == whole
    assert "shared/alice/One" in names(world.account("bob"))
    assert not list(alice.rebuild_map(dry_run=True).differences())


def test_sharing_again_mends_a_lost_map(world: World) -> None:
    alice = world.account("alice")
    alice.create("Work")
    alice.set_acl("Work", user("bob"), Mode.REPLACE, LR)
    world.map_path.unlink()
    assert not alice.set_acl("Work", user("bob"), Mode.REPLACE, LR).changed
    assert keys(world) == ["shared/shared-boxes/user/bob/alice"]


def test_stale_entries_go(world: World) -> None:
    world.map_path.write_text("shared/shared-boxes/user/bob/alice\n1\nother/key\n5\n")
    report = world.account("alice").rebuild_map()
    assert [(state, text) for state, text, _ in report.differences()] == [("stale", "user bob")]
    assert world.map_path.read_text() == "other/key\n5\n"


def test_an_unreadable_acl_takes_nothing_from_the_map(world: World) -> None:
    alice = world.account("alice")
    alice.create("Work")
    alice.set_acl("Work", user("bob"), Mode.REPLACE, LR)
    world.maildir("alice", ".Work", "dovecot-acl").write_text("user=bob Z\n")
    report = alice.rebuild_map()
    ((state, _, detail),) = report.differences()
    assert state == "unreadable"
    assert f"{world.maildir('alice', '.Work', 'dovecot-acl')}:1:10: error: unknown right" in detail
    assert keys(world) == ["shared/shared-boxes/user/bob/alice"]


def test_a_map_that_cannot_be_written_leaves_the_share_in_force(world: World) -> None:
    alice = world.account("alice")
    alice.create("Work")
    world.map_path.mkdir()
    change = alice.set_acl("Work", user("bob"), Mode.REPLACE, LR)
    assert change.changed
    assert any("sharefs map rebuild -u alice" in warning for warning in change.warnings)
    assert world.account("bob").rights("shared/alice/Work").rights == LR


def test_without_a_map_commands_say_what_to_set() -> None:
    with world_in_tmp(with_map=False) as world:
        alice = world.account("alice")
        alice.create("Work")
        alice.set_acl("Work", user("bob"), Mode.REPLACE, LR)
        assert world.account("bob").rights("shared/alice/Work").rights == LR
        with pytest.raises(SharingError) as refused:
            alice.rebuild_map()
        assert "acl_sharing_map" in refused.value.detail


# --- as the users themselves -----------------------------------------------------------------


@pytest.mark.superuser
def test_a_stranger_who_sees_half_a_tree_takes_nothing_from_the_map(world: World) -> None:
    """Bob may administer Work but not list alice's root: what he does not see is still there."""

    def prepare(account: Account) -> None:
        for name in ("Work", "Other"):
            account.create(name)
        account.set_acl("Work", user("bob"), Mode.REPLACE, ALL)
        account.set_acl("Other", user("carol"), Mode.REPLACE, LR)

    world.as_user("alice", prepare)
    both = sorted(keys(world))
    cache = world.maildir("alice", "dovecot-acl-list").read_bytes()
    root = world.maildir("alice")
    root.chmod(0o2710)
    world.as_user(
        "bob", lambda account: account.set_acl("shared/alice/Work", user("dave"), Mode.ADD, LR)
    )
    assert sorted(keys(world)) == sorted([*both, "shared/shared-boxes/user/dave/alice"])
    assert world.maildir("alice", "dovecot-acl-list").read_bytes() == cache
    # The owner's list cache is what bob's listing goes by when the root may only be searched.
    assert "shared/alice/Work" in world.as_user("bob", names)


@pytest.mark.superuser
def test_files_belong_to_whoever_made_them_and_to_the_shared_group(world: World) -> None:
    def prepare(account: Account) -> None:
        account.create("Work")
        account.set_acl("Work", user("bob"), Mode.REPLACE, ALL)

    world.as_user("alice", prepare)
    world.as_user(
        "bob", lambda account: account.set_acl("shared/alice/Work", user("carol"), Mode.ADD, LR)
    )
    path = world.maildir("alice", ".Work", "dovecot-acl")
    assert (path.stat().st_uid, path.stat().st_gid) == (UIDS["bob"], SHARED_GID)
    assert world.as_user("carol", lambda account: "shared/alice/Work" in names(account))
    assert not [entry for entry in walk(world.top / "home") if os.lstat(entry).st_uid == 0]


def walk(top: Path) -> list[Path]:
    return [path for path in top.rglob("*") if path.parent != top]


def test_acl_values_are_plain(world: World) -> None:
    """stored_acl is the file's ACL, without the default entry that GETACL adds."""
    alice = world.account("alice")
    alice.create("Work")
    assert alice.stored_acl("Work") == Acl()
