"""What others may do by default ACLs, and where ACLs are ignored: every tool says the same as
the viewer's own account."""

import os
from collections.abc import Iterator

import pytest

from tests.account.world import UIDS, World, append, messages, names, world_in_tmp
from tests.cli.command import Shell
from tests.support.become import Identity

pytestmark = pytest.mark.superuser

CONFIGURED = {
    "defaults-from-INBOX": "acl_defaults_from_inbox = yes\n",
    "acl-ignore": "acl_ignore = yes\n",
}


@pytest.fixture(params=list(CONFIGURED.values()), ids=list(CONFIGURED))
def host(request: pytest.FixtureRequest) -> Iterator[World]:
    with world_in_tmp(request.param, outsiders=frozenset(UIDS)) as made:
        for name in UIDS:
            made.home(name).chmod(0o700)
        yield made


@pytest.fixture
def by_inbox(host: World, shell: Shell) -> bool:
    """Alice's INBOX is bob's to read, and nothing is said of Work.  Whether that says something."""
    shell.ok("mailbox create -u alice Work")
    host.as_user("alice", lambda account: append(account, "Work"))
    (host.top / "db").chmod(0o2777)
    assert shell.run("acl set -u alice INBOX user=bob lrs").status == 0
    return "defaults_from_inbox" in host.config_path.read_text()


def may_read(host: World, user: str) -> bool:
    member = host.user(user)
    folder = host.maildir("alice", ".Work", "cur")
    identity = Identity(member.uid, member.gid, member.gids)
    return identity.run(lambda: os.access(folder, os.R_OK | os.X_OK))


def test_a_plan_opens_what_is_given(host: World, shell: Shell, by_inbox: bool) -> None:
    plan = host.top / "the.plan"
    assert shell.run(f"plan -u alice posix-acl -o {plan}").status in (0, 1)
    assert shell.run(["apply", "--yes", str(plan)]).status == 0
    assert may_read(host, "bob") == by_inbox
    assert not may_read(host, "carol")
    if by_inbox:
        assert host.as_user("bob", lambda a: messages(a, "shared/alice/Work")) == [1]
        assert "shared/alice/Work" in host.as_user("bob", names)
        assert "acl-without-access" not in shell.run("audit -u alice").out
    assert shell.run("plan -u alice posix-acl").out == ""


def test_what_is_granted_to_somebody_is_listed(host: World, shell: Shell, by_inbox: bool) -> None:
    records = shell.ok("share list --to bob --json").records
    told = {(one["mailbox"], one["rights"]) for one in records}
    if by_inbox:
        assert {("INBOX", "lrs"), ("Work", "lrs")} <= told
    else:
        assert told == set()  # whoever reaches a mailbox has all rights: not granted by anybody


def test_what_may_be_seen_may_be_linked(host: World, shell: Shell, by_inbox: bool) -> None:
    del by_inbox  # where ACLs are ignored they hide nothing
    assert shell.run("share link -u bob alice Work from-alice --dry-run").status == 0
    refused = shell.run("share link -u carol alice Work from-alice --dry-run")
    ignored = "acl_ignore = yes" in host.config_path.read_text()
    assert refused.status == (0 if ignored else os.EX_NOPERM)
