"""A Maildir that other programs change meanwhile: deliver, rename, remove, at any time."""

import contextlib
import logging
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sharefs.errors import Code, SharingError
from sharefs.flags import NO_FLAGS, FlagChange, FlagOp, FlagSet, System
from sharefs.store.interface import Changes
from sharefs.store.maildir import MaildirConfig, MaildirMailbox, MaildirStorage
from sharefs.store.maildir import directory as directory_module
from sharefs.store.maildir.directory import Directory
from tests.store.contract import HELLO, INBOX, SEEN, add, message, refusal, uids

ADD_SEEN = FlagChange(FlagOp.ADD, SEEN)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "Maildir"


@pytest.fixture
def storage(root: Path) -> MaildirStorage:
    return MaildirStorage(MaildirConfig(root))


@pytest.fixture
def inbox(storage: MaildirStorage) -> Iterator[MaildirMailbox]:
    with contextlib.closing(storage.open(INBOX)) as mailbox:
        mailbox.sync()
        yield mailbox


def deliver(root: Path, name: str, content: bytes = b"Subject: x\n\nhi\n", to: str = "new") -> Path:
    """As any MDA does: write to tmp/, rename."""
    temp = root / "tmp" / name.replace(":", "_")
    temp.write_bytes(content)
    return temp.rename(root / to / name)


def wait_until_settled(mailbox: MaildirMailbox) -> None:
    deadline = time.monotonic() + 10
    while mailbox.settles_in() is not None or not mailbox.looks_unchanged():
        time.sleep(mailbox.settles_in() or 0.01)
        mailbox.sync()
        assert time.monotonic() < deadline


# --- deliveries ------------------------------------------------------------------------------


def test_deliveries_get_uids_in_the_order_of_arrival(root: Path, inbox: MaildirMailbox) -> None:
    for name in ("30.M1P1.h", "20.M900P1.h", "20.M1000P1.h", "100.M1P1.h"):
        deliver(root, name)
    assert inbox.sync()
    bases = [inbox.picture.base_of[uid] for uid in inbox.uids()]
    assert list(inbox.uids()) == [1, 2, 3, 4]
    assert bases == ["20.M900P1.h", "20.M1000P1.h", "30.M1P1.h", "100.M1P1.h"]
    assert inbox.recent(claim=False) == {1, 2, 3, 4}


def test_messages_that_appear_in_cur(root: Path, inbox: MaildirMailbox) -> None:
    deliver(root, "1.a.h:2,FS", to="cur")
    deliver(root, "2.a.h", to="cur")
    assert uids(inbox) == [1, 2]
    assert inbox.flags_of(1).system == System.FLAGGED | System.SEEN
    assert inbox.recent(claim=True) == frozenset()


def test_two_deliveries_in_one_tick(root: Path, inbox: MaildirMailbox) -> None:
    for number in range(20):
        deliver(root, f"{number}.a.h")
        assert len(uids(inbox)) == number + 1


def test_what_is_no_message_is_ignored(root: Path, inbox: MaildirMailbox) -> None:
    for name in (".hidden", ":2,S", ".nfs0001:2,S", "line\nbreak", "good"):
        deliver(root, name, to="cur")
    (root / "new" / ".dot").touch()
    assert uids(inbox) == [1]
    assert inbox.picture.base_of == {1: "good"}


def test_odd_names_that_look_like_infos(root: Path, inbox: MaildirMailbox) -> None:
    names = ["2,S", "a:2,x:2,S", "b", "c:2,", "2,S:2,F", "x:y", "caf\u00e9:2,S", "\udcff:2,"]
    for name in names:
        deliver(root, name, to="cur")
    assert len(uids(inbox)) == 7  # "2,S" and "2,S:2,F" have one base
    for uid in inbox.uids():
        assert inbox.read(uid).startswith(b"Subject: x\r\n")


def test_not_regular_files_do_not_hang(root: Path, inbox: MaildirMailbox) -> None:
    os.mkfifo(root / "cur" / "1.fifo.h:2,")
    (root / "cur" / "2.dir.h:2,").mkdir()
    (root / "cur" / "3.link.h:2,").symlink_to("/etc/passwd")
    assert uids(inbox) == [1, 2, 3]
    for uid in inbox.uids():
        with refusal(Code.CORRUPT):
            inbox.read(uid)


# --- others rename and remove ----------------------------------------------------------------


def test_renamed_between_listing_and_opening(root: Path, inbox: MaildirMailbox) -> None:
    path = deliver(root, "1.a.h")
    assert uids(inbox) == [1]
    path = path.rename(root / "cur" / "1.a.h:2,")
    assert inbox.read(1) == b"Subject: x\r\n\r\nhi\r\n"
    path = path.rename(root / "cur" / "1.a.h:2,R")
    assert inbox.info(1).size == 18
    path.rename(root / "cur" / "1.a.h:2,RF")
    assert inbox.store_flags([1], ADD_SEEN) == [1]
    assert (root / "cur" / "1.a.h:2,FRS").exists()
    (root / "cur" / "1.a.h:2,FRS").rename(root / "cur" / "1.a.h:2,F")
    assert inbox.expunge([1]) == [1]
    assert list((root / "cur").iterdir()) == []


def test_letters_of_other_programs_stay(root: Path, inbox: MaildirMailbox) -> None:
    deliver(root, "1.a.h:2,PZ,more", to="cur")
    assert uids(inbox) == [1]
    inbox.store_flags([1], ADD_SEEN)
    assert (root / "cur" / "1.a.h:2,PSZ,more").exists()


def test_a_removed_message_is_gone(root: Path, inbox: MaildirMailbox) -> None:
    paths = [deliver(root, f"{number}.a.h") for number in range(3)]
    assert uids(inbox) == [1, 2, 3]
    generation = inbox.generation
    paths[1].unlink()
    assert inbox.sync()
    assert inbox.changes_since(generation) == Changes(expunged=(2,))
    assert inbox.store_flags([2], ADD_SEEN) == []
    assert inbox.expunge([2]) == []


def test_a_message_that_comes_back_gets_a_new_uid(root: Path, inbox: MaildirMailbox) -> None:
    path = deliver(root, "1.a.h")
    deliver(root, "2.a.h")
    assert uids(inbox) == [1, 2]
    path = path.rename(root / "elsewhere")
    assert uids(inbox) == [2]
    path.rename(root / "cur" / "1.a.h:2,S")
    assert uids(inbox) == [2, 3]
    assert inbox.flags_of(3) == SEEN
    with contextlib.closing(MaildirStorage(inbox.site.config).open(INBOX)) as again:
        assert uids(again) == [2, 3]


def test_another_mailbox_object_follows_a_new_uid(
    root: Path, storage: MaildirStorage, inbox: MaildirMailbox
) -> None:
    path = deliver(root, "1.a.h")
    assert uids(inbox) == [1]
    with contextlib.closing(storage.open(INBOX)) as other:
        assert uids(other) == [1]
        path = path.rename(root / "elsewhere")
        assert uids(other) == []
        path.rename(root / "new" / "1.a.h")
        assert uids(other) == [2]
    assert uids(inbox) == [2]  # it never saw the file away, but the number is another


def test_the_same_base_in_new_and_cur_twice(root: Path, inbox: MaildirMailbox) -> None:
    deliver(root, "1.a.h", b"one\n")
    deliver(root, "1.a.h:2,S", b"two\n", to="cur")
    inbox.sync()
    assert len(uids(inbox)) == 2  # two messages: both are shown
    assert {inbox.read(uid) for uid in inbox.uids()} == {b"one\r\n", b"two\r\n"}


def test_two_flag_variants_of_one_base(root: Path, inbox: MaildirMailbox) -> None:
    deliver(root, "1.a.h:2,S", b"one\n", to="cur")
    deliver(root, "1.a.h:2,F", b"two\n", to="cur")
    inbox.sync()
    assert len(uids(inbox)) == 2
    assert {inbox.read(uid) for uid in inbox.uids()} == {b"one\r\n", b"two\r\n"}


def test_young_hard_links_of_one_file_are_a_move_in_progress(
    root: Path, inbox: MaildirMailbox
) -> None:
    path = deliver(root, "1.a.h")
    os.link(path, root / "cur" / "1.a.h:2,")
    assert uids(inbox) == [1]
    assert path.exists()


def test_keywords_named_by_another_program(root: Path, inbox: MaildirMailbox) -> None:
    deliver(root, "1.a.h:2,b", to="cur")
    assert uids(inbox) == [1]
    assert inbox.flags_of(1).keywords == {"unknown-1"}
    assert "unknown-1" in inbox.keywords()
    generation = inbox.generation
    (root / "dovecot-keywords").write_text("1 Later\n")
    assert inbox.sync()
    assert inbox.flags_of(1).keywords == {"Later"}
    assert inbox.changes_since(generation) == Changes(flags=(1,))


def test_a_new_keyword_never_takes_a_letter_in_use(root: Path, inbox: MaildirMailbox) -> None:
    deliver(root, "1.a.h:2,a", to="cur")
    deliver(root, "2.a.h:2,", to="cur")
    assert uids(inbox) == [1, 2]
    inbox.store_flags([2], FlagChange(FlagOp.ADD, FlagSet(keywords=frozenset({"New"}))))
    assert inbox.flags_of(1).keywords == {"unknown-0"}
    assert inbox.flags_of(2).keywords == {"New"}
    assert (root / "dovecot-keywords").read_text() == "1 New\n"


def test_the_mtime_of_the_keywords_file_grows(root: Path, inbox: MaildirMailbox) -> None:
    add(inbox, HELLO)
    inbox.sync()
    times = []
    for name in ("one", "two", "three"):
        inbox.store_flags([1], FlagChange(FlagOp.ADD, FlagSet(keywords=frozenset({name}))))
        times.append(int((root / "dovecot-keywords").stat().st_mtime))
    assert times[0] < times[1] < times[2]


def test_the_27th_keyword(inbox: MaildirMailbox, caplog: pytest.LogCaptureFixture) -> None:
    add(inbox, HELLO)
    inbox.sync()
    names = frozenset(f"kw{number}" for number in range(26))
    inbox.store_flags([1], FlagChange(FlagOp.ADD, FlagSet(keywords=names)))
    assert not inbox.can_add_keywords()
    with refusal(Code.LIMIT):
        inbox.store_flags([1], FlagChange(FlagOp.ADD, FlagSet(keywords=frozenset({"more"}))))
    [uid] = add(inbox, HELLO, flags=FlagSet(System.SEEN, frozenset({"more", "KW3"})))
    inbox.sync()
    assert inbox.flags_of(uid) == FlagSet(System.SEEN, frozenset({"kw3"}))
    assert "more" in caplog.text


# --- what costs nothing ----------------------------------------------------------------------


def test_a_quiet_mailbox_is_not_listed(
    inbox: MaildirMailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(inbox, HELLO)
    wait_until_settled(inbox)

    def listdir(path: object) -> list[str]:
        raise AssertionError(f"listed {path}")

    monkeypatch.setattr(os, "listdir", listdir)
    assert inbox.looks_unchanged()
    assert not inbox.sync()
    assert inbox.settles_in() is None


def test_opening_for_delivery_lists_nothing(
    storage: MaildirStorage, inbox: MaildirMailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(inbox, HELLO)
    monkeypatch.setattr(os, "listdir", lambda path: pytest.fail(f"listed {path}"))
    with contextlib.closing(storage.open(INBOX)) as target:
        assert add(target, HELLO) == [2]
        assert target.uidvalidity == inbox.uidvalidity


def test_a_change_in_the_tick_of_the_look_is_found_later(tmp_path: Path) -> None:
    """The mtime may stay the same; a look is trusted only when that is over."""
    now = [1000.0]
    directory = Directory(tmp_path, clock=lambda: now[0], timer=lambda: now[0])
    stamp = 1000 * 10**9 + 123456789
    os.utime(tmp_path, ns=(stamp, stamp))
    assert directory.needs_look()
    directory.look()
    assert directory.needs_look()  # too early to tell
    (tmp_path / "x").touch()
    os.utime(tmp_path, ns=(stamp, stamp))
    now[0] += 0.06
    assert directory.needs_look()
    assert set(directory.look().files) == {"x"}
    assert not directory.needs_look()
    assert directory.settles_in() is None


def test_a_coarse_clock_is_given_a_second(tmp_path: Path) -> None:
    now = [1000.2]
    directory = Directory(tmp_path, clock=lambda: now[0], timer=lambda: now[0])
    os.utime(tmp_path, (1000, 1000))
    directory.look()
    now[0] += 0.5
    directory.look()
    assert directory.needs_look()
    now[0] += 0.6
    directory.look()
    assert not directory.needs_look()


def test_a_clock_in_the_future_is_believed_in_the_end(tmp_path: Path) -> None:
    now = [1000.0]
    directory = Directory(tmp_path, clock=lambda: now[0], timer=lambda: now[0])
    os.utime(tmp_path, ns=(0, 5000 * 10**9 + 5))
    directory.look()
    assert directory.needs_look()
    now[0] += 0.1
    directory.look()
    assert not directory.needs_look()


# --- missing and unwritable things -----------------------------------------------------------


def test_a_mailbox_made_again_within_the_second_is_another(
    root: Path, storage: MaildirStorage, inbox: MaildirMailbox
) -> None:
    """UIDVALIDITY is a time and may be the same; the GUID is not."""
    add(inbox, HELLO)
    inbox.sync()
    shutil.rmtree(root)
    storage.create(INBOX)
    with contextlib.closing(storage.open(INBOX)) as again:
        add(again, HELLO)
        again.sync()
        lines = (root / "dovecot-uidlist").read_text()
        lines = lines.replace(f"V{again.uidvalidity}", f"V{inbox.uidvalidity}", 1)
        (root / "dovecot-uidlist").write_text(lines)
    with refusal(Code.NONEXISTENT):
        inbox.sync()


def test_a_lost_list_means_another_mailbox(root: Path, inbox: MaildirMailbox) -> None:
    add(inbox, HELLO)
    inbox.sync()
    (root / "dovecot-uidlist").unlink()
    with refusal(Code.NONEXISTENT):
        inbox.sync()


@pytest.mark.parametrize("name", ["cur", "new", "tmp"])
def test_missing_directories_are_made_again_by_who_opens_next(
    root: Path, storage: MaildirStorage, name: str
) -> None:
    with contextlib.closing(storage.open(INBOX)) as mailbox:
        mailbox.sync()
    (root / name).rmdir()
    with contextlib.closing(storage.open(INBOX)) as mailbox:
        add(mailbox, HELLO)
        assert uids(mailbox) == [1]
    assert (root / name).is_dir()


@pytest.mark.parametrize("name", ["cur", "new"])
def test_a_removal_under_way_is_not_undone(root: Path, inbox: MaildirMailbox, name: str) -> None:
    """`rm -r` must not fail because an idling session made a directory anew behind it."""
    (root / name).rmdir()
    with refusal(Code.NONEXISTENT):
        inbox.sync()
    assert not (root / name).exists()


def test_a_dead_lock_holder_does_not_stop_us(root: Path, inbox: MaildirMailbox) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    lock = root / "dovecot-uidlist.lock"
    lock.write_text(f"{child.pid}:{os.uname().nodename}")
    os.utime(lock, (time.time() - 10, time.time() - 10))
    deliver(root, "1.a.h")
    assert uids(inbox) == [1]


def test_locked_by_the_living_new_messages_wait(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = MaildirStorage(MaildirConfig(root, lock_timeout=0.2))
    inbox = storage.open(INBOX)
    add(inbox, HELLO)
    assert uids(inbox) == [1]
    lock = root / "dovecot-uidlist.lock"
    lock.write_text(f"{os.getppid()}:{os.uname().nodename}")
    deliver(root, "1.a.h")
    assert uids(inbox) == [1]
    assert "stay hidden" in caplog.text
    lock.unlink()
    assert uids(inbox) == [1, 2]


def test_too_high_uids(root: Path, inbox: MaildirMailbox) -> None:
    path = root / "dovecot-uidlist"
    header = path.read_text().split("\n")[0]
    words = [word if word[0] != "N" else f"N{2**32 - 2}" for word in header.split(" ")]
    path.write_text(" ".join(words) + "\n")
    deliver(root, "1.a.h")
    deliver(root, "2.a.h")
    with refusal(Code.LIMIT):
        inbox.sync()


def test_an_older_list_gives_no_uid_twice(root: Path, inbox: MaildirMailbox) -> None:
    """As after restoring a backup: what clients saw keeps its meaning, and nothing is hidden."""
    deliver(root, "1.a.h")
    inbox.sync()
    backup = (root / "dovecot-uidlist").read_bytes()
    deliver(root, "2.a.h")
    inbox.sync()
    seen = list(inbox.uids())
    (root / "dovecot-uidlist").write_bytes(backup)
    inbox.sync()
    assert len(inbox.uids()) == 2
    assert inbox.uids()[0] == seen[0]
    assert inbox.uids()[1] > seen[1]
    assert add(inbox, b"Subject: y\r\n\r\n")[0] > inbox.uids()[1]


def test_tmp_is_swept_after_36_hours(root: Path, inbox: MaildirMailbox) -> None:
    from sharefs.store.maildir.saver import sweep_tmp

    (root / "tmp" / "old").touch()
    now = time.time()
    sweep_tmp(str(root / "tmp"), now=now + 37 * 3600)
    assert not (root / "tmp" / "old").exists()
    (root / "tmp" / "young").touch()
    sweep_tmp(str(root / "tmp"), now=now + 9 * 3600)
    assert (root / "tmp" / "young").exists()


# --- attackers -------------------------------------------------------------------------------


class Renamer(threading.Thread):
    """Changes flags of random messages as another program would, until told to stop."""

    def __init__(self, root: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self._cur = str(root / "cur")
        self._random = random.Random(seed)
        self.done = threading.Event()
        self.renames = 0

    def run(self) -> None:
        while not self.done.is_set():
            names = os.listdir(self._cur)
            for name in self._random.sample(names, min(20, len(names))):
                base = name.partition(":")[0]
                flags = "".join(sorted(self._random.sample("DFRST", self._random.randrange(6))))
                with contextlib.suppress(FileNotFoundError):
                    os.rename(f"{self._cur}/{name}", f"{self._cur}/{base}:2,{flags}")
                    self.renames += 1


def test_nothing_is_reported_gone_while_others_rename(root: Path, inbox: MaildirMailbox) -> None:
    for number in range(300):
        deliver(root, f"{number}.a.h:2,", to="cur")
    want = uids(inbox)
    assert len(want) == 300
    attacker = Renamer(root, seed=1)
    attacker.start()
    try:
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            inbox.sync()
            assert list(inbox.uids()) == want
            for uid in random.sample(want, 5):
                assert inbox.read(uid) == b"Subject: x\r\n\r\nhi\r\n"
            inbox.store_flags(random.sample(want, 5), ADD_SEEN)
    finally:
        attacker.done.set()
        attacker.join()
    assert attacker.renames > 100
    inbox.sync()
    names = {name.partition(":")[0]: name for name in os.listdir(root / "cur")}
    assert len(names) == 300
    for uid in want:
        letters = names[inbox.picture.base_of[uid]].partition(":2,")[2]
        assert (System.SEEN in inbox.flags_of(uid).system) == ("S" in letters)


WRITER = """
import sys
from pathlib import Path
from sharefs.flags import NO_FLAGS
from sharefs.store.maildir import Fsync, MaildirConfig, MaildirStorage

root, count, tag = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
inbox = MaildirStorage(MaildirConfig(root, fsync=Fsync.NEVER)).open(("INBOX",))
for number in range(count):
    with inbox.saver() as saver:
        saver.begin(NO_FLAGS, number)
        saver.write(f"Subject: {tag} {number}\\r\\n\\r\\n".encode())
        saver.finish()
        print(saver.commit()[0], f"{tag} {number}", flush=True)
"""


def start_writer(root: Path, count: int, tag: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), str(count), tag],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip


@pytest.mark.slow
def test_many_writers_and_deliverers_agree_on_uids(root: Path, inbox: MaildirMailbox) -> None:
    writers = [start_writer(root, 60, tag) for tag in ("one", "two", "three")]
    seen: dict[int, str] = {}
    delivered = 0
    high = 0
    while any(writer.poll() is None for writer in writers) or delivered < 40:
        if delivered < 40:
            deliver(root, f"{delivered}.mda.h", f"Subject: mda {delivered}\n\n".encode())
            delivered += 1
        generation = inbox.generation
        inbox.sync()
        changes = inbox.changes_since(generation)
        assert changes.expunged == ()
        assert all(uid > high for uid in changes.added)
        high = max([high, *inbox.uids()])
        inbox.recent(claim=True)
    acknowledged: dict[int, str] = {}
    for writer in writers:
        output, _ = writer.communicate()
        assert writer.returncode == 0
        for line in output.splitlines():
            uid, _, subject = line.partition(" ")
            assert int(uid) not in acknowledged
            acknowledged[int(uid)] = subject
    assert len(uids(inbox)) == 3 * 60 + 40
    for message_uid in inbox.uids():
        subject = inbox.read(message_uid).decode().split("\r\n")[0]
        seen[message_uid] = subject.removeprefix("Subject: ")
    assert {uid: seen[uid] for uid in acknowledged} == acknowledged
    assert sum(subject.startswith("mda") for subject in seen.values()) == 40


@pytest.mark.slow
def test_killing_writers_loses_no_acknowledged_message(root: Path, inbox: MaildirMailbox) -> None:
    acknowledged: dict[int, str] = {}
    for attempt in range(5):
        writer = start_writer(root, 100_000, f"run{attempt}")
        assert writer.stdout is not None
        lines = [writer.stdout.readline()]
        time.sleep(0.02 + 0.013 * attempt)
        writer.kill()
        lines += writer.stdout.readlines()
        writer.wait()
        writer.stdout.close()
        for line in lines:
            if line.endswith("\n"):
                uid, _, subject = line.strip().partition(" ")
                assert int(uid) not in acknowledged
                acknowledged[int(uid)] = subject
        inbox.sync()  # breaks the dead writer's lock
    found = {
        uid: inbox.read(uid).decode().split("\r\n")[0].removeprefix("Subject: ")
        for uid in uids(inbox)
    }
    assert {uid: found.get(uid) for uid in acknowledged} == acknowledged
    assert len(set(found.values())) == len(found)  # none twice
    assert all(inbox.read(uid).endswith(b"\r\n\r\n") for uid in found)  # none in part


def test_a_full_disk_while_listing_takes_everything_back(
    root: Path, inbox: MaildirMailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(inbox, HELLO)
    inbox.sync()

    def full_disk(records: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(inbox.picture.list, "add", full_disk)
    with pytest.raises(OSError, match="No space"):
        add(inbox, message(1), message(2), flags=SEEN)
    monkeypatch.undo()
    assert uids(inbox) == [1]
    assert os.listdir(root / "tmp") == []
    assert not (root / "dovecot-uidlist.lock").exists()


def test_the_log_says_why_messages_stay_hidden(
    root: Path, inbox: MaildirMailbox, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def read_only(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(inbox.picture.list, "lock", read_only)
    deliver(root, "1.a.h")
    with caplog.at_level(logging.WARNING):
        assert uids(inbox) == []
        assert uids(inbox) == []
    assert caplog.text.count("Read-only file system") == 1
    monkeypatch.undo()
    assert uids(inbox) == [1]


def test_an_unwritable_mailbox_without_a_list(
    root: Path, storage: MaildirStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Empty, it shows what it has; messages without UIDs would make it look empty, so it does not
    open until somebody has numbered them, and then nobody was told a wrong UIDVALIDITY."""
    storage.create(INBOX)
    empty, inbox = (storage.open(INBOX, readonly=True) for _ in range(2))

    def read_only(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    for mailbox in (empty, inbox):
        monkeypatch.setattr(mailbox.picture.list, "lock", read_only)
    for _ in range(3):
        assert (uids(empty), empty.uidvalidity) == ([], 1)
    deliver(root, "1.a.h")
    assert uids(empty) == []
    for _ in range(2):
        with refusal(Code.UNAVAILABLE) as refused:
            inbox.sync()
        assert "has 1 messages that nobody has given UIDs" in refused.value.detail
        with refusal(Code.UNAVAILABLE):
            assert inbox.uidvalidity
    assert not (root / "dovecot-uidlist").exists()
    monkeypatch.undo()
    with contextlib.closing(storage.open(INBOX)) as other:
        assert uids(other) == [1]
        assert other.uidvalidity > 1
        assert (uids(inbox), inbox.uidvalidity) == ([1], other.uidvalidity)
    with refusal(Code.NONEXISTENT):
        empty.sync()  # now that there are numbers, it is another mailbox
    assert uids(storage.open(INBOX, readonly=True)) == [1]


def test_a_list_that_comes_back_finds_its_readers(
    root: Path, storage: MaildirStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody moved it away for a moment: a reader is refused, and not told of a new mailbox."""
    storage.create(INBOX)
    deliver(root, "1.a.h")
    with contextlib.closing(storage.open(INBOX)) as writer:
        want = (uids(writer), writer.uidvalidity)
    (root / "dovecot-uidlist").rename(root / "aside")
    reader = storage.open(INBOX, readonly=True)
    with monkeypatch.context() as patched:
        patched.setattr(reader.picture.list, "lock", _denied)
        with refusal(Code.UNAVAILABLE):
            reader.sync()
    (root / "aside").rename(root / "dovecot-uidlist")
    assert (uids(reader), reader.uidvalidity) == want


def _denied(**_: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_examining_gives_numbers_to_new_arrivals(root: Path, storage: MaildirStorage) -> None:
    storage.create(INBOX)
    deliver(root, "1.a.h")
    inbox = storage.open(INBOX, readonly=True)
    assert uids(inbox) == [1]
    assert os.listdir(root / "new") == ["1.a.h"]


def test_a_list_of_the_dead_is_rewritten(root: Path, inbox: MaildirMailbox) -> None:
    add(inbox, *[HELLO] * 80)
    inbox.sync()
    inbox.expunge(range(1, 76))
    wait_until_settled(inbox)
    inbox.sync()
    lines = (root / "dovecot-uidlist").read_text().splitlines()
    assert [line.partition(" ")[0] for line in lines[1:]] == ["76", "77", "78", "79", "80"]
    assert add(inbox, HELLO) == [81]
    assert uids(inbox) == [76, 77, 78, 79, 80, 81]


def test_deleted_while_flags_are_stored(root: Path, storage: MaildirStorage) -> None:
    storage.create(("Work",))
    work = storage.open(("Work",))
    add(work, HELLO)
    assert uids(work) == [1]
    storage.delete(("Work",))
    for act in (
        lambda: work.store_flags([1], ADD_SEEN),
        lambda: work.expunge([1]),
        lambda: work.recent(claim=True),
        lambda: work.read(1),
    ):
        with refusal(Code.NONEXISTENT):
            act()


def test_a_keyword_of_old_costs_no_listing(
    storage: MaildirStorage, inbox: MaildirMailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled = FlagSet(keywords=frozenset({"$Label1"}))
    add(inbox, HELLO, flags=labelled)
    monkeypatch.setattr(os, "listdir", lambda path: pytest.fail(f"listed {path}"))
    with contextlib.closing(storage.open(INBOX)) as target:
        assert add(target, HELLO, flags=labelled) == [2]


def test_flags_given_while_new(root: Path, inbox: MaildirMailbox) -> None:
    deliver(root, "1.a.h")
    assert uids(inbox) == [1]
    assert inbox.store_flags([1], FlagChange(FlagOp.REMOVE, SEEN)) == []
    assert inbox.recent(claim=False) == {1}
    assert inbox.store_flags([1], ADD_SEEN) == [1]
    assert (root / "cur" / "1.a.h:2,S").exists()
    assert inbox.recent(claim=False) == frozenset()
    with pytest.raises(SharingError):
        inbox.read(2)
    assert inbox.flags_of(1) != NO_FLAGS


def test_own_changes_need_no_second_look_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then sync() would do nothing, and looks_unchanged() says so, but not of others'."""
    monkeypatch.setattr(directory_module, "LOOK_SHARE", 10**9)  # until LOOK_WAIT
    for name in ("cur", "new", "tmp"):
        (tmp_path / name).mkdir()
    letter = tmp_path / "cur" / "1.M1P1.x:2,"
    letter.write_bytes(b"\n")
    with contextlib.closing(MaildirStorage(MaildirConfig(tmp_path)).open(("INBOX",))) as mailbox:
        mailbox.sync()
        while not mailbox.looks_unchanged():
            time.sleep(0.01)
            mailbox.sync()
        assert mailbox.memento() is not None
        assert mailbox.store_flags([1], FlagChange(FlagOp.ADD, FlagSet(System.SEEN))) == [1]
        assert mailbox.settles_in() is not None
        assert mailbox.looks_unchanged()
        assert not mailbox.sync()
        assert mailbox.memento() is None  # it could not tell what comes in the same tick
        letter.with_name("1.M1P1.x:2,S").rename(letter)
        assert not mailbox.looks_unchanged()
        assert mailbox.sync()
        assert mailbox.flags_of(1) == FlagSet()
