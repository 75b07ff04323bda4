"""Viewers' own copies of control files are limited, and do not stay for ever."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sharefs.errors import Code, SharingError
from sharefs.mount.copies import MAX_FILES, RARELY, UNUSED, Copies
from sharefs.mount.starting import copies_limit, kernel_options
from tests.account.world import World
from tests.mount.test_mount_control import ALICE, BOB, outcome
from tests.mount.test_mount_control import place as place
from tests.mount.test_mount_rights import make_box
from tests.support.mount import Mount, mounted
from tests.support.server import wait_until

UID = 61001
MEBIBYTE = 1 << 20


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def used(copies: Copies, uid: int, name: str, octets: int) -> Path:
    """A copy of this size, made without paying."""
    path = copies.path_of(uid, [name])
    fd = copies.open(path, make=True)
    assert fd is not None
    os.close(fd)
    (path / "dovecot.index").write_bytes(b"x" * octets)
    return path


def full(copies: Copies, octets: int = 1, *, uid: int = UID, files: int = 0) -> bool:
    return outcome(lambda: copies.pay(uid, octets, files=files)) == "EDQUOT"


def test_what_was_there_before_counts(tmp_path: Path, clock: Clock) -> None:
    copies = Copies(tmp_path, MEBIBYTE, clock)
    used(copies, UID, "one", MEBIBYTE // 2)
    used(copies, UID, "two", MEBIBYTE // 4)
    used(copies, UID + 1, "two", 2 * MEBIBYTE)
    assert not full(copies, MEBIBYTE // 4)
    assert full(copies)
    assert full(copies, uid=UID + 1)
    assert not full(copies, uid=UID * 10)


def test_what_was_removed_counts_no_more_a_second_later(tmp_path: Path, clock: Clock) -> None:
    copies = Copies(tmp_path, MEBIBYTE, clock)
    path = used(copies, UID, "one", MEBIBYTE)
    assert full(copies)
    (path / "dovecot.index").unlink()
    clock.now += RARELY / 2
    assert full(copies)
    clock.now += RARELY
    assert not full(copies)


def test_writing_the_same_again_and_again_is_no_growth(tmp_path: Path, clock: Clock) -> None:
    copies = Copies(tmp_path, MEBIBYTE, clock)
    used(copies, UID, "one", MEBIBYTE // 2)
    for _ in range(20):
        clock.now += RARELY
        assert not full(copies, MEBIBYTE // 4)


def test_files_are_counted_and_what_has_no_name(tmp_path: Path, clock: Clock) -> None:
    copies = Copies(tmp_path, MEBIBYTE, clock)
    assert not full(copies, 0, files=MAX_FILES)
    assert full(copies, 0, files=1)
    clock.now += RARELY
    with pytest.raises(OSError, match="quota"):
        copies.pay(UID, MEBIBYTE, files=MAX_FILES, nameless=lambda: 1)
    clock.now += RARELY
    copies.pay(UID, MEBIBYTE, files=MAX_FILES, nameless=lambda: 0)


def test_copies_that_nobody_uses_go(tmp_path: Path, clock: Clock) -> None:
    copies = Copies(tmp_path, clock=clock)
    paths = {name: used(copies, UID, name, 10) for name in ("old", "entered", "written", "new")}
    now = time.time()
    for name, path in paths.items():
        if name != "new":
            os.utime(path / "dovecot.index", (now - 2 * UNUSED,) * 2)
            os.utime(path, (now - 2 * UNUSED,) * 2)
    os.utime(paths["written"] / "dovecot.index", (now, now))
    fd = copies.open(paths["entered"], make=False)
    assert fd is not None
    os.close(fd)
    assert copies.remove_unused(now) == [paths["old"].name]
    assert {path.name for path in tmp_path.iterdir()} == {
        paths[name].name for name in ("entered", "written", "new")
    }


@pytest.mark.parametrize(
    ("word", "want"),
    [("copies=0", 0), ("copies=17", 17), ("copies=500M", 500 << 20), ("copies=2g", 2 << 30),
     ("copies=", None), ("copies=-1", None), ("copies=much", None), ("copies=1.5G", None)],
)  # fmt: skip
def test_the_limit_is_an_option(word: str, want: int | None) -> None:
    if want is None:
        with pytest.raises(SharingError, match="wants a size") as caught:
            kernel_options(frozenset({word}))
        assert caught.value.code is Code.INVALID
    else:
        assert kernel_options(frozenset({word, "ro"})) == {"ro"}
        assert copies_limit({"ro", word}) == want


@pytest.fixture
def limited(place: tuple[World, Mount]) -> Iterator[tuple[World, Mount]]:
    """The view once more, with little room for copies."""
    world, _ = place
    work = world.top / "limited"
    work.mkdir(exist_ok=True)
    arguments: list[str | Path] = ["--state", work / "state", "-o", "copies=1M"]
    with mounted(work, arguments, config=world.config_path) as mount:
        yield world, mount


@pytest.mark.superuser
@pytest.mark.fuse
def test_a_viewer_cannot_fill_the_daemons_disk(limited: tuple[World, Mount]) -> None:
    world, mount = limited
    box = make_box(world, "Room", "lrip")
    seen = mount.top / "bob" / ".shared.alice.Room"

    def fill(name: str, octets: int) -> int:
        written = 0
        fd = os.open(seen / name, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            while written < octets:
                written += os.write(fd, b"x" * 65536)
        finally:
            os.close(fd)
        return written

    assert outcome(lambda: BOB.run(fill, "dovecot.index.cache", 2 * MEBIBYTE)) == "EDQUOT"
    assert outcome(lambda: BOB.run(fill, "another", 65536)) == "EDQUOT"
    assert sum(path.stat().st_size for path in (world.top / "limited" / "state").glob("*/*")) <= (
        MEBIBYTE
    )
    # Messages are the mailbox's, and one's own files one's own.
    BOB.run(fill, "new/1.M1P1.host", 2 * MEBIBYTE)
    assert (box / "new" / "1.M1P1.host").stat().st_size == 2 * MEBIBYTE
    ALICE.run((mount.top / "alice" / ".Room" / "dovecot.index").write_bytes, b"x" * 2 * MEBIBYTE)
    BOB.run(os.unlink, seen / "dovecot.index.cache")
    wait_until(lambda: outcome(lambda: BOB.run(fill, "another", 65536)) == "done", 5)


@pytest.mark.superuser
@pytest.mark.fuse
def test_removed_copies_count_as_long_as_they_are_open(limited: tuple[World, Mount]) -> None:
    world, mount = limited
    make_box(world, "Nameless", "lr")
    seen = mount.top / "bob" / ".shared.alice.Nameless"

    def collect() -> int:
        """Octets that were to be had by keeping removed files open for some seconds."""
        written, until = 0, time.monotonic() + 3 * RARELY
        with contextlib.ExitStack() as stack:
            while time.monotonic() < until and written < 16 * MEBIBYTE:
                with contextlib.suppress(OSError):
                    fd = os.open(seen / "lock", os.O_WRONLY | os.O_CREAT, 0o600)
                    stack.callback(os.close, fd)
                    os.unlink(seen / "lock")
                    written += os.write(fd, b"x" * 65536)
        return written

    assert 0 < BOB.run(collect) <= MEBIBYTE
