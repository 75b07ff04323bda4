"""Settings that decide over rights and names: ACL blocks, defaults, ignore lists, layouts."""

import os

import pytest

from sharefs.acl import Mode
from sharefs.errors import Code, SharingError
from sharefs.identifiers import user
from sharefs.rights import ALL, Rights
from tests.account.world import World, append, messages, names, world_in_tmp

LR = Rights.parse("lr")


def rights(world: World, name: str, mailbox: str) -> Rights:
    return world.account(name).rights(mailbox).rights


BLOCKS = """
namespace public {
  acl group=staff {
    rights = lr
  }
  mailbox info {
    acl anyone {
      rights = l
    }
  }
  mailbox locked {
    acl user=bob {
      rights = -r
    }
  }
}
"""


def test_acl_blocks_of_namespaces_and_mailboxes() -> None:
    with world_in_tmp(BLOCKS, groups={"bob": "staff"}) as world:
        for name in (".info", ".locked", ".other"):
            world.make_public(name, "")
        assert names(world.account("bob"), "Public/*") == [
            "Public/info", "Public/locked", "Public/other",
        ]  # fmt: skip
        assert names(world.account("carol"), "Public/*") == ["Public/info"]
        assert rights(world, "bob", "Public/info") == LR
        assert rights(world, "bob", "Public/locked") == Rights.parse("l")


def test_defaults_from_inbox() -> None:
    with world_in_tmp("acl_defaults_from_inbox = yes\n") as world:
        alice = world.account("alice")
        alice.create("Work")
        alice.open_mailbox("INBOX").close()
        alice.set_acl("INBOX", user("bob"), Mode.REPLACE, LR)
        assert rights(world, "bob", "shared/alice/Work") == LR
        alice.create("Later")
        assert not world.maildir("alice", ".Later", "dovecot-acl").exists()
        assert rights(world, "bob", "shared/alice/Later") == LR
        alice.delete_acl("INBOX", user("bob"))  # a default that was copied would stay
        assert not world.account("bob").exists("shared/alice/Later")


def test_without_that_setting_inbox_shares_only_itself(world: World) -> None:
    """Pain 10."""
    alice = world.account("alice")
    alice.create("Work")
    alice.open_mailbox("INBOX").close()
    alice.set_acl("INBOX", user("bob"), Mode.REPLACE, LR)
    assert names(world.account("bob"), "shared/*") == ["shared/alice"]


IGNORE = "namespace public {\n  acl_ignore = yes\n}\n"


def test_a_namespace_whose_acls_are_ignored() -> None:
    with world_in_tmp(IGNORE) as world:
        world.make_public(".info", "user=nobody l\n")
        assert rights(world, "bob", "Public/info") == ALL


FS = """
mailbox_list_layout = fs
namespace inbox {
  mail_path = ~/mail
  mail_inbox_path = ~/mail/INBOX
}
namespace shared {
  mail_path = %{owner_home}/mail
  mail_inbox_path = %{owner_home}/mail/INBOX
}
"""


def test_the_fs_layout() -> None:
    with world_in_tmp(FS) as world:
        alice = world.account("alice")
        alice.create("Projects/")
        alice.create("Projects/2026")
        append(alice, "INBOX")
        assert names(alice, "P*") == ["Projects!", "Projects/2026"]
        assert (world.home("alice") / "mail" / "Projects" / "2026" / "cur").is_dir()
        alice.set_acl("Projects/2026", user("bob"), Mode.REPLACE, LR)
        alice.set_acl("INBOX", user("bob"), Mode.REPLACE, LR)
        bob = world.account("bob")
        assert names(bob, "shared/alice*") == [
            "shared/alice", "shared/alice/Projects!", "shared/alice/Projects/2026",
        ]  # fmt: skip
        assert messages(bob, "shared/alice") == [1]
        for name in ("Projects/cur", "Projects/2026/tmp", "new"):
            with pytest.raises(SharingError) as refused:
                alice.create(name)
            assert refused.value.code is Code.CANNOT


def test_a_linked_directory_of_the_fs_layout_brings_its_children() -> None:
    """Seeds: "With the "fs" layout this is possible"; each child obeys its own ACL."""
    with world_in_tmp(FS) as world:
        alice, bob = world.account("alice"), world.account("bob")
        for name in ("Work", "Work/Open", "Work/Closed"):
            alice.create(name)
        bob.create("Own")
        for name in ("Work", "Work/Open"):
            alice.set_acl(name, user("bob"), Mode.REPLACE, LR)
        os.symlink(world.home("alice") / "mail" / "Work", world.home("bob") / "mail" / "alices")
        assert names(bob, "alices*") == ["alices", "alices/Open"]
        assert bob.rights("alices/Open").rights == LR
        with pytest.raises(SharingError) as refused:
            bob.delete("alices/Open")
        assert refused.value.code is Code.NO_PERMISSION
        bob.delete("alices")  # the link itself is bob's
        assert alice.exists("Work/Open")


def test_acls_that_are_not_in_use() -> None:
    """Without acl_driver the kernel alone decides, as in Dovecot without the plugin."""
    with world_in_tmp("acl_driver =\n") as world:
        world.account("alice").create("Work")
        assert rights(world, "bob", "shared/alice/Work") == ALL


def test_a_change_without_effect_says_so() -> None:
    with world_in_tmp(BLOCKS + "acl_driver =\n") as world:
        world.make_public(".info", "")
        alice = world.account("alice")
        alice.create("Work")
        (told,) = alice.set_acl("Work", user("bob"), Mode.REPLACE, LR).warnings
        assert told.startswith("ACLs are not obeyed for Work (acl_driver is not set")


def test_an_entry_that_the_configuration_outweighs_says_so() -> None:
    block = "namespace inbox {\n  acl user=bob {\n    rights = l\n  }\n}\n"
    with world_in_tmp(block) as world:
        alice = world.account("alice")
        alice.create("Work")
        (told,) = alice.set_acl("Work", user("bob"), Mode.REPLACE, LR).warnings
        assert "the entry for user=bob in the configuration outweighs this one" in told
        assert alice.set_acl("Work", user("carol"), Mode.REPLACE, LR).warnings == ()
