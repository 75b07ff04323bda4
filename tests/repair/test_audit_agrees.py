"""After apply the audit no longer finds what the changes were to cure."""

import json
from pathlib import Path

import pytest

from sharefs.repair.strategies import Finding
from tests.account.world import World
from tests.cli.command import Shell
from tests.repair.test_plan_commands import in_team, plan_and_apply, plans, shared, undo

pytestmark = pytest.mark.superuser

__all__ = ["plans", "shared"]


def found(shell: Shell) -> set[str]:
    done = shell.run("audit --format json")
    return {one["id"] for one in json.loads(done.out)["findings"]}


@pytest.mark.parametrize("strategy", ["posix-acl", "groups"])
def test_the_audit_agrees(shared: World, shell: Shell, plans: Path, strategy: str) -> None:
    in_team(shared, "bob", "carol")
    before = found(shell)
    assert Finding.DENIED in before
    plan = plan_and_apply(shell, plans, f"-u alice {strategy}")
    cured = {json.loads(line).get("finding") for line in plan.read_text().splitlines()}
    assert Finding.DENIED in cured
    assert not found(shell) & {Finding.DENIED, Finding.SETGID}
    undo(shell, plan)
    assert found(shell) == before
