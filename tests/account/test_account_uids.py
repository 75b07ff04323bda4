"""Accounts under the users' own uids: the ACL allows, and the kernel has its say as well."""

import contextlib
import logging
import os
import stat
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from sharefs.account import Account
from sharefs.acl import Mode
from sharefs.errors import Code, SharingError
from sharefs.flags import FlagChange, FlagOp, FlagSet, System
from sharefs.identifiers import user
from sharefs.rights import ALL, Rights
from tests.account.world import (
    SHARED_GID,
    UIDS,
    World,
    append,
    messages,
    names,
    picture_of,
    world_in_tmp,
)

pytestmark = pytest.mark.superuser

WORK = "shared/alice/Work"
SEEN = FlagChange(FlagOp.ADD, FlagSet(System.SEEN))


@pytest.fixture
def shared() -> Iterator[World]:
    """alice's Work with one message, shared with bob and dave; dave lacks the Unix group."""
    with world_in_tmp(outsiders=frozenset({"dave"})) as world:
        world.as_user("alice", lambda account: prepare(account, "bob", "dave"))
        yield world


def prepare(account: Account, *whom: str) -> None:
    account.create("Work")
    append(account, "Work")
    for name in whom:
        account.set_acl("Work", user(name), Mode.REPLACE, ALL)


def seen(account: Account, name: str) -> list[bool]:
    with contextlib.closing(account.open_mailbox(name)) as mailbox:
        mailbox.sync()
        return [bool(mailbox.flags_of(uid).system & System.SEEN) for uid in mailbox.uids()]


def mark_seen(account: Account, name: str) -> list[int]:
    with contextlib.closing(account.open_mailbox(name)) as mailbox:
        mailbox.sync()
        return mailbox.store_flags(mailbox.uids(), SEEN)


def test_seen_is_each_viewers_own(shared: World) -> None:
    assert shared.as_user("bob", lambda account: mark_seen(account, WORK)) == [1]
    assert shared.as_user("bob", lambda account: seen(account, WORK)) == [True]
    assert shared.as_user("alice", lambda account: seen(account, "Work")) == [False]
    private = shared.home("bob") / "private" / "alice" / ".Work"
    assert private.is_dir()
    assert {path.stat().st_uid for path in private.iterdir()} == {UIDS["bob"]}


def test_private_seen_does_not_make_the_viewers_mail_root_its_own_way() -> None:
    """shared-mailboxes.txt keeps it in ~/Maildir/public; the rules for homes hold all the same."""
    extra = "namespace public {\n mail_index_private_path = ~/Maildir/public\n}\n"
    with world_in_tmp(extra) as world:
        world.make_public(".info", "anyone lrs\n")

        def look(account: Account) -> None:
            with contextlib.closing(account.open_mailbox("Public/info")) as mailbox:
                mailbox.sync()

        world.as_user("bob", look)
        root = world.maildir("bob")
        assert stat.S_IMODE(root.stat().st_mode) == 0o2770
        assert root.stat().st_gid == SHARED_GID


def test_what_bob_puts_in_alice_can_read(shared: World) -> None:
    assert shared.as_user("bob", lambda account: append(account, WORK)) == [2]
    assert shared.as_user("alice", lambda account: messages(account, "Work")) == [1, 2]
    files = list(shared.maildir("alice", ".Work").glob("[cn][ue][rw]/*"))
    assert sorted(path.stat().st_uid for path in files) == sorted([UIDS["alice"], UIDS["bob"]])
    assert {path.stat().st_gid for path in files} == {SHARED_GID}


def test_whom_the_kernel_keeps_out_learns_nothing(shared: World) -> None:
    """The ACL names dave, but his process may not enter alice's home."""

    def attempt(account: Account) -> tuple[str, str, list[str], str]:
        stream = _Lines()
        logging.getLogger("sharefs").addHandler(stream)
        with pytest.raises(SharingError) as there:
            account.open_mailbox(WORK)
        with pytest.raises(SharingError) as missing:
            account.open_mailbox("shared/alice/Nope")
        assert there.value.code is missing.value.code
        same = missing.value.detail.replace("Nope", "Work")
        return there.value.detail, same, names(account, "shared/*"), stream.text

    detail, same, listed, log = shared.as_user("dave", attempt)
    assert detail == same
    assert listed == []
    assert f"{shared.home('alice')} lacks x" in log  # the administrator is told why


class _Lines(logging.Handler):
    text = ""

    @classmethod
    @contextlib.contextmanager
    def of_level(cls, level: int) -> Iterator["_Lines"]:
        stream = cls(level)
        logger = logging.getLogger("sharefs")
        logger.addHandler(stream)
        try:
            yield stream
        finally:
            logger.removeHandler(stream)

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage() + "\n"


def refusal(account: Account, action: str, *names: str) -> tuple[Code, str]:
    with pytest.raises(SharingError) as refused:
        getattr(account, action)(*names)
    return refused.value.code, refused.value.detail


def _refusal_of(action: str, name: str, account: Account) -> tuple[Code, str]:
    return refusal(account, action, name)


def test_a_mailbox_whose_mail_may_not_be_read_is_unavailable(shared: World) -> None:
    cur = shared.maildir("alice", ".Work", "cur")
    cur.chmod(0o700)
    code, detail = shared.as_user("bob", lambda account: refusal(account, "open_mailbox", WORK))
    assert code is Code.UNAVAILABLE
    assert f"{cur} lacks" in detail
    assert "remedy" in detail


def test_a_public_root_closed_on_purpose_refuses_without_alarm(shared: World) -> None:
    """Seeds: "You can remove write permissions on purpose from public namespace root"."""
    (shared.public / "dovecot-acl").write_text("user=bob lrkx\n")
    shared.make_public(".info", "user=bob lrkxa\n")
    shared.public.chmod(0o2750)
    before = picture_of(shared.public)

    def attempt(account: Account) -> list[tuple[Code, str]]:
        with _Lines.of_level(logging.WARNING) as stream:
            got = [
                refusal(account, "create", "Public/new"),
                refusal(account, "delete", "Public/info"),
                refusal(account, "rename", "Public/info", "Public/news"),
            ]
        return [*got, (Code.CANNOT, stream.text)]

    *got, (_, alarms) = shared.as_user("bob", attempt)
    assert alarms == "", "nothing for the administrator to do"
    for code, detail in got:
        assert code is Code.NO_PERMISSION
        assert "the file system does not let this user do that" in detail
        assert f"{shared.public} lacks w for group" in detail
        assert "remedy" not in detail
    assert picture_of(shared.public) == before


def test_another_users_root_that_may_not_be_written_is_a_mistake(shared: World) -> None:
    root = shared.maildir("alice")
    root.chmod(0o2750)
    before = picture_of(root)
    code, detail = shared.as_user("bob", lambda account: refusal(account, "create", f"{WORK}/New"))
    assert code is Code.UNAVAILABLE
    assert f"{root} lacks w for group" in detail
    assert "remedy: chmod g+w" in detail
    assert picture_of(root) == before


def test_where_the_kernel_allows_no_writing_only_ones_own_seen_changes(shared: World) -> None:
    for path in shared.maildir("alice", ".Work").iterdir():
        if path.is_dir():
            path.chmod(0o2750)
    before = picture_of(shared.maildir("alice"))
    assert shared.as_user("bob", lambda account: mark_seen(account, WORK)) == [1]
    assert shared.as_user("bob", lambda account: seen(account, WORK)) == [True]
    code, detail = shared.as_user("bob", lambda account: refusal(account, "writable_target", WORK))
    assert code is Code.UNAVAILABLE
    assert "lacks w" in detail
    assert picture_of(shared.maildir("alice")) == before


def test_deleting_and_renaming_under_another_uid(shared: World) -> None:
    shared.as_user("bob", lambda account: account.create(f"{WORK}/Sub"))
    assert shared.maildir("alice", ".Work.Sub").stat().st_uid == UIDS["bob"]
    assert shared.as_user("alice", lambda account: "Work/Sub" in names(account))
    shared.as_user("alice", lambda account: account.rename("Work/Sub", "Work/Other"))
    shared.as_user("bob", lambda account: account.delete(f"{WORK}/Other"))
    assert not shared.maildir("alice", ".Work.Other").exists()


def test_rights_do_not_help_where_the_group_is_missing(shared: World) -> None:
    """Nothing that dave does reaches alice's mail, whatever the ACL says."""
    before = picture_of(shared.home("alice"))

    def attempts(account: Account) -> None:
        for action in (
            lambda: account.writable_target(WORK),
            lambda: account.delete(WORK),
            lambda: account.rename(WORK, "shared/alice/Mine"),
            lambda: account.set_acl(WORK, user("dave"), Mode.ADD, Rights.parse("lr")),
        ):
            with pytest.raises(SharingError):
                action()

    shared.as_user("dave", attempts)
    assert picture_of(shared.home("alice")) == before


def test_a_symlink_share_under_both_uids(shared: World) -> None:
    """Seeds, "Mailbox Sharing with Symlinks", with the true owner's ACL (pain 38)."""
    shared.as_user("bob", lambda account: account.create("Own"))
    os.symlink(shared.maildir("alice", ".Work"), shared.maildir("bob", ".fromalice.Work"))
    assert shared.as_user("bob", lambda account: messages(account, "fromalice/Work")) == [1]
    shared.as_user("alice", lambda account: account.delete_acl("Work", user("bob")))
    code, _ = shared.as_user(
        "bob", lambda account: refusal(account, "open_mailbox", "fromalice/Work")
    )
    assert code is Code.NONEXISTENT


def test_a_home_that_is_closed_to_its_own_user(shared: World) -> None:
    """Nothing of his own is there, and what others share still is; opening INBOX says why not."""
    home = shared.home("bob")
    os.chown(home, 0, 0)
    home.chmod(0o700)
    assert shared.as_user("bob", names) == ["shared!", "shared/alice!", WORK]
    for action in ("open_mailbox", "create"):
        name = "INBOX" if action == "open_mailbox" else "New"
        attempt = partial(_refusal_of, action, name)
        code, detail = shared.as_user("bob", attempt)
        assert code is Code.UNAVAILABLE
        assert f"{home} lacks" in detail
    assert not list(home.iterdir())


def log_of(action: Callable[[Account], object], account: Account) -> list[str]:
    """What the action logs, refused or not."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("sharefs").addHandler(handler)
    with contextlib.suppress(SharingError):
        action(account)
    return lines


def test_an_acl_file_out_of_reach_is_told_once(shared: World) -> None:
    """The mailbox can be entered, its ACL file not read: to bob it does not exist, and the log
    says why."""
    (shared.maildir("alice", ".Work") / "dovecot-acl").chmod(0o600)

    def twice(account: Account) -> object:
        for _ in range(2):
            with contextlib.suppress(SharingError):
                account.open_mailbox(WORK)
        return account.rights(WORK)

    told = [
        line for line in shared.as_user("bob", partial(log_of, twice)) if "out of reach" in line
    ]
    assert len(told) == 1
    assert "dovecot-acl lacks r for group" in told[0]


def test_a_refused_group_is_told_as_such(shared: World) -> None:
    """Not as a path that does not exist, which tells nobody what to mend."""
    root = shared.maildir("alice")
    os.chown(root, UIDS["alice"], UIDS["carol"])
    root.chmod(0o770)

    def refusal(account: Account) -> str:
        with pytest.raises(SharingError) as refused:
            account.create("Other")
        return str(refused.value)

    told = shared.as_user("alice", refusal)
    assert f"cannot give group {UIDS['carol']}" in told
    assert f"chmod g+s {root}" in told
