"""A viewer's own \\Seen over a real Maildir: the contract, the viewers' independence, bad files."""

import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from sharefs.errors import SharingError
from sharefs.flags import NO_FLAGS, FlagChange, FlagFilter, FlagOp, FlagSet, System
from sharefs.store.interface import Existence, Mailbox, Storage, StoredMailbox
from sharefs.store.maildir import MaildirConfig, MaildirStorage
from sharefs.store.private_seen import discard, files, follow_rename, overlay
from sharefs.store.private_seen.records import format_expunge, parse_header
from tests.store.contract import SEEN, StorageContract, add
from tests.support.become import Identity

WORK = ("Work",)
LOG = "dovecot.index.pvt.log"
ADD_SEEN = FlagChange(FlagOp.ADD, SEEN)
REMOVE_SEEN = FlagChange(FlagOp.REMOVE, SEEN)


@dataclass
class OverlaidStorage(Storage):
    """A Maildir whose mailboxes open with a private \\Seen over them."""

    maildir: MaildirStorage
    private: Path
    public: bool = False

    def open(self, name: tuple[str, ...], *, readonly: bool = False) -> Mailbox:
        directory = self.private / "-".join(name)
        return overlay(self.maildir.open(name, readonly=readonly), directory, public=self.public)

    def existence(self, name: tuple[str, ...]) -> Existence:
        return self.maildir.existence(name)

    def iterate(self) -> Iterator[StoredMailbox]:
        return self.maildir.iterate()

    def create(self, name: tuple[str, ...], *, directory: bool = False) -> None:
        self.maildir.create(name, directory=directory)

    def delete(self, name: tuple[str, ...]) -> None:
        self.maildir.delete(name)

    def rename(self, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        self.maildir.rename(old, new)

    def acl_directory(self, name: tuple[str, ...]) -> Path:
        return self.maildir.acl_directory(name)

    def mailbox_path(self, name: tuple[str, ...]) -> Path:
        return self.maildir.mailbox_path(name)

    def guid(self, name: tuple[str, ...]) -> str:
        return self.maildir.guid(name)


def overlaid(tmp_path: Path, viewer: str = "bob", *, public: bool = False) -> OverlaidStorage:
    maildir = MaildirStorage(MaildirConfig(tmp_path / "Maildir"))
    return OverlaidStorage(maildir, tmp_path / "pvt" / viewer, public)


class TestContract(StorageContract):
    """With a private \\Seen laid over it a mailbox is still a mailbox."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return overlaid(tmp_path)


class TestPublicContract(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return overlaid(tmp_path, public=True)


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Mailbox]:
    """The owner's view, with three messages, the second of them seen by him."""
    storage = MaildirStorage(MaildirConfig(tmp_path / "Maildir"))
    storage.create(WORK)
    with closing(storage.open(WORK)) as mailbox:
        add(mailbox, b"a: 1\r\n\r\n", b"a: 2\r\n\r\n", b"a: 3\r\n\r\n")
        mailbox.store_flags([2], ADD_SEEN)
        mailbox.sync()
        yield mailbox


def seen(mailbox: Mailbox) -> set[int]:
    mailbox.sync()
    return {uid for uid in mailbox.uids() if mailbox.flags_of(uid).system & System.SEEN}


def test_viewers_do_not_see_each_others_seen(tmp_path: Path, plain: Mailbox) -> None:
    with (
        closing(overlaid(tmp_path, "bob").open(WORK)) as bob,
        closing(overlaid(tmp_path, "carol").open(WORK)) as carol,
    ):
        assert seen(bob) == set()
        assert bob.store_flags([1, 3], ADD_SEEN) == [1, 3]
        assert bob.store_flags([1, 3], ADD_SEEN) == []
        assert carol.store_flags([3], ADD_SEEN) == [3]
        assert (seen(bob), seen(carol), seen(plain)) == ({1, 3}, {3}, {2})
        assert bob.store_flags([1, 2], REMOVE_SEEN) == [1]
    with closing(overlaid(tmp_path, "bob").open(WORK)) as again:
        assert seen(again) == {3}


def test_other_flags_are_shared(tmp_path: Path, plain: Mailbox) -> None:
    with closing(overlaid(tmp_path).open(WORK)) as bob:
        both = FlagSet(System.SEEN | System.FLAGGED, frozenset({"$Work"}))
        assert bob.store_flags([1], FlagChange(FlagOp.REPLACE, both)) == [1]
        assert bob.flags_of(1) == both
        plain.sync()
        assert plain.flags_of(1) == FlagSet(System.FLAGGED, frozenset({"$Work"}))
        # Replacing leaves the owner's \Seen alone and takes ours away.
        assert bob.store_flags([1, 2], FlagChange(FlagOp.REPLACE, NO_FLAGS)) == [1]
        plain.sync()
        assert plain.flags_of(1) == NO_FLAGS
        assert plain.flags_of(2) == SEEN


def test_without_the_right_s_nothing_is_seen(tmp_path: Path, plain: Mailbox) -> None:
    no_s = FlagFilter(System.FLAGGED)
    with closing(overlaid(tmp_path).open(WORK)) as bob:
        assert bob.store_flags([1], FlagChange(FlagOp.ADD, SEEN, no_s)) == []
        assert bob.store_flags([1], FlagChange(FlagOp.REPLACE, SEEN, no_s)) == []
        assert seen(bob) == set()
        only_s = FlagFilter(System.SEEN, keywords=False)
        wide = FlagSet(System.SEEN | System.FLAGGED, frozenset({"$Work"}))
        assert bob.store_flags([1], FlagChange(FlagOp.ADD, wide, only_s)) == [1]
        assert bob.flags_of(1) == SEEN


def test_public_mailboxes_start_with_the_shared_seen(tmp_path: Path, plain: Mailbox) -> None:
    with closing(overlaid(tmp_path, public=True).open(WORK)) as bob:
        assert seen(bob) == {2}
        bob.store_flags([2], REMOVE_SEEN)
        [uid] = add(plain, b"a: 4\r\n\r\n", flags=SEEN)  # as a filter does
        assert seen(bob) == {uid}
    with closing(overlaid(tmp_path, public=True).open(WORK)) as again:
        assert seen(again) == {uid}  # looked at once, not at each opening


def test_two_sessions_of_one_viewer(tmp_path: Path, plain: Mailbox) -> None:
    storage = overlaid(tmp_path)
    with closing(storage.open(WORK)) as one, closing(storage.open(WORK)) as two:
        one.sync()
        two.sync()
        moment = two.generation
        one.store_flags([3], ADD_SEEN)
        assert not two.looks_unchanged()
        assert two.sync()
        assert two.changes_since(moment).flags == (3,)
        assert seen(two) == {3}
        assert not two.sync()
        assert storage.private / "Work" in two.watch_paths()


def test_changes_of_both_kinds_come_together(tmp_path: Path, plain: Mailbox) -> None:
    with closing(overlaid(tmp_path).open(WORK)) as bob:
        bob.sync()
        start = bob.generation
        bob.store_flags([1], ADD_SEEN)
        plain.store_flags([3], FlagChange(FlagOp.ADD, FlagSet(System.FLAGGED)))
        bob.sync()
        middle = bob.generation
        plain.expunge([2])
        [uid] = add(plain, b"a: 4\r\n\r\n")
        bob.sync()
        bob.store_flags([uid], ADD_SEEN)
        bob.sync()
        changes = bob.changes_since(start)
        assert (changes.expunged, changes.added, changes.flags) == ((2,), (uid,), (1, 3))
        changes = bob.changes_since(middle)
        assert (changes.expunged, changes.added, changes.flags) == ((2,), (uid,), ())
        assert not bob.changes_since(bob.generation)


def test_what_a_viewer_appends_and_copies_is_seen_by_him_alone(
    tmp_path: Path, plain: Mailbox
) -> None:
    storage = overlaid(tmp_path)
    storage.create(("Other",))
    with closing(storage.open(WORK)) as bob, closing(storage.open(("Other",))) as other:
        bob.store_flags([1], ADD_SEEN)
        assert add(bob, b"a: 4\r\n\r\n", flags=FlagSet(System.SEEN | System.FLAGGED)) == [4]
        assert seen(bob) == {1, 4}
        plain.sync()
        assert plain.flags_of(4) == FlagSet(System.FLAGGED)
        copies = other.copy_from(bob, [1, 2])
        assert [copy.linked for copy in copies] == [True, True]
        assert seen(other) == {copies[0].uid}
        no_s = FlagFilter(System(0), keywords=False)
        [moved] = other.move_from(bob, [1], no_s)
        assert seen(other) == {copies[0].uid}
        assert moved.uid in other.uids()
        bob.sync()
        assert 1 not in bob.uids()
        # Into the viewer's own mailbox the private \Seen becomes an ordinary one.
        own = MaildirStorage(MaildirConfig(tmp_path / "own"))
        own.create(WORK)
        with closing(own.open(WORK)) as mine:
            [copy] = mine.copy_from(bob, [4])
            assert copy.linked
            mine.sync()
            assert mine.flags_of(copy.uid) == FlagSet(System.SEEN | System.FLAGGED)


def test_expunged_and_appended_while_away(tmp_path: Path, plain: Mailbox) -> None:
    storage = overlaid(tmp_path)
    with closing(storage.open(WORK)) as bob:
        bob.store_flags([1, 2, 3], ADD_SEEN)
    plain.expunge([2])
    [uid] = add(plain, b"a: 4\r\n\r\n")
    with closing(storage.open(WORK)) as bob:
        assert seen(bob) == {1, 3}
        bob.store_flags([uid], ADD_SEEN)
    with closing(storage.open(WORK)) as bob:
        assert seen(bob) == {1, 3, uid}


def test_a_mailbox_made_again_starts_unseen(
    tmp_path: Path, plain: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    storage = overlaid(tmp_path)
    with closing(storage.open(WORK)) as bob:
        bob.store_flags([1, 2, 3], ADD_SEEN)
    storage.delete(WORK)
    storage.create(WORK)
    with closing(storage.maildir.open(WORK)) as fresh:
        add(fresh, b"a: new\r\n\r\n")
    caplog.set_level("INFO")
    with closing(storage.open(WORK)) as bob:
        assert seen(bob) == set()
        bob.store_flags([1], ADD_SEEN)
    assert "UIDVALIDITY changed" in caplog.text
    with closing(storage.open(WORK)) as bob:
        assert seen(bob) == {1}


def test_examine_changes_nothing(tmp_path: Path, plain: Mailbox) -> None:
    storage = overlaid(tmp_path)
    with closing(storage.open(WORK, readonly=True)) as bob:
        assert bob.readonly
        with pytest.raises(SharingError, match="reading only"):
            bob.store_flags([1], ADD_SEEN)
        assert seen(bob) == set()


@pytest.mark.superuser
def test_seen_works_where_the_mailbox_is_read_only(open_tmp: Path) -> None:
    """A public mailbox that the viewer may only read: his \\Seen is his own all the same."""
    storage = MaildirStorage(MaildirConfig(open_tmp / "Maildir"))
    storage.create(WORK)
    with closing(storage.open(WORK)) as mailbox:
        add(mailbox, b"a: 1\r\n\r\n", b"a: 2\r\n\r\n")
        mailbox.sync()
    for path in [open_tmp / "Maildir", *(open_tmp / "Maildir").rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    home = open_tmp / "bob"
    home.mkdir()
    os.chown(home, 5002, 5002)

    def run() -> tuple[bool, list[int], set[int]]:
        shared = storage.open(WORK)
        with closing(overlay(shared, home / "pvt", public=True, examine=False)) as bob:
            wide = FlagChange(FlagOp.ADD, FlagSet(System.SEEN | System.FLAGGED))
            return shared.readonly, bob.store_flags([2], wide), seen(bob)

    assert Identity(5002, 5002).run(run) == (True, [2], {2})
    status = (home / "pvt" / LOG).stat()
    assert (status.st_uid, oct(status.st_mode & 0o777)) == (5002, "0o600")
    assert oct((home / "pvt").stat().st_mode & 0o777) == "0o700"


@pytest.mark.superuser
def test_nowhere_to_write(open_tmp: Path, caplog: pytest.LogCaptureFixture) -> None:
    storage = MaildirStorage(MaildirConfig(open_tmp / "Maildir"))
    storage.create(WORK)
    with closing(storage.open(WORK)) as mailbox:
        add(mailbox, b"a: 1\r\n\r\n", b"a: 2\r\n\r\n")
        mailbox.sync()
    for path in [open_tmp / "Maildir", *(open_tmp / "Maildir").rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    (open_tmp / "closed").mkdir(mode=0o700)

    def run() -> tuple[set[int], str]:
        for _ in range(2):
            shared = storage.open(WORK)
            private = open_tmp / "closed/pvt"
            with closing(overlay(shared, private, public=False, examine=False)) as bob:
                bob.store_flags([2], ADD_SEEN)
                bob.sync()
                bob.watch_paths()
                found = seen(bob)
        return found, caplog.text

    found, text = Identity(5002, 5002).run(run)
    assert found == {2}
    assert text.count("kept in memory only") == 1


def test_renaming_and_deleting_take_the_index_along(tmp_path: Path, plain: Mailbox) -> None:
    storage = overlaid(tmp_path)
    old, new, other = (storage.private / name for name in ("Work", "Renamed", "Stale"))
    with closing(storage.open(WORK)) as bob:
        bob.store_flags([1], ADD_SEEN)
    new.mkdir()
    (new / LOG).write_bytes(b"left by another mailbox of that name")
    (old / "child").mkdir()
    storage.rename(WORK, ("Renamed",))
    follow_rename(old, new)
    with closing(storage.open(("Renamed",))) as bob:
        assert seen(bob) == {1}
    assert os.listdir(old) == ["child"]
    follow_rename(other, new)  # there is nothing to move, so nothing is replaced
    assert (new / LOG).exists()
    discard(new)
    discard(new)
    assert not new.exists()
    discard(old)
    assert os.listdir(old) == ["child"]


# --- bad files -------------------------------------------------------------------------------


def damaged(tmp_path: Path, octets: bytes) -> set[int]:
    """What the viewer finds after his log was replaced, when he can still change it."""
    storage = overlaid(tmp_path)
    path = storage.private / "Work" / LOG
    path.write_bytes(octets)
    with closing(storage.open(WORK)) as bob:
        found = seen(bob)
        bob.store_flags([3], ADD_SEEN)
        assert seen(bob) == found | {3}
    with closing(storage.open(WORK)) as bob:
        assert seen(bob) == found | {3}
    return found


def whole_log(tmp_path: Path) -> bytes:
    storage = overlaid(tmp_path)
    with closing(storage.open(WORK)) as bob:
        bob.store_flags([1], ADD_SEEN)
        bob.store_flags([2], ADD_SEEN)
    return (storage.private / "Work" / LOG).read_bytes()


def test_every_truncation_keeps_what_can_be_read(tmp_path: Path, plain: Mailbox) -> None:
    octets = whole_log(tmp_path)
    found = [damaged(tmp_path, octets[:end]) for end in range(0, len(octets) + 1, 4)]
    assert found[0] == set()
    assert found[-1] == {1, 2}
    assert [len(each) for each in found] == sorted(len(each) for each in found)


@pytest.mark.parametrize(
    "octets",
    [b"garbage", b"\0" * 4096, os.urandom(4096), b"\x01\x03\x28\x00" + b"\xff" * 200],
    ids=["text", "zeros", "random", "header-only"],
)
def test_garbage_logs(tmp_path: Path, plain: Mailbox, octets: bytes) -> None:
    whole_log(tmp_path)
    assert damaged(tmp_path, octets) <= {1, 2, 3}


def test_garbage_after_good_records(tmp_path: Path, plain: Mailbox) -> None:
    octets = whole_log(tmp_path)
    assert damaged(tmp_path, octets + os.urandom(64)) == {1, 2}
    assert damaged(tmp_path, octets + b"\x80\x80\x80\x81" + bytes(60)) == {1, 2}


def test_a_log_that_continues_a_lost_one(tmp_path: Path, plain: Mailbox) -> None:
    octets = bytearray(whole_log(tmp_path))
    octets[12] = 9  # the sequence number of a log before it
    assert damaged(tmp_path, bytes(octets)) == {1, 2}


def test_a_broken_index_beside_the_log(tmp_path: Path, plain: Mailbox) -> None:
    octets = whole_log(tmp_path)
    (overlaid(tmp_path).private / "Work/dovecot.index.pvt").write_bytes(b"\x07" * 200)
    assert damaged(tmp_path, octets) == {1, 2}


def test_a_directory_where_the_log_should_be(tmp_path: Path, plain: Mailbox) -> None:
    storage = overlaid(tmp_path)
    (storage.private / "Work" / LOG).mkdir(parents=True)
    with closing(storage.open(WORK)) as bob:
        bob.store_flags([1], ADD_SEEN)
        assert seen(bob) == {1}


def test_a_missing_record_is_made_up(
    tmp_path: Path, plain: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A message below the private position without a record: rebuilt, keeping flags by UID."""
    storage = overlaid(tmp_path)
    whole_log(tmp_path)
    path = storage.private / "Work" / LOG
    path.write_bytes(path.read_bytes() + format_expunge([(3, 3)]))
    with closing(storage.open(WORK)) as bob:
        assert seen(bob) == {1, 2}
        assert bob.store_flags([3], ADD_SEEN) == [3]
    assert "written afresh" in caplog.text
    with closing(storage.open(WORK)) as bob:
        assert seen(bob) == {1, 2, 3}


def test_a_long_log_is_made_short(
    tmp_path: Path, plain: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "ROTATE_ABOVE", 400)
    storage = overlaid(tmp_path)
    path = storage.private / "Work" / LOG
    with closing(storage.open(WORK)) as one, closing(storage.open(WORK)) as two:
        for number in range(60):
            one.store_flags([1], REMOVE_SEEN if number % 2 else ADD_SEEN)
            two.store_flags([2], ADD_SEEN)
            assert seen(two) == seen(one)
        assert path.stat().st_size < 600
        assert seen(one) == {2}
        assert parse_header(path.read_bytes()).file_seq > 2
    assert sorted(os.listdir(path.parent)) == ["dovecot.index.pvt", LOG, f"{LOG}.2"]
    with closing(storage.open(WORK)) as again:
        assert seen(again) == {2}


# --- size ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_fifty_thousand_messages(tmp_path: Path) -> None:
    count = 50_000
    storage = MaildirStorage(MaildirConfig(tmp_path / "Maildir"))
    storage.create(WORK)
    cur = storage.mailbox_path(WORK) / "cur"
    for number in range(count):
        os.close(os.open(cur / f"{number}.M1P1.h,S=0,W=0:2,", os.O_CREAT))
    with closing(storage.open(WORK)) as shared:
        shared.sync()
        bob = overlay(shared, tmp_path / "pvt", public=False)
        clock = Clock()
        bob.sync()
        assert len(bob.uids()) == count
        first = clock.lap()
        assert len(bob.store_flags(bob.uids(), ADD_SEEN)) == count
        whole = clock.lap()
        for uid in range(1, 201):
            bob.store_flags([uid], REMOVE_SEEN)
        single = clock.lap() / 200
        assert len(seen(bob)) == count - 200
        clock.lap()
        for _ in range(200):
            bob.sync()
        idle = clock.lap() / 200
        other = overlay(shared, tmp_path / "pvt", public=False)
        clock.lap()
        assert other.flags_of(count) == SEEN
        reopen = clock.lap()
    # Generous: they catch quadratic work, not slow machines.
    assert (first < 2, whole < 2, single < 0.02, idle < 0.01, reopen < 1) == (True,) * 5, (
        first, whole, single, idle, reopen,
    )  # fmt: skip
    assert (tmp_path / "pvt" / LOG).stat().st_size < count * 9


class Clock:
    """Seconds between laps."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        self._last, elapsed = now, now - self._last
        return elapsed
