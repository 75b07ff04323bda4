"""After apply the audit no longer finds what the changes were to cure."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from sharefs.audit.facts import Account
from sharefs.permissions.access import Credentials
from sharefs.repair.strategies import Finding
from tests.account.world import UIDS, World, append, messages
from tests.cli.command import Shell
from tests.repair.test_plan_commands import (
    TEAM,
    in_team,
    kernel,
    listed,
    plan_and_apply,
    plans,
    shared,
    undo,
)
from tests.repair.trees import picture

pytestmark = pytest.mark.superuser

__all__ = ["plans", "shared"]


def found(shell: Shell) -> set[str]:
    done = shell.run("audit --format json")
    return {one["id"] for one in json.loads(done.out)["findings"]}


def test_what_list_does_not_show_is_found(shared: World, shell: Shell, plans: Path) -> None:
    """A root that may only be passed, and a list cache that only its owner may read."""
    plan_and_apply(shell, plans, "-u alice posix-acl")
    assert Finding.DENIED not in found(shell)
    root = shared.maildir("alice")
    subprocess.run(["setfacl", "-m", "u:61002:x", root], check=True)
    done = shell.run("audit --format json")
    (finding,) = [one for one in json.loads(done.out)["findings"] if one["id"] == Finding.DENIED]
    assert finding["mailbox"] == "Work"
    assert "LIST does not show it" in str(finding["evidence"])
    assert "lacks r for ACL user" in str(finding["evidence"])
    assert listed(shared, "bob") == []
    explained = shell.run("explain bob shared/alice/Work list")
    assert explained.status == 1
    assert "nor may the mail root be listed" in explained.out


@pytest.mark.parametrize("strategy", ["posix-acl", "groups"])
def test_the_audit_agrees(shared: World, shell: Shell, plans: Path, strategy: str) -> None:
    in_team(shared, "bob", "carol", "dave")
    before = found(shell)
    assert Finding.DENIED in before
    plan = plan_and_apply(shell, plans, f"-u alice {strategy}")
    cured = {json.loads(line).get("finding") for line in plan.read_text().splitlines()}
    assert Finding.DENIED in cured
    assert not found(shell) & {Finding.DENIED, Finding.SETGID}
    undo(shell, plan)
    assert found(shell) == before


GRAY = Account("gray", Credentials(61999, 61999, frozenset({61999, TEAM})))


@pytest.fixture(params=["dave", ""], ids=["a-mail-user-too", "a-login-account-alone"])
def grouped(
    request: pytest.FixtureRequest, shared: World, monkeypatch: pytest.MonkeyPatch
) -> World:
    """All of alice's mail belongs to a group with the login account gray in it, and maybe dave,
    and lets the group do everything: what a home in a common group is like."""
    in_team(shared, "alice", request.param)
    shells = [
        Account(name, Credentials(uid, uid, frozenset({uid, *([TEAM] * (name == request.param))})))
        for name, uid in UIDS.items()
    ]
    home = shared.home("alice")
    for path in (home, *home.rglob("*")):
        os.chown(path, -1, TEAM, follow_symlinks=False)
        path.chmod(0o2770 if path.is_dir() else 0o660)
    monkeypatch.setattr("sharefs.cli.plan.login_accounts", lambda: [GRAY])
    monkeypatch.setattr("sharefs.audit.audit.login_accounts", lambda: [GRAY, *shells])
    return shared


def test_groups_of_the_files_get_no_more_than_the_acl_says(
    grouped: World, shell: Shell, plans: Path
) -> None:
    leaks = {Finding.LEAK, "readers-beyond-sharees"}
    assert leaks & found(shell)
    before = picture(grouped.top)
    plan = plan_and_apply(shell, plans, "-u alice posix-acl")
    assert not found(shell) & {*leaks, Finding.DENIED, Finding.SETGID, "owner-locked-out"}
    work = grouped.maildir("alice", ".Work")
    assert not kernel(grouped, "dave", work / "cur", os.R_OK)
    assert kernel(grouped, "dave", grouped.maildir("alice", ".Team", "cur"), os.W_OK)
    assert shell.run("plan -u alice posix-acl").out == "", "a plan leaves nothing to plan"
    undo(shell, plan)
    assert picture(grouped.top) == before


def test_with_groups_what_is_unshared_is_nobody_elses(
    grouped: World, shell: Shell, plans: Path
) -> None:
    before = picture(grouped.top)
    told = shell.run(f"plan -u alice groups --group {TEAM}").err
    fits = TEAM in grouped.user("dave").gids  # else the group is not taken at all
    assert ("lets gray in as well, to whom the ACL of Team gives nothing" in told) == fits
    plan = plan_and_apply(shell, plans, "-u alice groups")
    for name in (".Private", "cur", "new"):
        box = grouped.maildir("alice", name)
        assert not kernel(grouped, "dave", box, os.R_OK)
        assert kernel(grouped, "alice", box, os.R_OK | os.W_OK)
    assert kernel(grouped, "dave", grouped.maildir("alice", ".Team", "cur"), os.W_OK)
    assert shell.run("plan -u alice groups").out == "", "a plan leaves nothing to plan"
    undo(shell, plan)
    assert picture(grouped.top) == before


def test_what_is_made_later_is_the_owners_and_the_sharees(
    grouped: World, shell: Shell, plans: Path
) -> None:
    plan_and_apply(shell, plans, "-u alice posix-acl")
    grouped.as_user("carol", lambda a: append(a, "shared/alice/Work"))
    work = grouped.maildir("alice", ".Work")
    made = [path for path in work.glob("*/*") if path.is_file()]
    assert {path.stat().st_uid for path in made} == {UIDS["alice"], UIDS["carol"]}
    for path in made:
        assert kernel(grouped, "alice", path, os.R_OK | os.W_OK)
        assert kernel(grouped, "bob", path, os.R_OK)
        assert not kernel(grouped, "dave", path, os.R_OK)
    for name, mailbox in (("alice", "Work"), ("bob", "shared/alice/Work")):
        assert grouped.as_user(name, lambda a, box=mailbox: messages(a, box)) == [1, 2]  # type: ignore[misc]  # a default argument, which no Callable type can tell
    assert not found(shell) & {Finding.LEAK, Finding.DENIED, "owner-locked-out"}


def test_what_a_mount_serves_need_not_be_open_beside_it(
    shared: World, shell: Shell, plans: Path
) -> None:
    """All is closed, and the configuration says how people get in nevertheless."""
    told = "set sharefs_mount_point, so that sharefs audit knows of the mount"
    assert f"sharefs: {shared.config_path}: {told}" in shell.run("plan -u alice mount").err.split(
        "\n"
    )
    plan_and_apply(shell, plans, "-u alice mount")
    assert Finding.DENIED in found(shell)
    mounted = ["-o", f"sharefs_mount_point={shared.top}/mail"]
    got = json.loads(shell.run([*mounted, "audit", "--format", "json"]).out)["findings"]
    names = {one["id"] for one in got}
    assert Finding.DENIED not in names
    assert "mount-not-there" in names, "nothing is mounted there"
    why = shell.run([*mounted, "explain", "bob", "shared/alice/Work"])
    assert why.status == 1
    assert f"{shared.top}/mail: serves what is shared" in why.out
    assert why.out.endswith(
        f"What would allow it:\n  1. go through {shared.top}/mail, where the ACL alone decides\n"
        "     opens: nothing\n"
    )
    shared.maildir("alice", ".Work").chmod(0)
    got = json.loads(shell.run([*mounted, "audit", "--format", "json"]).out)["findings"]
    assert "owner-locked-out" in {one["id"] for one in got}
