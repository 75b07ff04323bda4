"""Btrfs subvolumes that are read-only by themselves, as snapshots are, on a mount that is not."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sharefs import fsops
from sharefs.audit.inodes import Inodes
from sharefs.audit.kernel import ask_kernel
from sharefs.audit.names import Names
from sharefs.audit.questions import Question, Verb, World, ask
from sharefs.permissions.access import Class, Credentials, Want
from sharefs.permissions.explain import explain_access
from tests.audit.random_trees import attempt
from tests.support.become import Identity
from tests.support.file_systems import loop_mounted, subvolume

pytestmark = [pytest.mark.superuser, pytest.mark.slow]

ALICE = Credentials(5001, 5001, frozenset())


@pytest.fixture(scope="module")
def snapshot() -> Iterator[Path]:
    """Of alice's home, with cur in it, beside the home."""
    top = Path(tempfile.mkdtemp(prefix="sharefs-subvolumes-"))
    top.chmod(0o755)
    try:
        with loop_mounted("btrfs", top) as point:
            home = subvolume(point / "alice")
            (home / "cur").mkdir()
            for path in (home, home / "cur"):
                os.chown(path, ALICE.uid, ALICE.gid)
            words = ["btrfs", "-q", "subvolume", "snapshot", "-r"]
            subprocess.run([*words, str(home), str(point / "snapshot")], check=True)
            yield point / "snapshot"
    finally:
        shutil.rmtree(top)


@pytest.mark.parametrize("uid", [ALICE.uid, 5002])
def test_nobody_can_write_there(snapshot: Path, uid: int) -> None:
    who = Credentials(uid, uid, frozenset())
    got = explain_access(who, snapshot / "cur", Want.WRITE)
    assert got.refusal is not None
    assert got.refusal.decided_by is Class.READ_ONLY
    with pytest.raises(OSError, match="Read-only file system"):
        Identity(uid, uid).run((snapshot / "cur" / "new").touch)
    assert explain_access(ALICE, snapshot / "cur", Want.READ).allowed
    assert explain_access(ALICE, snapshot.parent / "alice" / "cur", Want.WRITE).allowed


def test_a_walk_keeps_subvolumes_apart(snapshot: Path) -> None:
    inodes, known = Inodes(), dict[int, bool]()
    found = {}
    for path in (snapshot.parent, snapshot.parent / "alice", snapshot, snapshot / "cur"):
        with fsops.directory(path) as fd:
            found[path.name] = inodes.of_fd(fd, str(path), read_only=known)[0].read_only
    assert found == {"btrfs": False, "alice": False, "snapshot": True, "cur": True}


def test_subvolumes_move_where_what_is_in_them_does_not(snapshot: Path) -> None:
    disk = snapshot.parent
    inside = subvolume(disk / "alice" / "inside")
    there = subvolume(disk / "there")
    for path in (disk, inside, there):
        os.chown(path, ALICE.uid, ALICE.gid)
    (disk / "alice" / "plain").mkdir()
    os.chown(disk / "alice" / "plain", ALICE.uid, ALICE.gid)
    who = Identity(ALICE.uid, ALICE.gid)
    for path, want in ((inside, True), (disk / "alice" / "plain", False)):
        question = Question(Verb.RENAME, str(path), "rename", str(there / path.name))
        told = ask(question, ALICE, World())
        assert told.allowed is want is who.run(attempt, question, 0)
        assert ("different subvolumes" in told.obstacle) is not want


def test_the_command_that_is_named_opens_it(snapshot: Path) -> None:
    question = Question(Verb.CREATE_IN, str(snapshot / "cur"), "write")
    answer = ask_kernel([question], ALICE, names=Names(), world=World())
    (change,) = answer.changes
    assert change.command == f"btrfs property set -ts {snapshot} ro false"
    subprocess.run(change.command, shell=True, check=True)
    Identity(ALICE.uid, ALICE.gid).run((snapshot / "cur" / "new").touch)
