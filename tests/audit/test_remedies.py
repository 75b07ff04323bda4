"""What a finding says to type makes it go away; and no name of a user's gets to the shell."""

import os
import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sharefs.audit.facts import Account
from sharefs.audit.findings import Finding
from sharefs.permissions.access import Credentials
from tests.account.world import SHARED_GID, UIDS, World, world_in_tmp
from tests.audit.auditing import audited, share
from tests.audit.test_rules import SITUATIONS, leak
from tests.cli.command import Shell

pytestmark = [pytest.mark.superuser, pytest.mark.slow]

# A person has to decide, or to know better: the remedy says so in words.
NO_COMMANDS = {
    "mailbox-differs", "hard-link-across-permissions", "acl-malformed", "map-unstorable",
    "map-broken", "link-outside", "foreign-entry",
}  # fmt: skip


def carry_out(shell: Shell, findings: Sequence[Finding], place: Path) -> None:
    """As an administrator would type it."""
    for command in dict.fromkeys(line for finding in findings for line in finding.commands):
        words = shlex.split(command, comments=True)
        if words[0] == "sharefs":
            done = shell.run(words[1:])
            assert done.status in (0, 1), (command, done)  # 1: a plan with notes
        else:
            subprocess.run(command, shell=True, check=True, cwd=place)


@pytest.mark.parametrize(
    ("situation", "rule"),
    [each for each in SITUATIONS if each[1] not in NO_COMMANDS],
    ids=[made.__name__ for made, rule in SITUATIONS if rule not in NO_COMMANDS],
)
def test_after_its_commands_a_finding_is_gone(
    situation: Callable[[World], None],
    rule: str,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with world_in_tmp() as host:
        share(host)
        situation(host)
        found = [each for each in audited(host) if each.rule == rule]
        assert all(each.commands for each in found), found
        carry_out(Shell(host, capfd), found, tmp_path)
        assert [each for each in audited(host) if each.rule == rule] == []


@pytest.mark.parametrize(
    ("situation", "rule"),
    [each for each in SITUATIONS if each[1] in NO_COMMANDS],
    ids=[made.__name__ for made, rule in SITUATIONS if rule in NO_COMMANDS],
)
def test_others_say_it_in_words(situation: Callable[[World], None], rule: str) -> None:
    with world_in_tmp() as host:
        share(host)
        situation(host)
        found = [each for each in audited(host) if each.rule == rule]
        assert found
        assert not [each for each in found if each.commands or not each.remedy]


STRANGER = Account("backup", Credentials(34, 34, frozenset({SHARED_GID})))
SHELL = Account("bob", Credentials(UIDS["bob"], 100, frozenset({SHARED_GID})), ("mail",))


@pytest.mark.parametrize(
    ("account", "rule"),
    [(SHELL, "access-without-acl"), (STRANGER, "readers-beyond-sharees")],
    ids=["access-without-acl", "readers-beyond-sharees"],
)
def test_a_plan_closes_a_leak(
    account: Account,
    rule: str,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with world_in_tmp() as host:
        leak(host)
        found = [each for each in audited(host, accounts=[account]) if each.rule == rule]
        carry_out(Shell(host, capfd), found, tmp_path)
        left = audited(host, accounts=[account])
        assert [each for each in left if each.rule == rule] == []
        assert "acl-without-access" not in {each.rule for each in left}


NAMES = ["'; touch pwned; '", "$(touch pwned)", "-rf", "a b", '"`touch pwned`"', "#x"]


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_are_names(
    name: str, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with world_in_tmp() as host:
        share(host, name)
        box = host.maildir("alice", f".{name}")
        (box / "cur").chmod(0o770)
        (box / "dovecot-uidlist.lock").touch()
        os.utime(box / "dovecot-uidlist.lock", (1, 1))
        (box / "dovecot-acl").write_text("user=zebedee lr\nuser=bob  lr\nanyone l\n")
        rules = {"setgid-lost", "stale-lock", "orphan-identifier", "acl-doubtful",
                 "broad-identifier"}  # fmt: skip
        found = [each for each in audited(host) if each.rule in rules]
        assert {each.rule for each in found} == rules
        carry_out(Shell(host, capfd), found, tmp_path)
        assert {each.rule for each in audited(host)} & rules == set()
        assert not (tmp_path / "pwned").exists()
        assert not (Path.cwd() / "pwned").exists()
