"""Mail on an overlay: what was there before is copied when it is first changed."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from sharefs.audit.mounts import mount_of, mounts_of_host
from sharefs.errors import Code, SharingError
from tests.account.world import World, append, messages, world_in_tmp
from tests.audit.auditing import audited
from tests.audit.random_trees import private_mounts
from tests.support.become import run_as

pytestmark = [pytest.mark.superuser, pytest.mark.slow]


def lay_over(home: Path, layers: Path) -> None:
    """In this process's own mount namespace, so that it goes with the process."""
    private_mounts()
    layers.mkdir()
    # An overlay's upper layer may not itself be on one, as the tests' directory may be.
    subprocess.run(["mount", "-t", "tmpfs", "layers", str(layers)], check=True)
    upper, work = layers / "upper", layers / "work"
    for path in (upper, work):
        path.mkdir()
    status = home.stat()
    os.chown(upper, status.st_uid, status.st_gid)
    upper.chmod(status.st_mode & 0o7777)
    options = f"lowerdir={home},upperdir={upper},workdir={work},redirect_dir=off"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(home)], check=True)


def outcome(host: World) -> tuple[str, Sequence[int], set[str], str]:
    """Code of the refused rename, messages of what was renamed, rules of the audit, and the line
    that explain has for such a mount."""
    home = host.home("alice")
    lay_over(home, host.top / "layers")

    def use(account: object) -> str:
        alice = host.account("alice")
        alice.create("New")
        append(alice, "Old")
        append(alice, "New")
        alice.rename("New", "Newer")
        try:
            alice.rename("Old", "Older")
        except SharingError as refusal:
            return refusal.code.value
        return ""

    refused = host.as_user("alice", use)
    read = host.as_user(
        "alice", lambda account: [*messages(account, "Old"), *messages(account, "Newer")]
    )
    mount = mount_of(str(home), mounts_of_host())
    rules = {finding.rule for finding in audited(host)}
    return refused, read, rules, "" if mount is None else mount.describe()


def test_mail_on_an_overlay_works_but_for_renaming_old_mailboxes() -> None:
    with world_in_tmp() as host:
        host.as_user("alice", lambda account: account.create("Old"))
        host.as_user("alice", lambda account: append(account, "Old"))
        refused, read, rules, told = run_as(0, 0, (), lambda: outcome(host))
    assert refused == Code.UNAVAILABLE
    assert read == [1, 2, 1], "nothing is lost by the refusal"
    assert rules == {"mount-overlay"}
    assert "a directory from below cannot be renamed" in told
