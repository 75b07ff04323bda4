"""After apply the audit no longer finds what the changes were to cure."""

import json
import subprocess
from pathlib import Path

import pytest

from sharefs.repair.strategies import Finding
from tests.account.world import World
from tests.cli.command import Shell
from tests.repair.test_plan_commands import in_team, listed, plan_and_apply, plans, shared, undo

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
