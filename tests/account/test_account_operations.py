"""Every operation demands its right and, refused, leaves everything as it was."""

import contextlib
import os
from collections.abc import Callable

import pytest

from sharefs.account import Account
from sharefs.acl import Mode
from sharefs.errors import Code, SharingError
from sharefs.identifiers import user
from sharefs.rights import ALL, INSERT, POST, Rights
from tests.account.world import World, append, messages, names, picture_of, world_in_tmp

WORK = "shared/alice/Work"


def grant(world: World, letters: str, name: str = "Work") -> None:
    alice = world.account("alice")
    alice.set_acl(name, user("bob"), Mode.REPLACE, Rights.parse(letters))


def refusal_of(action: Callable[[], object]) -> Code | None:
    try:
        action()
    except SharingError as refusal:
        return refusal.code
    return None


def open_and_close(account: Account, name: str) -> None:
    account.open_mailbox(name).close()


def target_and_close(account: Account, name: str, right: Rights = INSERT) -> None:
    account.writable_target(name, right).close()


@pytest.fixture
def shared(world: World) -> World:
    alice = world.account("alice")
    alice.create("Work")
    append(alice, "Work")
    return world


OPERATIONS: dict[str, tuple[str, Callable[[Account], object]]] = {  # right, operation
    "select": ("r", lambda account: open_and_close(account, WORK)),
    "append": ("i", lambda account: target_and_close(account, WORK)),
    "deliver": ("p", lambda account: target_and_close(account, WORK, POST)),
    "create": ("k", lambda account: account.create(f"{WORK}/New")),
    "delete": ("x", lambda account: account.delete(WORK)),
    "getacl": ("a", lambda account: account.acl(WORK)),
    "setacl": ("a", lambda account: account.set_acl(WORK, user("carol"), Mode.ADD, ALL)),
    "deleteacl": ("a", lambda account: account.delete_acl(WORK, user("carol"))),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_needs_its_right_and_no_other(shared: World, name: str) -> None:
    right, operation = OPERATIONS[name]
    bob = shared.account("bob")
    grant(shared, ALL.letters.replace(right, ""))
    before = picture_of(shared.top)
    assert refusal_of(lambda: operation(bob)) is Code.NO_PERMISSION
    assert picture_of(shared.top) == before
    grant(shared, "l" + right)
    assert refusal_of(lambda: operation(bob)) is None


@pytest.mark.parametrize("name", OPERATIONS)
def test_without_lookup_the_answer_is_that_of_a_missing_mailbox(shared: World, name: str) -> None:
    """Same code and, but for the name that was asked for, the same text."""
    right, operation = OPERATIONS[name]
    bob = shared.account("bob")
    grant(shared, ALL.letters.replace("l", "").replace(right, ""))
    with pytest.raises(SharingError) as hidden:
        operation(bob)
    shared.account("alice").delete("Work")
    with pytest.raises(SharingError) as missing:
        operation(bob)
    assert hidden.value.code is missing.value.code
    assert hidden.value.detail == missing.value.detail


@pytest.mark.parametrize(
    "name", ["shared/alice/Nope", "shared/nobody/Work", "shared/nobody", "Nope"]
)
def test_what_is_missing_is_missing_alike(shared: World, name: str) -> None:
    """An unknown user, an unknown mailbox: one answer."""
    bob = shared.account("bob")
    for operation in (
        bob.rights, bob.acl, bob.open_mailbox, bob.writable_target, bob.delete, bob.subscribe,
        lambda name: bob.rename(name, "x"),
    ):  # fmt: skip
        with pytest.raises(SharingError) as refused:
            operation(name)
        assert refused.value.code is Code.NONEXISTENT
        assert refused.value.detail == f"Mailbox doesn't exist: {name}"
    assert not bob.exists(name)


def test_creating_in_an_unknown_users_tree_says_no_more_than_in_a_known_ones(shared: World) -> None:
    bob = shared.account("bob")
    details = []
    for owner in ("alice", "nobody"):
        with pytest.raises(SharingError) as refused:
            bob.create(f"shared/{owner}/New")
        assert refused.value.code is Code.NO_PERMISSION
        details.append(refused.value.detail.replace(owner, "OWNER"))
    assert details[0] == details[1]


def test_a_right_on_all_shares_makes_no_accounts() -> None:
    extra = """
namespace shared {
  acl user=bob {
    rights = lrk
  }
}
"""
    with world_in_tmp(extra) as world:
        world.account("alice").create("Work")
        bob = world.account("bob")
        bob.create("shared/alice/New")
        before = picture_of(world.top)
        for owner in ("carol", "nobody"):  # carol has no mail yet
            assert refusal_of(lambda: bob.create(f"shared/{owner}/New")) is Code.NO_PERMISSION  # noqa: B023 - called at once
        assert picture_of(world.top) == before


def test_post_alone_is_no_right_to_know(shared: World) -> None:
    grant(shared, "p")
    bob = shared.account("bob")
    assert refusal_of(lambda: bob.rights(WORK)) is Code.NONEXISTENT
    assert refusal_of(lambda: target_and_close(bob, WORK, POST)) is None


def test_any_other_right_answers_myrights(shared: World) -> None:
    for letter in ALL.letters.replace("p", ""):
        grant(shared, letter)
        assert shared.account("bob").rights(WORK).rights == Rights.parse(letter)


@pytest.mark.parametrize("letter", "lri")
def test_subscribing_needs_l_r_or_i(shared: World, letter: str) -> None:
    grant(shared, "wstpekxa")
    bob = shared.account("bob")
    assert refusal_of(lambda: bob.subscribe(WORK)) is Code.NONEXISTENT
    grant(shared, letter)
    bob.subscribe(WORK)
    assert WORK in bob.subscriptions()


# --- creating --------------------------------------------------------------------------------


def test_create_copies_the_parents_acl_once(shared: World) -> None:
    grant(shared, "lrs")
    alice = shared.account("alice")
    alice.create("Work/Sub")
    assert shared.maildir("alice", ".Work.Sub", "dovecot-acl").read_bytes() == b"user=bob lrs\n"
    grant(shared, "l")
    assert shared.account("bob").rights("shared/alice/Work/Sub").rights == Rights.parse("lrs")


def test_the_copy_comes_from_the_nearest_existing_parent(shared: World) -> None:
    grant(shared, "lrs")
    shared.account("alice").create("Work/No/Such/Levels")
    acl = shared.maildir("alice", ".Work.No.Such.Levels", "dovecot-acl")
    assert acl.read_bytes() == b"user=bob lrs\n"


def test_a_public_root_has_a_default_acl(world: World) -> None:
    (world.public / "dovecot-acl").write_text("user=bob lrk\n")
    bob = world.account("bob")
    bob.create("Public/new")
    acl = world.public / ".new" / "dovecot-acl"
    assert acl.read_bytes() == b"user=bob klr\n"
    assert names(bob, "Public/*") == ["Public/new"]
    assert refusal_of(lambda: world.account("carol").create("Public/x")) is Code.NO_PERMISSION


def test_a_parent_whose_acl_cannot_be_read_lets_nothing_be_made(shared: World) -> None:
    shared.maildir("alice", ".Work", "dovecot-acl").write_text("user=bob lrZ\n")
    before = picture_of(shared.top)
    alice = shared.account("alice")
    assert refusal_of(lambda: alice.create("Work/Sub")) is not None
    assert picture_of(shared.top) == before


def test_create_twice(world: World) -> None:
    bob = world.account("bob")
    bob.create("Work")
    assert refusal_of(lambda: bob.create("Work")) is Code.ALREADY_EXISTS
    bob.create("Sent")  # automatic, and not made yet
    assert refusal_of(lambda: bob.create("Sent")) is Code.ALREADY_EXISTS
    assert refusal_of(lambda: bob.create("inbox")) is None
    assert refusal_of(lambda: bob.create("INBOX")) is Code.ALREADY_EXISTS


def test_create_does_not_tell_of_a_hidden_mailbox(shared: World) -> None:
    alice = shared.account("alice")
    alice.create("Work/Hidden")
    grant(shared, "lk")
    bob = shared.account("bob")
    assert refusal_of(lambda: bob.create(f"{WORK}/Hidden")) is Code.NO_PERMISSION


def test_a_trailing_separator_is_only_a_hint(world: World) -> None:
    bob = world.account("bob")
    bob.create("Projects/")
    assert "Projects" in "".join(names(bob))


def test_special_uses_cannot_be_invented(world: World) -> None:
    bob = world.account("bob")
    bob.create("Sent", ["\\Sent"])
    assert refusal_of(lambda: bob.create("Bin", ["\\Trash"])) is Code.CANNOT


# --- deleting and renaming -------------------------------------------------------------------


def test_inbox_cannot_be_deleted(world: World) -> None:
    bob = world.account("bob")
    bob.open_mailbox("INBOX").close()
    assert refusal_of(lambda: bob.delete("inbox")) is Code.CANNOT


def test_deleting_leaves_children(world: World) -> None:
    bob = world.account("bob")
    bob.create("a")
    bob.create("a/b")
    bob.delete("a")
    assert names(bob, "a*") == ["a!", "a/b"]


RENAMES = [  # bob's rights on Work, on the new parent; answer
    ("lx", "lk", None),
    ("l", "lk", Code.NO_PERMISSION),
    ("lx", "l", Code.NO_PERMISSION),
    ("x", "lk", None),
    ("k", "lk", Code.NONEXISTENT),
]


@pytest.mark.parametrize(("on_source", "on_parent", "want"), RENAMES)
def test_rename_needs_x_and_k(
    shared: World, on_source: str, on_parent: str, want: Code | None
) -> None:
    shared.account("alice").create("Dest")
    grant(shared, on_source)
    grant(shared, on_parent, "Dest")
    bob = shared.account("bob")
    before = picture_of(shared.maildir("alice"))
    got = refusal_of(lambda: bob.rename(WORK, "shared/alice/Dest/Work"))
    assert got is want
    assert (picture_of(shared.maildir("alice")) == before) == (want is not None)


def test_children_and_acls_go_along(shared: World) -> None:
    grant(shared, "lr")
    alice = shared.account("alice")
    alice.create("Work/Sub")
    alice.rename("Work", "Archive")
    assert names(shared.account("bob"), "shared/alice/*") == [
        "shared/alice/Archive", "shared/alice/Archive/Sub",
    ]  # fmt: skip
    assert b" Archive\n" in shared.maildir("alice", "dovecot-acl-list").read_bytes()


RENAME_REFUSALS = [
    ("Work", "Work", Code.ALREADY_EXISTS),
    ("Work", "Work/Below", Code.CANNOT),
    ("Work", "Other", Code.ALREADY_EXISTS),
    ("Work", "INBOX", Code.ALREADY_EXISTS),
    ("Work", "Public/Work", Code.NO_PERMISSION),
    ("Nope", "New", Code.NONEXISTENT),
    ("Work", "a//b", Code.CANNOT),
]


@pytest.mark.parametrize(("old", "new", "want"), RENAME_REFUSALS)
def test_renames_that_cannot_be(world: World, old: str, new: str, want: Code) -> None:
    bob = world.account("bob")
    for name in ("Work", "Other"):
        bob.create(name)
    bob.open_mailbox("INBOX").close()
    before = picture_of(world.top)
    assert refusal_of(lambda: bob.rename(old, new)) is want
    assert picture_of(world.top) == before


def test_rename_between_namespaces_cannot_be_even_with_rights(world: World) -> None:
    (world.public / "dovecot-acl").write_text("user=bob lrk\n")
    bob = world.account("bob")
    bob.create("Work")
    assert refusal_of(lambda: bob.rename("Work", "Public/Work")) is Code.CANNOT


def test_renaming_inbox_moves_its_messages(world: World) -> None:
    bob = world.account("bob")
    append(bob, "INBOX")
    bob.create("INBOX/Child")
    bob.rename("INBOX", "Old")
    assert len(messages(bob, "Old")) == 1
    assert len(messages(bob, "INBOX")) == 0
    assert "INBOX/Child" in names(bob)


# --- opening ---------------------------------------------------------------------------------


def test_automatic_mailboxes_are_made_when_used(world: World) -> None:
    bob = world.account("bob")
    append(bob, "Sent")
    assert messages(bob, "Sent") == [1]
    assert world.maildir("bob", ".Sent", "cur").is_dir()
    assert not world.maildir("bob", ".Drafts").exists()


def test_nobody_makes_automatic_mailboxes_for_others(world: World) -> None:
    """Pain 53: only in the private INBOX namespace."""
    world.account("alice").open_mailbox("INBOX").close()
    carol = world.account("carol")
    assert refusal_of(lambda: open_and_close(carol, "shared/alice/Sent")) is Code.NONEXISTENT


def test_private_seen_is_used_for_what_others_own(shared: World) -> None:
    bob = shared.account("bob")
    assert bob.uses_private_seen(WORK)
    assert not bob.uses_private_seen("INBOX")
    assert not bob.uses_private_seen("Public/info")


def test_mailbox_keys(shared: World) -> None:
    """Equal exactly for what may be one open mailbox."""
    grant(shared, "lr")
    shared.account("bob").create("Own")
    bob, alice = shared.account("bob"), shared.account("alice")
    os.symlink(shared.maildir("alice", ".Work"), shared.maildir("bob", ".Link"))
    key = bob.mailbox_key(WORK)
    assert key == shared.account("bob").mailbox_key(WORK)
    assert hash(key) == hash(bob.mailbox_key(WORK))
    others = [
        bob.mailbox_key(WORK, readonly=True), bob.mailbox_key("Link"), alice.mailbox_key("Work"),
        bob.mailbox_key("INBOX"), shared.account("carol").mailbox_key(WORK),
    ]  # fmt: skip
    assert key not in others
    assert bob.mailbox_key("inbox") == bob.mailbox_key("INBOX")


def test_a_refused_open_leaves_no_descriptor(shared: World) -> None:
    bob = shared.account("bob")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with contextlib.suppress(SharingError):
            bob.open_mailbox(WORK)
    assert len(os.listdir("/proc/self/fd")) == before
