"""Both servers on one Maildir at once: random work from both sides, one truth at the end."""

import contextlib
import os
import random
import re
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.differential.twins import OURS, THEIRS, Greets, Wire, config_for, users_below
from tests.robust.world import GROUP, UIDS, make_dir, make_maildir
from tests.support.dovecot import Dovecot, private_dovecot
from tests.support.server import Server, private_server

pytestmark = [pytest.mark.dovecot, pytest.mark.superuser, pytest.mark.slow]

SECONDS: Final = float(os.environ.get("SHAREFS_TOGETHER_SECONDS", "5"))
SEED: Final = int(os.environ.get("SHAREFS_TOGETHER_SEED", "1"))
FLAGS: Final = (b"\\Flagged", b"\\Answered", b"\\Draft", b"red", b"blue", b"$Label1")
ACL: Final = "user=bob lrwstipe\nuser=carol lrwstipe\n"
# A viewer's own \Seen is one index file: two servers at once on that are another matter, so each
# viewer has one server.  The owner has both.
WHO: Final = (("ours", "alice"), ("ours", "bob"), ("theirs", "alice"), ("theirs", "carol"))
BOXES: Final = (b"Box", b"Other")

Mail = dict[int, tuple[frozenset[bytes], bytes]]


@pytest.fixture
def together() -> Iterator[tuple[Path, Server, Dovecot]]:
    top = Path(tempfile.mkdtemp(prefix="one-of-sharefs-"))
    top.chmod(0o755)
    try:
        make_dir(top / "db", 0o2770, 0, GROUP)
        make_dir(top / "public", 0o2770, 0, GROUP)
        for user, uid in UIDS.items():
            make_dir(top / "home" / user, 0o711, uid, uid)
            make_dir(top / "home" / user / "Maildir", 0o2770, uid, GROUP)
        for name in BOXES:
            make_maildir(top / f"home/alice/Maildir/.{name.decode()}", UIDS["alice"], ACL)
        with (
            private_server(config_for(OURS, top), users_below(top)) as server,
            private_dovecot(config_for(THEIRS, top), users_below(top)) as dovecot,
        ):
            yield top, server, dovecot
    finally:
        shutil.rmtree(top, ignore_errors=True)


class Worker(threading.Thread):
    """One connection to one of the servers, busy until the end."""

    def __init__(self, server: Greets, user: str, label: str, prefix: bytes, end: float) -> None:
        super().__init__(name=label)
        self.server, self.user, self.prefix, self.end = server, user, prefix, end
        self.random = random.Random(f"{SEED}/{label}")
        self.given: dict[tuple[bytes, int], bytes] = {}  # what APPEND said
        self.done: Counter[str] = Counter()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            with contextlib.closing(Wire(self.server.connect(), self.user)) as wire:
                number = 0
                while time.monotonic() < self.end:
                    number += 1
                    self.step(wire, number)
        except BaseException as exc:
            self.failure = exc

    def step(self, wire: Wire, number: int) -> None:
        box, other = self.random.sample(BOXES, 2)
        match self.random.randrange(8):
            case 0 | 1 | 2:
                body = b"Subject: %b %d\r\n\r\n%b\r\n" % (
                    self.name.encode(), number, b"x" * self.random.choice((5, 500, 50_000)),
                )  # fmt: skip
                flags = b" ".join(self.random.sample(FLAGS, 2))
                answer = wire.ask(
                    b"APPEND %b%b (%b) {%d+}\r\n%b" % (self.prefix, box, flags, len(body), body)
                )
                found = re.search(rb"\[APPENDUID \d+ (\d+)\]", answer[-1])
                assert found, answer
                self.given[box, int(found[1])] = body
                self.done["append"] += 1
            case 3 | 4:
                for uid in self.some(wire, box):
                    sign = self.random.choice((b"+", b"-", b""))
                    flags = b" ".join(self.random.sample(FLAGS, self.random.randint(1, 3)))
                    self.ok(wire, b"UID STORE %d %bFLAGS (%b)" % (uid, sign, flags))
                    self.done["store"] += 1
            case 5:
                for uid in self.some(wire, box):
                    answer = wire.ask(b"UID COPY %d %b%b" % (uid, self.prefix, other))
                    assert b"x BAD" not in answer[-1], answer
                    self.done["copy"] += 1
            case 6:
                for uid in self.some(wire, box)[:1]:
                    self.ok(wire, b"UID STORE %d +FLAGS (\\Deleted)" % uid)
                    self.ok(wire, b"UID EXPUNGE %d" % uid)
                    self.done["expunge"] += 1
            case 7:
                for uid in self.some(wire, box)[:1]:
                    answer = wire.ask(b"UID MOVE %d %b%b" % (uid, self.prefix, other))
                    assert b"x BAD" not in answer[-1], answer
                    self.done["move"] += 1

    def ok(self, wire: Wire, command: bytes) -> list[bytes]:
        answer = wire.ask(command)
        assert answer[-1].startswith(b"x OK"), (self.name, command, answer)
        return answer

    def some(self, wire: Wire, box: bytes) -> list[int]:
        self.ok(wire, b"SELECT " + self.prefix + box)
        answer = self.ok(wire, b"UID SEARCH ALL")
        uids = [
            int(word)
            for line in answer
            if line.startswith(b"* SEARCH")
            for word in line.split()[2:]
        ]
        return self.random.sample(uids, min(len(uids), 3))


def mail_of(server: Greets, box: bytes) -> tuple[bytes, Mail]:
    """UIDVALIDITY; flags and body by UID."""
    with contextlib.closing(Wire(server.connect(), "alice")) as wire:
        answer = wire.ask(b"SELECT " + box)
        validity = re.search(rb"UIDVALIDITY (\d+)", b"".join(answer))
        assert validity, answer
        found: Mail = {}
        for line in wire.ask(b"UID FETCH 1:* (UID FLAGS BODY.PEEK[])")[:-1]:
            if got := re.match(
                rb"\* \d+ FETCH \(UID (\d+) FLAGS \(([^)]*)\) BODY\[\] (.*)\)\Z", line, re.S
            ):
                flags = frozenset(got[2].split()) - {b"\\Recent"}
                found[int(got[1])] = flags, got[3].partition(b"\r\n")[2]
        return validity[1], found


def deliver(top: Path, until: float) -> None:
    """A third party, which knows nothing of UIDs."""
    for number in range(1_000_000):
        if time.monotonic() > until:
            return
        for name in BOXES:
            box = top / f"home/alice/Maildir/.{name.decode()}"
            temp = box / "tmp" / f"{int(time.time())}.D{number}.mda"
            temp.write_bytes(b"Subject: delivered %d\n\nx\n" % number)
            os.chown(temp, UIDS["alice"], GROUP)
            temp.chmod(0o660)
            temp.rename(box / "new" / temp.name)
        time.sleep(0.2)


def test_both_at_once_tell_one_truth(together: tuple[Path, Server, Dovecot]) -> None:
    top, server, dovecot = together
    end = time.monotonic() + SECONDS
    workers = [
        Worker(
            server if side == "ours" else dovecot, user, f"{side}-{user}",
            b"" if user == "alice" else b"shared/alice/", end,
        )
        for side, user in WHO
    ]  # fmt: skip
    for worker in workers:
        worker.start()
    deliver(top, end)
    for worker in workers:
        worker.join(60)
        assert not worker.is_alive(), worker.name
    for worker in workers:
        if worker.failure is not None:
            raise worker.failure
    print({worker.name: dict(worker.done) for worker in workers})
    assert all(worker.done["append"] > 3 for worker in workers)
    for box in BOXES:
        ours, theirs = mail_of(server, box), mail_of(dovecot, box)
        assert ours[0] == theirs[0]
        assert ours[1].keys() == theirs[1].keys()
        assert {u: f for u, (f, _) in ours[1].items()} == {u: f for u, (f, _) in theirs[1].items()}
        assert ours[1] == theirs[1]
        promised = Counter((name, uid) for one in workers for name, uid in one.given if name == box)
        assert not promised or max(promised.values()) == 1, "one UID was given twice"
        for worker in workers:
            for (name, uid), body in worker.given.items():
                if name == box and uid in ours[1]:
                    assert ours[1][uid][1] == body
    bad = re.findall(r".*(?:Error:|Panic:|Fatal:|Corrupted).*", dovecot.log_text())
    assert not bad, "\n".join(bad[:10])
    bad = re.findall(r".*(?:Error:|Fatal:|Traceback).*", server.log_text())
    assert not bad, "\n".join(bad[:10])
