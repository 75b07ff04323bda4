"""A daemon that is killed in the middle of a copy: a message is whole in one place, or in both."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from sharefs.fsops import temp_name
from sharefs.mount.caller import Caller
from sharefs.mount.copying import OLD, TEMPORARY, remove_old_copies
from sharefs.mount.handles import Handle
from sharefs.mount.mirror import Mirror
from sharefs.mount.nodes import ROOT
from sharefs.mount.waiting import Pausing
from tests.account.world import SHARED_GID, UIDS
from tests.mount.test_mount_control import outcome
from tests.support.become import Identity
from tests.support.mount import mounted

pytestmark = [pytest.mark.superuser, pytest.mark.fuse]

ALICE: Final = Identity(UIDS["alice"], UIDS["alice"], (SHARED_GID,))
SIZE: Final = 48 << 20  # octets; as long as possible below copying.COPY_MAX
ROUNDS: Final = 6


@pytest.mark.parametrize("deed", [os.rename, os.link], ids=["rename", "link"])
def test_a_copy_is_there_or_not(open_tmp: Path, deed: Callable[[Path, Path], None]) -> None:
    source = open_tmp / "source"
    old, new = two_mailboxes(source)
    content = random.Random(1).randbytes(1 << 16) * (SIZE >> 16)
    pick, cut = random.Random(2), 0
    for _ in range(ROUNDS):
        for path in source.glob("*/*"):
            path.unlink()
        old.write_bytes(content)
        os.chown(old, ALICE.uid, ALICE.gid)
        old.chmod(0o600)
        with mounted(open_tmp, ["--mirror", source]) as mount:
            mount.died = True
            killer = threading.Timer(
                pick.uniform(0.005, 0.06), mount.process.send_signal, [signal.SIGKILL]
            )
            killer.start()
            shown = (mount.top / "own" / "message", mount.top / "team" / "message")
            answer = ALICE.run(outcome, lambda: deed(*shown))  # noqa: B023  # run at once
            killer.join()
            mount.process.wait(10)
        cut += answer != "done"
        assert not [name for name in os.listdir(source / "team") if name.startswith(TEMPORARY)]
        there = [path for path in (old, new) if path.exists()]
        assert there
        for path in there:
            assert path.read_bytes() == content
        if new.exists():
            status = new.stat()
            assert (status.st_mode & 0o7777, status.st_gid) == (0o660, SHARED_GID)
        if deed is os.link:
            assert old.exists()
        if answer == "done":
            assert new.exists()
    assert cut, "never in the middle: nothing was tested"


def two_mailboxes(source: Path) -> tuple[Path, Path]:
    """A message in one of alice's own, and where it is to go: to her team's."""
    for path, gid, mode in (
        (source, ALICE.gid, 0o700),
        (source / "own", ALICE.gid, 0o700),
        (source / "team", SHARED_GID, 0o2770),
    ):
        path.mkdir()
        os.chown(path, ALICE.uid, gid)
        path.chmod(mode)
    old = source / "own" / "message"
    old.write_bytes(b"text")
    os.chown(old, ALICE.uid, ALICE.gid)
    old.chmod(0o600)
    return old, source / "team" / "message"


@pytest.mark.parametrize("replaced", [False, True], ids=["new", "replaced"])
@pytest.mark.parametrize("deed", [os.rename, os.link], ids=["rename", "link"])
def test_copies_where_every_file_has_a_name(
    open_tmp: Path, deed: Callable[[Path, Path], None], replaced: bool
) -> None:
    """A mirror of a mirror: FUSE as we speak it has no O_TMPFILE."""
    source, below = open_tmp / "source", open_tmp / "below"
    below.mkdir()
    old, new = two_mailboxes(source)
    with mounted(below, ["--mirror", source]) as first:
        with pytest.raises(OSError, match="not supported"):
            os.close(os.open(first.top / "team", os.O_TMPFILE | os.O_RDWR))
        with mounted(open_tmp, ["--mirror", first.top]) as second:
            shown = second.top / "own" / "message", second.top / "team" / "message"
            if replaced:
                ALICE.run(shown[1].write_bytes, b"before")
            want = "EEXIST" if replaced and deed is os.link else "done"
            assert ALICE.run(outcome, lambda: deed(*shown)) == want
    assert os.listdir(source / "team") == ["message"]
    assert new.read_bytes() == (b"before" if want == "EEXIST" else b"text")
    assert old.exists() == (deed is os.link)
    status = new.stat()
    assert (status.st_mode & 0o7777, status.st_gid) == (0o660, SHARED_GID)


def test_what_a_killed_daemon_left_is_removed_when_it_is_old(open_tmp: Path) -> None:
    """Only files, only names that a daemon of this host gives, only after an hour."""
    ours = temp_name(TEMPORARY)
    foreign = ours.replace(TEMPORARY, TEMPORARY + "another.")
    keep = {foreign, TEMPORARY + "notes", "message", temp_name(".temp."), ours + "0"}
    for name in {ours, *keep}:
        (open_tmp / name).touch()
    directory = temp_name(TEMPORARY)
    (open_tmp / directory).mkdir()
    fd = os.open(open_tmp, os.O_RDONLY)
    try:
        remove_old_copies(fd, os.listdir(fd), time.time() + OLD - 60)
        assert (open_tmp / ours).exists()
        remove_old_copies(fd, os.listdir(fd), time.time() + OLD + 60)
    finally:
        os.close(fd)
    assert set(os.listdir(open_tmp)) == {*keep, directory}


@pytest.mark.parametrize("later", [False, True], ids=["at once", "an hour later"])
def test_listing_through_the_mount_removes_it(
    open_tmp: Path, monkeypatch: pytest.MonkeyPatch, later: bool
) -> None:
    left = open_tmp / temp_name(TEMPORARY)
    left.touch()
    now = time.time() + (2 * OLD if later else 0)
    monkeypatch.setattr("time.time", lambda: now)
    tree = Mirror(os.open(open_tmp, os.O_RDONLY), Pausing())
    fd = os.open(open_tmp, os.O_RDONLY)
    try:
        tree.names(Handle(fd, tree.table[ROOT], Caller(0, 0), 0))
    finally:
        os.close(fd)
        tree.close()
    assert left.exists() is not later
