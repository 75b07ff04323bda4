"""plan stores: ACL lines, map entries and links, there and back."""

import os
from pathlib import Path

import pytest

from tests.account.world import UIDS, World
from tests.cli.command import Shell
from tests.repair.test_plan_commands import plan_and_apply, plans, undo
from tests.repair.trees import picture

pytestmark = pytest.mark.superuser

__all__ = ["plans"]


def put(host: World, mailbox: str, octets: bytes) -> Path:
    path = host.maildir("alice", mailbox, "dovecot-acl")
    path.write_bytes(octets)
    os.chown(path, UIDS["alice"], -1)
    return path


def test_stores_there_and_back(host: World, shell: Shell, plans: Path) -> None:
    (host.top / "db").chmod(0o2777)
    shell.ok("mailbox create -u alice Work Team")
    shell.ok("share add -u alice Team carol")
    acl = put(host, ".Work", b"# mine\nuser=bob\tlr\n-user=dave\tr\n")
    with host.map_path.open("a") as file:
        file.write("shared/shared-boxes/user/dave/alice\n1\n")
    (host.maildir("alice") / ".dead").symlink_to("/nowhere")
    before = picture(host.top)
    plan = plan_and_apply(shell, plans, "-u alice stores")
    assert acl.read_bytes() == b"# mine\nuser=bob lr\n-user=dave r\n"
    assert acl.stat().st_uid == UIDS["alice"]
    assert b"dave" not in host.map_path.read_bytes()
    assert not os.path.lexists(host.maildir("alice") / ".dead")
    # What the mended line gives goes into the map with the next plan.
    second = shell.run("plan -u alice stores")
    assert second.out.splitlines() == [
        f"map-entry {host.map_path}: (none) -> shared/shared-boxes/user/bob/alice"
    ]
    undo(shell, plan)
    assert picture(host.top) == before


def test_what_only_a_person_can_mend(host: World, shell: Shell) -> None:
    shell.ok("mailbox create -u alice Work")
    path = put(host, ".Work", b"user=bob\tlr\nnonsense\nuser=x\tl\nuser=x\tl\n")
    done = shell.run("plan -u alice stores")
    assert done.status == 1
    assert f"{path}:2:1" in done.err
    assert "stands there twice" in done.err
    assert done.out.splitlines() == [f"acl-line {path}: user=bob\\x09lr -> user=bob lr"]


def test_strangers_acl_files_are_not_read(host: World, shell: Shell) -> None:
    shell.ok("mailbox create -u alice Work")
    path = put(host, ".Work", b"")
    path.unlink()
    path.symlink_to("/etc/shadow")
    done = shell.run("plan -u alice stores")
    assert "/etc/shadow" not in done.out
    path.unlink()
    path.write_bytes(b"user=bob\tlr\n")
    os.chown(path, 0, 0)
    done = shell.run("plan -u alice stores")
    assert "belongs to uid 0" in done.err
    assert done.out == ""
