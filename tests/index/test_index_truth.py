"""Whatever happens to an index, answers stay those of the Maildir, and numbers never go back."""

import contextlib
import logging
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

import pytest

from benchmarks.mail import make_message
from sharefs import message
from sharefs.flags import FlagChange, FlagOp, FlagSet, System
from sharefs.index import Column, MailboxIndex, building, database
from sharefs.index import place as places
from sharefs.index.orders import read_facts
from sharefs.index.place import BROKEN, JOURNAL, NAME, RESERVE, drop
from sharefs.index.query import BodyContains, HeaderContains, LargerThan, Leaf, TextContains
from sharefs.index.search import matches
from sharefs.ordering.facts import Facts, relation_of
from sharefs.ordering.sorting import Criterion, SortKey, sort_messages
from sharefs.store.maildir import MaildirMailbox
from tests.index.maildirs import file_of, fill, indexed, numbers_of, opened
from tests.support.become import run_as

BOB, BOBS_GROUP = 7402, 7402
FLAGGING = FlagChange(FlagOp.ADD, FlagSet(System.FLAGGED))
UNFLAGGING = FlagChange(FlagOp.REMOVE, FlagSet(System.FLAGGED))
QUERIES: list[Leaf] = [
    HeaderContains("subject", "budget"),
    HeaderContains("from", "sender3"),
    HeaderContains("message-id", "<7.bench"),
    HeaderContains("cc", ""),
    BodyContains("warehouse office"),
    TextContains("nr"),
    TextContains("number 11 of"),
    LargerThan(2000),
]

CRITERIA = [
    [Criterion(SortKey.SUBJECT), Criterion(SortKey.DATE, reverse=True)],
    [Criterion(SortKey.DISPLAYFROM, reverse=True)],
]
COLUMNS = [Column.ENVELOPE, Column.BODYSTRUCTURE, Column.SIZE]


def some(count: int, seed: int = 1) -> list[bytes]:
    dice = random.Random(seed)
    return [
        make_message(n, dice).replace(b"\n\n", b"\n\nThis is number %d of them.\n" % n, 1)
        for n in range(count)
    ]


@dataclass(frozen=True)
class Truth:
    """What the messages themselves answer."""

    uids: list[int]
    found: list[list[int]]  # for each of QUERIES
    facts: list[Facts]
    orders: list[list[int]]  # for each of CRITERIA
    rows: dict[int, tuple[bytes, bytes, int]]  # ENVELOPE, BODYSTRUCTURE, SIZE

    @classmethod
    def of(cls, mailbox: MaildirMailbox) -> Self:
        uids = list(mailbox.uids())
        facts = read_facts(mailbox, uids)
        return cls(
            uids,
            [[uid for uid in uids if matches(query, uid, mailbox)] for query in QUERIES],
            facts,
            [sort_messages(facts, criteria) for criteria in CRITERIA],
            {uid: cls._row(mailbox, uid) for uid in uids},
        )

    @staticmethod
    def _row(mailbox: MaildirMailbox, uid: int) -> tuple[bytes, bytes, int]:
        octets = mailbox.read(uid)
        envelope = message.envelope_of(mailbox.read_header(uid))
        return envelope, message.bodystructure(message.parse(octets)), len(octets)

    def check(self, index: MailboxIndex) -> None:
        """Every answer of the index; it may have none where that is allowed."""
        for query, found in zip(QUERIES, self.found, strict=True):
            assert index.search(query, self.uids) == found, query
        for criteria, order in zip(CRITERIA, self.orders, strict=True):
            assert index.in_order(self.uids, criteria) in (None, order)
        assert set(index.facts(self.uids)) <= set(self.facts)
        assert set(index.relations(self.uids)) <= set(map(relation_of, self.facts))
        for uid, row in index.fetch(self.uids, COLUMNS):
            if row is not None:
                envelope, structure, size = self.rows[uid]
                assert row[0] in (None, envelope)
                assert row[1] in (None, structure)
                assert row[2] == size


def check(index: MailboxIndex, mailbox: MaildirMailbox) -> None:
    """Every answer against the messages as they are now."""
    Truth.of(mailbox).check(index)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    fill(tmp_path / "Maildir", some(40))
    return tmp_path / "Maildir"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def made(root: Path, place: Path) -> Path:
    """A complete index file."""
    with opened(root) as mailbox, indexed(mailbox, place) as index:
        check(index, mailbox)
    return file_of(place)


@contextlib.contextmanager
def warned(caplog: pytest.LogCaptureFixture, text: str) -> Iterator[None]:
    """Expects a warning with that text, and none without."""
    with caplog.at_level(logging.WARNING):
        yield
    assert caplog.messages, f"no warning of {text!r}"
    assert all(text in line for line in caplog.messages), caplog.messages
    caplog.clear()


# --- damage ----------------------------------------------------------------------------------


def test_flipped_octets(
    root: Path, place: Path, made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Wherever they are: found out, or without any effect."""
    dice = random.Random(5)
    whole = made.read_bytes()
    found_out = 0
    with opened(root) as mailbox:
        truth = Truth.of(mailbox)
        for _ in range(150):
            damaged = bytearray(whole)
            # Most of a small file is empty space; what is there is what shall be hit.
            places = [dice.randrange(len(whole)) for _ in range(200)]
            hits = [at for at in places if whole[at]][: dice.choice([1, 2, 8])]
            for at in hits:
                damaged[at] ^= 1 << dice.randrange(8)
            made.write_bytes(damaged)
            with indexed(mailbox, place, complete=False) as index:
                truth.check(index)
                assert index.catch_up()
                truth.check(index)
            found_out += bool(caplog.records)
            assert all("is built anew" in line for line in caplog.messages), caplog.messages
            caplog.clear()
    assert found_out > 75


def test_flipped_octets_under_an_open_index(
    root: Path, place: Path, made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dice = random.Random(6)
    with opened(root) as mailbox:
        truth = Truth.of(mailbox)
        for _ in range(20):
            with indexed(mailbox, place) as index:
                truth.check(index)
                caplog.clear()
                with made.open("r+b") as file:
                    for _ in range(300):
                        file.seek(dice.randrange(made.stat().st_size))
                        file.write(bytes([dice.randrange(256)]))
                index.close()
            with indexed(mailbox, place) as index:
                truth.check(index)
            caplog.clear()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda whole: b"",
        lambda whole: b"not a database at all" * 500,
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:100],
        lambda whole: whole[: len(whole) // 2] + bytes(len(whole) // 2),
        lambda whole: bytes(len(whole)),
        lambda whole: whole[:60] + b"\xff" + whole[61:],  # user_version
    ],
    ids=["empty", "garbage", "half", "header", "zeroed half", "zeros", "version"],
)
def test_other_files_in_its_place(
    root: Path,
    place: Path,
    made: Path,
    spoil: Callable[[bytes], bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    made.write_bytes(spoil(made.read_bytes()))
    with opened(root) as mailbox, indexed(mailbox, place) as index:
        check(index, mailbox)
        assert index.catch_up()  # what is wrong may have been found out only by now
        assert index.verify() == []
        assert index.status().path == made
    caplog.clear()
    with opened(root) as mailbox, indexed(mailbox, place, complete=False) as index:
        assert index.missing() == 0


def test_a_wrong_index_is_kept_for_inspection(
    root: Path, place: Path, made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for content in (b"first" * 1000, b"second" * 1000):
        made.write_bytes(content)
        with opened(root) as mailbox, warned(caplog, "is built anew"), indexed(mailbox, place):
            pass
        assert (place / BROKEN).read_bytes() == content
    assert sorted(path.name for path in place.iterdir()) == sorted([NAME, BROKEN, JOURNAL, RESERVE])
    assert drop(place)
    assert os.listdir(place) == [RESERVE]  # which numbers were given, as long as it is there
    assert not drop(place, forget=True)
    assert not place.exists()


# --- another mailbox, another time -----------------------------------------------------------


def test_another_uidvalidity(
    root: Path, place: Path, made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uidlist = root / "dovecot-uidlist"
    head, _, rest = uidlist.read_text().partition("\n")
    version, validity, *others = head.split(" ")
    head = " ".join([version, f"V{int(validity[1:]) + 1}", *others])
    uidlist.write_text(head + "\n" + rest)
    with (
        opened(root) as mailbox,
        warned(caplog, "UIDVALIDITY"),
        indexed(mailbox, place) as index,
    ):
        check(index, mailbox)


def test_uids_that_mean_other_messages(
    root: Path, place: Path, made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A restored mailbox with the numbers of another one."""
    shutil.rmtree(root / "cur")
    fill(root, some(40, seed=2), first=100)
    uidlist = root / "dovecot-uidlist"
    lines = uidlist.read_text().splitlines()
    names = sorted(path.name.partition(":")[0] for path in (root / "cur").iterdir())
    for number, name in enumerate(names, start=1):
        lines[number] = lines[number].partition(":")[0] + ":" + name
    uidlist.write_text("\n".join(lines) + "\n")
    with (
        opened(root) as mailbox,
        warned(caplog, "is another one"),
        indexed(mailbox, place) as index,
    ):
        assert len(mailbox.uids()) == 40
        check(index, mailbox)


def test_a_power_cut_while_it_is_new(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits until a new file is on the disk: any page of it may be missing there."""
    fill(tmp_path / "mail", some(3))
    with opened(tmp_path / "mail") as mailbox:
        index = MailboxIndex.open(mailbox, [place], label="test")
        last = numbers_of(index).note()
        octets = file_of(place).read_bytes()
        index.close()
        page = 4096
        whole = len(octets) // page
        left = [octets[: page * count] for count in range(whole)]
        left += [
            octets[: page * at] + bytes(page) + octets[page * at + page :] for at in range(whole)
        ]
        monkeypatch.setattr(database, "_this_boot", lambda: 12345)
        for each in left:
            for path in place.iterdir():
                path.unlink()
            file_of(place).write_bytes(each)
            file_of(place).chmod(0o600)
            with indexed(mailbox, place) as index:
                assert index._database.path == file_of(place)
                assert numbers_of(index).note() > last
                assert index.verify() == []
                check(index, mailbox)
        with indexed(mailbox, place) as index:  # what was closed is on the disk
            last = numbers_of(index).note()
        monkeypatch.setattr(database, "_this_boot", lambda: 67890)
        with indexed(mailbox, place) as index:
            assert numbers_of(index).note() == last


@pytest.mark.parametrize("in_place", [False, True])
def test_an_old_index_from_a_backup(root: Path, place: Path, made: Path, in_place: bool) -> None:
    backup = made.read_bytes()
    with opened(root) as mailbox, indexed(mailbox, place) as index:
        first = numbers_of(index).note()
        mailbox.expunge([3, 40])
        fill(root, some(10, seed=3), first=60)
        mailbox.sync()
        assert index.catch_up()
        between = numbers_of(index).note()
        mailbox.store_flags([1, 2], FLAGGING)
        last = numbers_of(index).note()
        assert last > between > first
        assert numbers_of(index).changed_since(between) == [1, 2]
        assert numbers_of(index).vanished_since(first) == [(3, 3), (40, 40)]
    time.sleep(2.1)  # longer than a write may take
    if in_place:
        made.write_bytes(backup)
    else:
        made.unlink()
        made.write_bytes(backup)
        made.chmod(0o600)
        old = time.time() - 10_000
        os.utime(made, (old, old))
    with opened(root) as mailbox, indexed(mailbox, place, complete=False) as index:
        check(index, mailbox)
        # What happened after the backup is not in it, so everything has a new number.
        assert numbers_of(index).note() > last
        assert numbers_of(index).changed_since(last) == list(mailbox.uids())
        assert numbers_of(index).vanished_since(last) is None
        assert index.missing() == 10
        assert index.catch_up()
        check(index, mailbox)
        assert index.verify() == []


def test_numbers_do_not_go_back_when_the_index_is_lost(
    root: Path, place: Path, made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    highest = 0
    for lose in (lambda: None, made.unlink, lambda: made.write_bytes(b"x" * 9999)):
        lose()
        with opened(root) as mailbox, indexed(mailbox, place) as index:
            assert numbers_of(index).note() >= highest
            mailbox.store_flags([1], FLAGGING if highest % 2 else UNFLAGGING)
            highest = numbers_of(index).note()
    caplog.clear()


def test_numbers_stay_when_nothing_happened(root: Path, place: Path, made: Path) -> None:
    """Opening is no change: a client that has seen everything need not look again."""
    seen = set()
    for _ in range(3):
        with opened(root) as mailbox, indexed(mailbox, place) as index:
            seen.add(numbers_of(index).note())
    assert len(seen) == 1


def test_a_file_that_vanishes_while_it_is_open(root: Path, place: Path, made: Path) -> None:
    with opened(root) as mailbox, indexed(mailbox, place) as index:
        made.unlink()
        check(index, mailbox)
        assert index.catch_up()
        assert made.exists()
        assert index.status().indexed == 40


def test_another_process_sets_it_aside(root: Path, place: Path, made: Path) -> None:
    with opened(root) as mailbox, indexed(mailbox, place) as index:
        made.rename(made.with_suffix(".elsewhere"))
        with indexed(mailbox, place) as other:
            check(other, mailbox)
        check(index, mailbox)
        assert index.missing() == 0


# --- interruptions ---------------------------------------------------------------------------


def write_for_ever(root: Path, place: Path) -> NoReturn:
    try:
        with (
            opened(root) as mailbox,
            contextlib.closing(MailboxIndex.open(mailbox, [place])) as index,
        ):
            while not index.catch_up(0.002):
                pass
            while True:
                mailbox.store_flags(mailbox.uids(), FLAGGING)
                numbers_of(index).note()
                mailbox.store_flags(mailbox.uids(), UNFLAGGING)
                numbers_of(index).note()
    finally:
        os._exit(1)


def test_killed_while_writing(root: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "SLICE", 7)
    fill(root, some(300, seed=4), first=100)
    with opened(root) as mailbox:
        assert len(mailbox.uids()) == 340
    dice = random.Random(8)
    rounds = journals = 0
    while rounds < 12:
        rounds += 1
        child = os.fork()
        if child == 0:
            write_for_ever(root, place)
        time.sleep(dice.uniform(0.02, 0.25))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if (place / JOURNAL).exists():
            journals += bool((place / JOURNAL).stat().st_size)
        with opened(root) as mailbox, indexed(mailbox, place, complete=False) as index:
            check(index, mailbox)
    with opened(root) as mailbox, indexed(mailbox, place) as index:
        assert index.verify() == []
        check(index, mailbox)


def test_a_full_disk(root: Path, place: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is there stays and serves; what is not is read; space makes it go on."""
    with opened(root) as mailbox, indexed(mailbox, place, complete=False) as index:
        sql = index._database.sql
        (pages,) = sql.execute("PRAGMA page_count").fetchone()
        sql.execute(f"PRAGMA max_page_count = {pages + 2}")
        with warned(caplog, "cannot be written"):
            assert not index.catch_up()
        check(index, mailbox)
        sql.execute("PRAGMA max_page_count = 1000000")
        assert index.catch_up()
        check(index, mailbox)
        assert index.verify() == []


def fill_up(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


@pytest.mark.superuser
def test_a_full_file_system(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    full = tmp_path / "full"
    full.mkdir(mode=0o700)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", str(full)], check=True
    )
    try:
        with opened(root) as mailbox, contextlib.ExitStack() as stack:
            ballast = full / "ballast"
            index = stack.enter_context(indexed(mailbox, full / "i", complete=False))
            fill_up(ballast)
            os.truncate(ballast, ballast.stat().st_size - 24 * 1024)
            for _ in range(3):
                with warned(caplog, "cannot be written"):
                    assert not index.catch_up()
                check(index, mailbox)
        ballast.unlink()
        with opened(root) as mailbox, indexed(mailbox, None) as index:
            check(index, mailbox)
        # No room for as much as the first page: the index is in memory.
        shutil.rmtree(full / "i")
        fill_up(ballast)
        with opened(root) as mailbox, indexed(mailbox, full / "i") as index:
            assert index.status().path is None
            check(index, mailbox)
        caplog.clear()
    finally:
        subprocess.run(["umount", str(full)], check=True)


def test_a_writer_that_does_not_let_go(
    root: Path, place: Path, made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Reading goes on; indexing is put off."""
    fill(root, some(3, seed=9), first=70)
    with contextlib.closing(sqlite3.connect(made, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with opened(root) as mailbox, indexed(mailbox, place, complete=False) as index:
            with warned(caplog, "locked"):
                assert not index.catch_up()
            check(index, mailbox)
            other.execute("ROLLBACK")
            assert index.catch_up()
            check(index, mailbox)


def test_other_programs_meanwhile(root: Path, place: Path) -> None:
    """Deliveries, renames and removals while the index is built and asked."""
    stop = threading.Event()
    delivered = some(200, seed=10)

    def meddle() -> None:
        dice = random.Random(11)
        for number, octets in enumerate(delivered):
            if stop.is_set():
                return
            temp = root / "tmp" / f"{number}"
            temp.write_bytes(octets)
            temp.rename(root / "new" / f"{1_700_000_000 + number}.M2P2.host")
            for path in dice.choices(sorted((root / "cur").iterdir()) or [temp], k=2):
                with contextlib.suppress(FileNotFoundError):
                    if dice.random() < 0.3:
                        path.unlink()
                    else:
                        path.rename(path.with_name(path.name.partition(":")[0] + ":2,S"))

    thread = threading.Thread(target=meddle)
    with opened(root) as mailbox, indexed(mailbox, place, complete=False) as index:
        thread.start()
        try:
            while thread.is_alive():
                mailbox.sync()
                index.catch_up(0.01)
                index.search(TextContains("warehouse office"), list(mailbox.uids()))
        finally:
            stop.set()
            thread.join()
        time.sleep(0.05)
        mailbox.sync()
        assert index.catch_up()
        check(index, mailbox)
        assert index.verify() == []


def test_a_message_that_cannot_be_read(root: Path, place: Path) -> None:
    (root / "cur" / "1500000000.M1P1.host:2,").mkdir()
    with opened(root) as mailbox, indexed(mailbox, place) as index:
        assert len(mailbox.uids()) == 41
        assert index.status().indexed == 40
        assert index.catch_up()
        assert index.missing() == 0


def test_when_most_of_it_is_about_dead_messages(
    tmp_path: Path, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "Maildir"
    fill(root, [b"Subject: %d\n\nx\n" % number for number in range(1300)])
    with opened(root) as mailbox, indexed(mailbox, place) as index:
        mailbox.expunge(list(mailbox.uids())[:1200])
        with warned(caplog, "are gone"):
            assert index.catch_up()
        assert index.status().indexed == 100
        check(index, mailbox)


def test_a_home_that_is_gone_is_not_made(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "home" / ".cache" / "sharefs" / "index" / "hash"
    with opened(root) as mailbox, indexed(mailbox, place) as index:
        assert index.status().path is None
        check(index, mailbox)
    assert not (tmp_path / "home").exists()
    (tmp_path / "home").mkdir(mode=0o700)
    with opened(root) as mailbox, indexed(mailbox, place) as index:
        shutil.rmtree(tmp_path / "home")
        check(index, mailbox)
        assert index.catch_up()
        assert index.status().path is None
    assert not (tmp_path / "home").exists()


def test_a_place_that_goes_between_looking_and_opening(
    root: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home is unmounted, or removed, just then: the answers come from memory."""
    prepare = places.prepare

    def then_gone(directory: Path) -> places.Prepared:
        prepared = prepare(directory)
        shutil.rmtree(directory)
        return prepared

    monkeypatch.setattr(places, "prepare", then_gone)
    with opened(root) as mailbox, indexed(mailbox, place) as index:
        assert index.status().path is None
        check(index, mailbox)


# --- whose it is -----------------------------------------------------------------------------


def test_nobody_else_may_read_it(root: Path, place: Path, made: Path) -> None:
    assert place.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in place.iterdir()} == {0o600}


@pytest.mark.parametrize("trouble", ["shared", "link", "linked", "open", "no directory", "fifo"])
def test_places_that_are_not_trusted(root: Path, place: Path, made: Path, trouble: str) -> None:
    before = made.read_bytes()
    match trouble:
        case "shared":
            place.chmod(0o770)
        case "link":
            made.rename(made.with_suffix(".real"))
            made.symlink_to(made.with_suffix(".real"))
        case "linked":
            made.with_suffix(".second").hardlink_to(made)
        case "open":
            made.chmod(0o640)
        case "no directory":
            place.rename(place.with_suffix(".real"))
            place.symlink_to(place.with_suffix(".real"))
        case "fifo":
            made.unlink()
            os.mkfifo(made, 0o600)
    with opened(root) as mailbox, indexed(mailbox, place) as index:
        assert index.status().path is None
        check(index, mailbox)
    if trouble != "fifo":
        assert made.read_bytes() == before


@pytest.mark.superuser
def test_an_index_of_another_uid(open_tmp: Path) -> None:
    """bob neither reads nor uses root's, wherever it is and however it came there."""
    root = open_tmp / "Maildir"
    fill(root, some(10))
    for path in (root, *root.rglob("*")):
        os.chown(path, BOB, BOBS_GROUP)
    with opened(root) as mailbox, indexed(mailbox, open_tmp / "roots"):
        pass
    bobs = open_tmp / "bobs"
    bobs.mkdir(mode=0o700)
    os.chown(bobs, BOB, BOBS_GROUP)
    shutil.copy(open_tmp / "roots" / NAME, bobs / NAME)  # belongs to root
    (bobs / NAME).chmod(0o600)

    def as_bob() -> None:
        for directory in (open_tmp / "roots", bobs):
            with opened(root) as mailbox, indexed(mailbox, directory) as index:
                assert index.status().path is None
                check(index, mailbox)
        with pytest.raises(PermissionError):
            (open_tmp / "roots" / NAME).read_bytes()
        with opened(root) as mailbox, indexed(mailbox, bobs / "own") as index:
            assert index.status().path == bobs / "own" / NAME

    run_as(BOB, BOBS_GROUP, [], as_bob)
