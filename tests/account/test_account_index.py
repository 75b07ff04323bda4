"""Where a viewer may keep an index of a mailbox."""

import os
from contextlib import closing
from pathlib import Path

import pytest

from sharefs.account import Account
from sharefs.acl import Mode
from sharefs.flags import FlagChange, FlagOp, FlagSet, System
from sharefs.identifiers import Identifier, Kind
from sharefs.index import MailboxIndex
from sharefs.rights import Rights
from tests.account.world import UIDS, World, append, world_in_tmp

pytestmark = pytest.mark.superuser

BOB = Identifier(Kind.USER, "bob")
INDEX_PATH = "namespace inbox {\n  mail_index_path = ~/index\n}\n"


def places(host: World, user: str, name: str) -> list[str]:
    return host.as_user(user, lambda account: [str(place) for place in account.index_places(name)])


def test_by_the_true_place_of_the_mailbox() -> None:
    with world_in_tmp() as host:
        (own,) = places(host, "alice", "INBOX")
        assert Path(own).parent == host.home("alice") / ".cache" / "sharefs" / "index"
        (work,) = places(host, "alice", "Work")
        assert work != own
        # bob's index of alice's mailbox is bob's.
        (bobs,) = places(host, "bob", "shared/alice/INBOX")
        assert Path(bobs).parent == host.home("bob") / ".cache" / "sharefs" / "index"
        assert Path(bobs).name == Path(own).name
        # A link to a mailbox is that mailbox.
        host.maildir("bob").mkdir(exist_ok=True)
        host.maildir("bob", ".Link").symlink_to(host.maildir("alice", ".Work"))
        (linked,) = places(host, "bob", "Link")
        assert Path(linked).name == Path(work).name


@pytest.mark.parametrize(
    ("mode", "owner", "used"),
    [
        (0o700, "alice", True),
        (0o770, "alice", False),
        (0o701, "alice", False),
        (0o700, "bob", False),
    ],
)
def test_a_configured_index_directory(mode: int, owner: str, used: bool) -> None:
    """Only one that nobody else uses: the index of a shared tree is Dovecot's, for everybody."""
    with world_in_tmp(INDEX_PATH) as host:
        index = host.home("alice") / "index"
        index.mkdir()
        os.chown(index, UIDS[owner], UIDS[owner])
        index.chmod(mode)
        got = places(host, "alice", "Work")
        assert (got[0] == str(index / ".Work")) == used
        assert len(got) == 1 + used


@pytest.mark.parametrize(
    ("setting", "want"),
    [
        ("sharefs_index_path =", []),
        ("namespace inbox {\n  mail_index_path = MEMORY\n}", []),
        ("sharefs_index_path = /var/cache/mail", ["/var/cache/mail"]),
    ],
)
def test_other_settings(setting: str, want: list[str]) -> None:
    with world_in_tmp(setting + "\n") as host:
        assert [str(Path(place).parent) for place in places(host, "alice", "INBOX")] == want


def indexed(account: Account, name: str) -> tuple[int, str]:
    """How many messages of a mailbox its index knows, without indexing any, and where."""
    with (
        closing(account.open_mailbox(name)) as mailbox,
        closing(MailboxIndex.open(mailbox, account.index_places(name))) as index,
    ):
        status = index.status()
        return status.indexed, str(status.path)


def build(account: Account, name: str) -> None:
    for _ in range(3):
        append(account, name)
    with (
        closing(account.open_mailbox(name)) as mailbox,
        closing(MailboxIndex.open(mailbox, account.index_places(name))) as index,
    ):
        assert index.catch_up()


@pytest.mark.parametrize("setting", ["", INDEX_PATH], ids=["by-hash", "configured"])
def test_an_index_goes_along_when_its_mailbox_is_renamed(setting: str) -> None:
    with world_in_tmp(setting) as host:
        if setting:
            directory = host.home("alice") / "index"
            directory.mkdir()
            os.chown(directory, UIDS["alice"], UIDS["alice"])
            directory.chmod(0o700)

        def rename(account: Account) -> list[tuple[int, str]]:
            for name in ("Old", "Old/Sub", "New", "Oldest"):
                account.create(name)
                build(account, name)
            account.delete("New")  # its index stays behind, and is nobody's
            account.rename("Old", "New")
            return [indexed(account, name) for name in ("New", "New/Sub", "Oldest")]

        found = host.as_user("alice", rename)
        assert [count for count, _ in found] == [3, 3, 3]
        assert len({path for _, path in found}) == 3


def test_the_index_of_a_link_stays_with_the_mailbox() -> None:
    with world_in_tmp() as host:

        def rename(account: Account) -> tuple[int, str]:
            account.create("Work")
            build(account, "Work")
            host.maildir("alice", ".Link").symlink_to(host.maildir("alice", ".Work"))
            account.rename("Link", "Elsewhere")
            return indexed(account, "Work")

        assert host.as_user("alice", rename)[0] == 3


def test_private_seen_goes_along_too() -> None:
    with world_in_tmp() as host:

        def share(account: Account) -> None:
            for name in ("Team", "Team/Box"):
                account.create(name)
                account.set_acl(
                    name, Identifier(Kind.USER, "bob"), Mode.REPLACE, Rights.parse("lrswkxi")
                )
            for _ in range(3):
                append(account, "Team/Box")

        def rename(account: Account) -> list[int]:
            with closing(account.open_mailbox("shared/alice/Team/Box")) as mailbox:
                mailbox.store_flags([2], FlagChange(FlagOp.ADD, FlagSet(System.SEEN)))
            account.rename("shared/alice/Team/Box", "shared/alice/Team/Other")
            with closing(account.open_mailbox("shared/alice/Team/Other")) as mailbox:
                return list(mailbox.unseen())

        host.as_user("alice", share)
        assert host.as_user("bob", rename) == [1, 3]
