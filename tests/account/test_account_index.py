"""Where a viewer may keep an index of a mailbox."""

import os
from pathlib import Path

import pytest

from tests.account.world import UIDS, World, world_in_tmp

pytestmark = pytest.mark.superuser

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
