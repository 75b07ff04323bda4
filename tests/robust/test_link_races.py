"""A sharer with a shell swaps directories for symbolic links while the other's worker is at work.

bob shares Box with alice and may do with its directory what he likes.  Whatever he does, alice's
worker, which has all of alice's permissions, renames, removes and creates nothing in her own mail
in his name, and puts none of it into his.
"""

import ctypes
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.robust.world import UIDS, World, append, make_maildir, message, put_file
from tests.service.clients import Talk

pytestmark = [pytest.mark.superuser, pytest.mark.slow]

SECONDS: Final = 1.5
ALL: Final = "user=alice lrwstipekxa\n"
SECRET: Final = b"Subject: SECRET\n\nalice's own SECRET\n"
NAMES: Final = [f"{1_700_000_000 + number}.M{number}P1.host:2," for number in (1, 2, 3)]
_libc = ctypes.CDLL(None, use_errno=True)
_EXCHANGE: Final = 2  # renameat2(2)


def exchange(one: Path, two: Path) -> None:
    """Swap two names at once: nobody ever sees either missing."""
    result = _libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(two), _EXCHANGE)
    assert result == 0, os.strerror(ctypes.get_errno())


@pytest.fixture
def private(host: World) -> Path:
    """alice's own mail, with messages of the very names that bob's have."""
    host.fresh("alice")
    host.fresh("bob")
    path = make_maildir(host.maildir("alice") / ".Private", UIDS["alice"], messages=[SECRET] * 3)
    put_file(path / "dovecot-uidlist", b"3 V77 N4\n" + b"".join(
        b"%d :%b\n" % (number, name.removesuffix(":2,").encode())
        for number, name in enumerate(NAMES, 1)
    ), UIDS["alice"])  # fmt: skip
    old = time.time() - 400 * 3600
    for name in ("cur", "new", "tmp"):
        put_file(path / name / "old-and-hers", SECRET, UIDS["alice"])
        os.utime(path / name, (old, old))  # as if nobody had swept tmp/ for long
    return path


def picture(path: Path) -> dict[str, bytes]:
    """Names and contents below path; locks of a moment are passed over."""
    return {
        os.fspath(one.relative_to(path)): one.read_bytes()
        for one in path.rglob("*")
        if one.is_file() and not one.name.endswith(".lock") and not one.name.startswith(".temp.")
    }


def work(client: Talk, number: int) -> None:
    """What a busy client does; every answer is fine as long as there is one."""
    client.ask(b"a SELECT shared/bob/Box")
    for command in (
        b"FETCH 1:* (FLAGS RFC822.SIZE)",
        b"STORE 1 +FLAGS (\\Flagged)",
        b"STORE 2 FLAGS (\\Deleted)",
        b"COPY 1:* shared/bob/Box2",
        b"EXPUNGE",
        b"STORE 1 +FLAGS (kw%d)" % (number % 5),
        b"NOOP",
    ):
        client.ask(b"b " + command)
    append(client, b"shared/bob/Box", message("hello"), b"(\\Seen) " if number % 2 else b"")
    if number % 5 == 0:
        client.ask(b"m UID MOVE 1 shared/bob/Box2")


@pytest.mark.parametrize("target", ["cur", "new", "tmp", ""], ids=["cur", "new", "tmp", "mailbox"])
def test_links_lead_nowhere(host: World, private: Path, target: str) -> None:
    box = make_maildir(host.maildir("bob") / ".Box", UIDS["bob"], ALL)
    make_maildir(host.maildir("bob") / ".Box2", UIDS["bob"], ALL)
    for name in NAMES:
        put_file(box / "cur" / name, message("bait"), UIDS["bob"])
    place, link = box / target, box.with_name("link")
    link.symlink_to(private / target)
    before = picture(private)
    stop = threading.Event()
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        while not stop.is_set():
            exchange(place, link)
            swaps += 1
            time.sleep(0.0005 if swaps % 3 else 0.004)

    rounds = run_against(swap, stop, host)
    if place.is_symlink():
        exchange(place, link)
    print(f"{swaps} swaps of {target or 'the mailbox'}, {rounds} rounds of work")
    assert swaps > 50
    assert rounds > 3
    assert picture(private) == before
    stolen = [path for path in host.maildir("bob").rglob("*") if path.is_file() and holds(path)]
    assert not stolen
    host.demand_sound()
    with host.user("alice") as client:
        answer = client.ask(b"a SELECT Private")
        assert b"* OK [UIDVALIDITY 77] UIDs valid\r\n" in answer
        assert b"* 5 EXISTS\r\n" in answer


def holds(path: Path) -> bool:
    return b"SECRET" in path.read_bytes()


def run_against(swap: Callable[[], None], stop: threading.Event, host: World) -> int:
    """Rounds of work that alice's client did, over several connections if it must."""
    attacker = threading.Thread(target=swap)
    attacker.start()
    rounds = 0
    end = time.monotonic() + SECONDS
    try:
        while time.monotonic() < end:
            with host.user("alice") as client:
                try:
                    while time.monotonic() < end:
                        work(client, rounds)
                        rounds += 1
                except (AssertionError, OSError):
                    rounds += 1  # BYE: the mailbox was replaced.  The log tells of real trouble.
    finally:
        stop.set()
        attacker.join()
    return rounds
