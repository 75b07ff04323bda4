"""A power cut while a viewer's own \\Seen changes: it follows mail_fsync as other flags do."""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sharefs.flags import System
from sharefs.store.maildir import MaildirConfig, MaildirStorage
from sharefs.store.private_seen import overlay
from tests.powercut.record import Said, parse, recording
from tests.powercut.replay import History, Model
from tests.powercut.test_powercut import tree_of

pytestmark = [pytest.mark.superuser, pytest.mark.slow]

STEPS = (b"one", b"two", b"three")
# What he has seen after so many steps; the third adds message 4.
AFTER = (set[int](), {1, 2}, {1}, {1, 4})


def seen_in(top: Path) -> set[int]:
    storage = MaildirStorage(MaildirConfig(top / "Maildir"))
    shared = storage.open(("INBOX",))
    with contextlib.closing(overlay(shared, top / "private" / "box", public=False)) as mailbox:
        mailbox.sync()
        return {uid for uid in mailbox.uids() if mailbox.flags_of(uid).system & System.SEEN}


def record(top: Path, log: Path, fsync: str) -> tuple[History, list[int]]:
    """The calls, and where the steps were told."""
    for folder in ("cur", "new", "tmp"):
        (top / "Maildir" / folder).mkdir(parents=True)
    for number in range(3):
        (top / "Maildir" / "cur" / f"{1700000000 + number}.x:2,").write_bytes(b"Subject: x\n\n")
    seen_in(top)  # UIDs are given
    shutil.rmtree(top / "private", ignore_errors=True)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        viewer = subprocess.Popen(
            [sys.executable, "-m", "tests.powercut.viewer", top / "Maildir",
             top / "private" / "box", fsync, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
        )  # fmt: skip
        try:
            assert ours.recv(100) == b"ready"
            shutil.rmtree(top / "private", ignore_errors=True)
            tree = tree_of(top)
            with recording(viewer.pid, log):
                ours.send(b"go")
                heard = b""
                while not heard.endswith(STEPS[-1]):
                    octets = ours.recv(100)
                    assert octets
                    heard += octets
            ours.send(b"end")
        finally:
            assert viewer.wait(30) == 0
    ops = parse(log, top)
    said = [at for at, op in enumerate(ops) if isinstance(op, Said) and op.octets in STEPS]
    assert len(said) == len(STEPS)
    return History(top, tree, ops), said


@pytest.mark.parametrize("fsync", ["always", "optimized"])
def test_a_viewers_own_seen_lasts_as_told(tmp_path: Path, fsync: str) -> None:
    top = tmp_path / "was"
    history, said = record(top, tmp_path / "calls", fsync)
    dice = random.Random(7)
    place = tmp_path / "is"
    states = 0
    checked = set()
    for model in Model:
        for state in history.states(model, dice):
            states += 1
            done = sum(state.cut > at for at in said)
            if (state.tree, done) in checked:
                continue
            checked.add((state.tree, done))
            state.write_below(top, place)
            for folder in ("cur", "new", "tmp"):
                (place / "Maildir" / folder).mkdir(parents=True, exist_ok=True)
            for lock in [*place.rglob("*.lock"), *place.rglob("*.newlock")]:
                lock.unlink()
            found = seen_in(place)
            if fsync == "always":
                allowed = [AFTER[done], *AFTER[done + 1 : done + 2]]
                assert found in allowed, (model, state.cut, done)
            elif done == len(STEPS):
                assert found == AFTER[-1], (model, state.cut)  # with the message, and all before
            else:
                assert found <= {1, 2, 4}
            shutil.rmtree(place)
    assert states > len(said)
    assert os.listdir(top / "private" / "box")
