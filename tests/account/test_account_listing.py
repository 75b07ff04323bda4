"""What LIST shows to whom: shared, public, symlinked and automatic mailboxes."""

import os
from pathlib import Path
from typing import Any

import pytest

from sharefs.acl import Mode
from sharefs.errors import Code, SharingError
from sharefs.identifiers import user
from sharefs.namespaces.listing import Selection
from sharefs.rights import Rights
from tests.account.world import World, names, world_in_tmp

BOB = user("bob")


def share(world: World, name: str, rights: str, whom: str = "bob") -> None:
    world.account("alice").set_acl(name, user(whom), Mode.REPLACE, Rights.parse(rights))


def alices(world: World, *names_: str) -> None:
    account = world.account("alice")
    for name in names_:
        account.create(name)


OWN = ["INBOX", "Drafts", "Sent"]


def test_a_new_user_has_an_inbox_and_the_automatic_mailboxes(world: World) -> None:
    assert names(world.account("bob")) == OWN
    assert not world.maildir("bob").exists()  # looking makes nothing


def test_a_share_is_listed_with_the_levels_above_it(world: World) -> None:
    alices(world, "Work", "Work/Deep/Er", "Secret")
    share(world, "Work/Deep/Er", "lr")
    bob = world.account("bob")
    want = [*OWN, "shared!", "shared/alice!", "shared/alice/Work!", "shared/alice/Work/Deep!",
            "shared/alice/Work/Deep/Er"]  # fmt: skip
    assert names(bob) == want
    assert names(bob, "%") == [*OWN, "shared!"]
    assert names(bob, "shared/%") == ["shared/alice!"]
    assert names(world.account("carol")) == OWN


def test_an_inbox_that_is_shared_is_the_owners_prefix(world: World) -> None:
    world.account("alice").open_mailbox("INBOX").close()
    share(world, "INBOX", "lr")
    assert names(world.account("bob"), "shared/*") == ["shared/alice"]


def test_lookup_alone_makes_a_mailbox_visible(world: World) -> None:
    """For each set of rights: listed exactly with l."""
    alices(world, "Work")
    for letters in ("l", "lr", "r", "rswipekxta", "", "p"):
        share(world, "Work", letters)
        listed = "shared/alice/Work" in names(world.account("bob"))
        assert listed == ("l" in letters), letters


def test_children_are_counted_only_if_visible(world: World) -> None:
    alices(world, "Work", "Work/Secret")
    share(world, "Work", "lr")
    flags = {one.name: one.flags for one in world.account("bob").list("", ["*"])}
    assert "\\HasNoChildren" in flags["shared/alice/Work"]
    share(world, "Work/Secret", "l")
    flags = {one.name: one.flags for one in world.account("bob").list("", ["*"])}
    assert "\\HasChildren" in flags["shared/alice/Work"]


def test_public_mailboxes_by_their_acls(world: World) -> None:
    world.make_public(".info", "anyone lr\n")
    world.make_public(".team.plans", "user=bob lr\n")
    world.make_public(".board", "user=alice lr\n")
    bob = world.account("bob")
    assert names(bob, "Public*") == [
        "Public!", "Public/info", "Public/team!", "Public/team/plans",
    ]  # fmt: skip
    assert names(world.account("carol"), "Public*") == ["Public!", "Public/info"]


def test_special_uses(world: World) -> None:
    bob = world.account("bob")
    assert names(bob, "*", Selection(special_use=True)) == ["Drafts", "Sent"]
    flags = {one.name: one.flags for one in bob.list("", ["*"])}
    assert "\\Sent" in flags["Sent"]


def test_subscriptions(world: World) -> None:
    alices(world, "Work")
    share(world, "Work", "lr")
    bob = world.account("bob")
    bob.subscribe("shared/alice/Work")
    selection = Selection(subscribed=True)
    assert names(bob, "*", selection) == ["Sent", "shared/alice/Work"]
    assert world.maildir("bob", "subscriptions").read_bytes() == (b"V\t2\n\nshared/alice/Work\n")
    share(world, "Work", "")
    # The subscription outlives the share, and tells nothing about it.
    assert names(bob, "*", selection) == ["Sent", "shared/alice/Work!"]
    bob.unsubscribe("shared/alice/Work")
    assert names(bob, "*", selection) == ["Sent"]


@pytest.mark.parametrize("name", ["Nope", "shared/alice/Nope", "shared/nobody/x", "Public", "a//b"])
def test_what_is_not_there_cannot_be_subscribed_to(world: World, name: str) -> None:
    bob = world.account("bob")
    with pytest.raises(SharingError) as refused:
        bob.subscribe(name)
    assert refused.value.code is Code.NONEXISTENT
    assert not world.maildir("bob").exists()


def test_an_automatic_mailbox_is_subscribed_to_once_it_is_made(world: World) -> None:
    bob = world.account("bob")
    bob.open_mailbox("Sent").close()
    assert world.maildir("bob", "subscriptions").read_bytes() == b"V\t2\n\nSent\n"
    bob.unsubscribe("Sent")
    assert names(bob, "*", Selection(subscribed=True)) == []


def test_namespaces(world: World) -> None:
    got = [(one.type, one.prefix, one.list) for one in world.account("bob").namespaces()]
    assert got == [
        ("private", "", "yes"),
        ("shared", "shared/", "children"),
        ("public", "Public/", "children"),
    ]


# --- symbolic links --------------------------------------------------------------------------


def link_share(world: World) -> None:
    world.account("bob").create("Own")
    os.symlink(world.maildir("alice", ".Work"), world.maildir("bob", ".fromalice.Work"))


def test_a_link_obeys_the_true_owners_acl(world: World) -> None:
    """The linker does not become the owner (pain 38)."""
    alices(world, "Work")
    link_share(world)
    bob = world.account("bob")
    assert "fromalice/Work" not in names(bob)
    with pytest.raises(SharingError) as refused:
        bob.open_mailbox("fromalice/Work")
    assert refused.value.code is Code.NONEXISTENT
    share(world, "Work", "lr")
    assert "fromalice/Work" in names(bob)
    assert bob.rights("fromalice/Work").rights == Rights.parse("lr")
    assert ("fromalice/Work", "alice", Rights.parse("lr")) in list(bob.received())
    bob.open_mailbox("fromalice/Work").close()


def test_a_link_is_the_linkers_to_remove(world: World) -> None:
    alices(world, "Work")
    link_share(world)
    world.account("bob").delete("fromalice/Work")
    assert not world.maildir("bob", ".fromalice.Work").is_symlink()
    assert world.maildir("alice", ".Work", "cur").is_dir()


def test_the_permissive_reading_of_links() -> None:
    with world_in_tmp("sharefs_symlink_owner = linker\n") as world:
        alices(world, "Work")
        link_share(world)
        assert (
            world.account("bob").rights("fromalice/Work").rights.covers(Rights.parse("lrswipeka"))
        )


def test_a_link_within_ones_own_tree_stays_ones_own(world: World) -> None:
    bob = world.account("bob")
    bob.create("Work")
    os.symlink(world.maildir("bob", ".Work"), world.maildir("bob", ".Alias"))
    assert bob.rights("Alias").rights == bob.rights("Work").rights


def test_a_dangling_link_breaks_nothing(world: World) -> None:
    bob = world.account("bob")
    bob.create("Work")
    os.symlink("/nowhere/at/all", world.maildir("bob", ".Gone"))
    assert names(bob) == [*OWN, "Work"]


# --- what goes wrong -------------------------------------------------------------------------


def test_a_map_that_names_a_user_who_is_gone(world: World) -> None:
    world.map_path.write_text("shared/shared-boxes/user/bob/ghost\n1\n")
    assert names(world.account("bob")) == OWN


def test_a_broken_map_leaves_ones_own_mailboxes(world: World) -> None:
    world.map_path.mkdir()
    assert names(world.account("bob")) == OWN


def test_foreign_entries_in_a_mail_root(world: World) -> None:
    """Pain 34: a file, a stray link and a name that is none are no mailboxes."""
    bob = world.account("bob")
    bob.create("Work")
    world.maildir("bob", ".file").write_text("")
    world.maildir("bob", ".dovecot.sieve").symlink_to("sieve")
    world.maildir("bob", "..double").mkdir()
    world.maildir("bob", ".&bad").mkdir()
    assert names(bob) == [*OWN, "Work"]


def test_a_namespace_of_a_driver_that_we_lack() -> None:
    extra = """
namespace old {
  type = public
  prefix = Old/
  separator = /
  mail_driver = mbox
  mail_path = /var/mail/old
  subscriptions = no
}
"""
    with world_in_tmp(extra) as world:
        bob = world.account("bob")
        assert set(OWN) <= set(names(bob))
        with pytest.raises(SharingError) as refused:
            bob.open_mailbox("Old/x")
        assert "mbox" in refused.value.detail or refused.value.code is Code.NONEXISTENT


def test_unreadable_subscriptions_matter_to_who_asks_for_them(world: World) -> None:
    bob = world.account("bob")
    bob.create("Work")
    world.maildir("bob", "subscriptions").mkdir()
    assert "Work" in names(bob)
    with pytest.raises(SharingError) as refused:
        names(bob, "*", Selection(subscribed=True))
    assert refused.value.code is Code.UNAVAILABLE


ALIAS = """
namespace compat {
  type = private
  prefix = mail/
  separator = /
  alias_for = inbox
  hidden = yes
  list = no
}
"""


def test_another_name_for_a_namespace() -> None:
    """Clients with an old prefix in their settings find everything below it, and only if asked."""
    with world_in_tmp(ALIAS) as world:
        bob = world.account("bob")
        bob.create("mail/Work")
        bob.subscribe("mail/Work")
        assert names(bob) == [*OWN, "Work"]
        assert "mail/Work" in names(bob, "mail/%")
        assert "Work" in names(bob, "*", Selection(subscribed=True))


@pytest.mark.slow
def test_a_listing_looks_at_each_mailbox_a_few_times(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever their number: nothing is compared with everything."""
    root: Path = world.maildir("bob")
    for n in range(1000):
        for folder in ("cur", "new", "tmp"):
            (root / f".m{n % 50}.n{n}" / folder).mkdir(parents=True)
    bob = world.account("bob")
    looks = 0
    for name in ("stat", "lstat", "open", "access"):
        call = getattr(os, name)

        def counted(*args: Any, call: Any = call, **more: Any) -> Any:
            nonlocal looks
            looks += 1
            return call(*args, **more)

        monkeypatch.setattr(os, name, counted)
    assert len(names(bob)) == 1000 + 50 + len(OWN)
    monkeypatch.undo()
    assert 1000 <= looks < 6 * 1050
