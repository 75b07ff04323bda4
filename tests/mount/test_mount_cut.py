"""A daemon that is killed in the middle of a copy: a message is whole in one place, or in both."""

import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

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
    for path, gid, mode in (
        (source, ALICE.gid, 0o700),
        (source / "own", ALICE.gid, 0o700),
        (source / "team", SHARED_GID, 0o2770),
    ):
        path.mkdir()
        os.chown(path, ALICE.uid, gid)
        path.chmod(mode)
    content = random.Random(1).randbytes(1 << 16) * (SIZE >> 16)
    old, new = source / "own" / "message", source / "team" / "message"
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
