"""Accounts of one user know what the last one saw, and nothing that is not so any more."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.mail import make_maildir
from imap.service.accounts import USERS, Accounts
from sharefs.account import Account
from sharefs.config import load
from sharefs.errors import SharingError
from sharefs.identity.lookup import HomeLookup
from sharefs.identity.model import MailUser
from sharefs.rights import ALL, Rights

CONFIG = """
dovecot_config_version = 2.4.0
first_valid_uid = 0
mail_driver = maildir
mail_path = ~/Maildir
acl_driver = vfile
namespace inbox {
  inbox = yes
  separator = /
}
"""


class NoHomes(HomeLookup):
    def home_of(self, name: str) -> Path | None:
        return None

    def exists(self, name: str) -> bool:
        return False


@pytest.fixture
def accounts() -> Accounts:
    return Accounts(load(text=CONFIG), NoHomes())


@pytest.fixture
def alice(tmp_path: Path) -> MailUser:
    for name in ("", ".Work", ".Play"):
        make_maildir(tmp_path / "Maildir" / name, 1, uid=-1, gid=-1)
    return MailUser("alice", 0, 0, tmp_path)


def names(account: Account) -> list[str]:
    return [listed.name for listed in account.list("", ["*"])]


def test_the_next_login_sees_what_is_there(accounts: Accounts, alice: MailUser) -> None:
    first = accounts.open(alice)
    assert names(first) == ["INBOX", "Play", "Work"]
    assert first.rights("Work").rights == ALL
    second = accounts.open(alice)
    assert names(second) == names(first)
    assert alice.home is not None
    root = alice.home / "Maildir"
    (root / ".Work" / "dovecot-acl").write_text("owner lr\n")
    (root / ".Play" / "dovecot-acl").write_text("owner\n")
    for account in (first, second, accounts.open(alice)):
        assert names(account) == ["INBOX", "Work"]
        assert account.rights("Work").rights == Rights("lr")
        with pytest.raises(SharingError):
            account.rights("Play")
    (root / ".Play" / "dovecot-acl").unlink()
    make_maildir(root / ".New", 1, uid=-1, gid=-1)
    for account in (second, first, accounts.open(alice)):
        assert names(account) == ["INBOX", "New", "Play", "Work"]
        assert account.rights("Play").rights == ALL


def test_who_is_not_quite_the_same_shares_nothing(
    accounts: Accounts, alice: MailUser, tmp_path: Path
) -> None:
    assert names(accounts.open(alice)) == ["INBOX", "Play", "Work"]
    (tmp_path / "Maildir" / ".Work" / "dovecot-acl").write_text("user=boss l\n")
    boss = replace(alice, acl_user="boss", master="boss")
    assert accounts.open(boss).rights("Work").rights == Rights("l")
    moved = replace(alice, fields={"mail_path": str(tmp_path / "Other")})
    assert names(accounts.open(moved)) == ["INBOX"]
    assert names(accounts.open(alice)) == ["INBOX", "Play", "Work"]


def test_few_users_are_remembered(accounts: Accounts, alice: MailUser) -> None:
    for number in range(USERS + 5):
        accounts.open(replace(alice, name=f"user{number}", acl_user=""))
    assert len(accounts._last) == USERS
