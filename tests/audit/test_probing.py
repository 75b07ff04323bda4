"""What file systems are like: by options, by asking, by trying; each said once."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sharefs.audit.audit import Audit
from sharefs.audit.facts import HostFacts
from sharefs.audit.findings import Finding
from sharefs.audit.inodes import Inodes
from sharefs.audit.mounts import Mount
from sharefs.audit.output import in_order
from sharefs.audit.probing import Probed, probe, refine
from sharefs.audit.rules import judge_host
from sharefs.audit.scan import Scanner
from sharefs.names import Layout
from tests.account.world import UIDS, World, world_in_tmp
from tests.audit.auditing import audited, rules, share
from tests.audit.random_trees import (
    MS_BIND,
    MS_NOSUID,
    MS_RDONLY,
    MS_REMOUNT,
    mount,
    private_mounts,
)
from tests.support.become import run_as

pytestmark = [pytest.mark.superuser, pytest.mark.slow]

GOOD = Probed(
    "", hands_down=True, group_of_directory=False, keeps_owners=True, keeps_acls=True, links=True
)


@pytest.fixture
def top() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="sharefs-probing-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def mounted(top: Path, kind: str, options: str) -> Path:
    """In a mount namespace of one's own.  kind: what mkfs.KIND makes, or needs no making."""
    point, image = top / "point", top / "image"
    point.mkdir(exist_ok=True)
    source, words = "none", ["mount", "-t", kind]
    if kind in ("ext4", "vfat"):
        with image.open("wb") as file:
            file.truncate(8 << 20)
        subprocess.run([f"/usr/sbin/mkfs.{kind}", str(image)], check=True, capture_output=True)
        source, options = str(image), f"loop,{options}"
    subprocess.run([*words, "-o", options, source, str(point)], check=True)
    return point


def tried(top: Path, kind: str, options: str) -> tuple[Probed, list[str]]:
    private_mounts()
    point = mounted(top, kind, options)
    before = os.listdir(point)
    found = probe(point)
    left = [name for name in os.listdir(point) if name not in before]
    return replace(found, directory=""), left


@pytest.mark.parametrize(
    ("kind", "options", "want"),
    [
        ("tmpfs", "rw", GOOD),
        ("tmpfs", "nosuid", GOOD),
        ("ramfs", "rw", replace(GOOD, keeps_acls=False)),
        ("ext4", "rw", GOOD),
        ("ext4", "grpid", replace(GOOD, group_of_directory=True, said_grpid=True)),
    ],
)
def test_what_file_systems_do(top: Path, kind: str, options: str, want: Probed) -> None:
    got, left = run_as(0, 0, (), lambda: tried(top, kind, options))
    assert got == replace(want, point=str(top / "point"))
    assert left == []


def test_one_that_cannot_be_written_to(top: Path) -> None:
    got, left = run_as(0, 0, (), lambda: tried(top, "tmpfs", "ro"))
    assert "Read-only file system" in got.flaw
    assert left == []


def test_who_is_not_root_cannot_try(top: Path) -> None:
    assert "only root" in run_as(5001, 5001, (), lambda: probe(top)).flaw


# --- asked without writing ------------------------------------------------------------------------


def keeps_acls(top: Path, kind: str) -> bool | None:
    """Of a mail root."""
    private_mounts()
    point = mounted(top, kind, "rw")
    (point / "Maildir/cur").mkdir(parents=True)
    inodes = Inodes()
    root, boxes = Scanner(Layout.MAILDIRPP, inodes=inodes).scan(str(point / "Maildir"))
    assert len(list(boxes)) == 1
    assert root.devices == {root.device}
    return inodes.keeps_acls(root.device)


@pytest.mark.parametrize(("kind", "want"), [("tmpfs", True), ("ramfs", False), ("ext4", True)])
def test_acls_are_asked_for(top: Path, kind: str, *, want: bool) -> None:
    assert run_as(0, 0, (), lambda: keeps_acls(top, kind)) is want


def on_mount(host: World, options: int) -> list[Finding]:
    """The homes become a mount of their own with these options."""
    private_mounts()
    homes = host.home("alice").parent
    mount(homes, homes, MS_BIND)
    mount(None, homes, MS_BIND | MS_REMOUNT | options)
    return audited(host)


def test_a_read_only_mount_is_said_once() -> None:
    with world_in_tmp() as host:
        share(host)
        host.as_user("bob", lambda account: account.create("Box"))
        found = run_as(0, 0, (), lambda: on_mount(host, MS_RDONLY))
    assert len([each for each in found if each.rule == "mount-read-only"]) == 1


def test_nosuid_changes_nothing() -> None:
    """The group that directories hand down is no matter of setuid."""
    with world_in_tmp() as host:
        share(host)
        assert run_as(0, 0, (), lambda: on_mount(host, MS_NOSUID)) == []


# --- findings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probed", "rule"),
    [
        (replace(GOOD, hands_down=False), "mount-setgid-ignored"),
        (replace(GOOD, group_of_directory=True), "mount-grpid"),
        (replace(GOOD, keeps_acls=False), "mount-noacl"),
        (replace(GOOD, keeps_owners=False), "mount-no-permissions"),
        (replace(GOOD, links=False), "mount-no-links"),
        (Probed("/x", flaw="no"), "unreadable"),
    ],
)
def test_what_was_tried_is_told(probed: Probed, rule: str) -> None:
    assert rules(list(judge_host(HostFacts(probes=(probed,))))) == {rule}
    assert list(judge_host(HostFacts(probes=(GOOD,)))) == []


def test_what_was_tried_counts_in_predictions() -> None:
    """A root without setgid whose file system hands the group down all the same."""
    plain = Mount(1, "/m", "fuse.x", "x", frozenset({"rw"}))
    grpid = replace(GOOD, point="/m", group_of_directory=True)
    assert refine(plain, [grpid]).group_of_directory
    assert refine(plain, [replace(grpid, point="/n"), GOOD]) == plain
    with world_in_tmp() as host:
        root = host.maildir("alice")
        share(host)
        os.chown(root, UIDS["alice"], UIDS["bob"])
        root.chmod(0o770)
        point = probe(root).point
        told = [replace(grpid, point=point, said_grpid=True)]
        for probes, rule in (([], True), (told, False)):
            run = Audit(host.config, host.users, accounts=[], processes=[], probes=probes)
            assert ("chgrp-will-fail" in rules(in_order(run.run()))) is rule
