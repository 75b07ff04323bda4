"""Modification sequences: who asks for what changed since a number is told all of it, and no number
ever comes back."""

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sharefs.errors import Code, SharingError
from sharefs.flags import FlagChange, FlagOp, FlagSet, System
from sharefs.index import MailboxIndex, Modseqs, Shelf, database, number_rows, numbers
from sharefs.index.highest import recall
from sharefs.index.place import HIGHEST, RESERVE, drop
from sharefs.store.maildir import MaildirConfig, MaildirMailbox, MaildirStorage, keeping
from sharefs.store.private_seen import overlay
from tests.index.maildirs import age, file_of, fill, indexed, numbers_of, opened, statements

FLAGGED, SEEN = FlagSet(System.FLAGGED), FlagSet(System.SEEN)
MESSAGE = b"From: a@example.org\nSubject: x\n\nhello\n"


def add(flags: FlagSet) -> FlagChange:
    return FlagChange(FlagOp.ADD, flags)


def remove(flags: FlagSet) -> FlagChange:
    return FlagChange(FlagOp.REMOVE, flags)


def truth_of(mailbox: MaildirMailbox) -> dict[int, FlagSet]:
    return {uid: mailbox.flags_of(uid) for uid in mailbox.uids()}


class Client:
    """What a client with CONDSTORE and QRESYNC remembers of a mailbox."""

    def __init__(self) -> None:
        self.modseq = 0
        self.known: dict[int, FlagSet] = {}

    def resync(self, mailbox: MaildirMailbox, given: Modseqs) -> None:
        highest = given.note()
        assert highest >= self.modseq, "HIGHESTMODSEQ went back"
        vanished = given.vanished_since(self.modseq)
        if vanished is None:
            vanished = numbers.absent(mailbox.uids(), 1, mailbox.uidnext - 1)
        for first, last in vanished:
            for uid in range(first, last + 1):
                self.known.pop(uid, None)
        changed = given.changed_since(self.modseq)
        last_of = given.of(changed)
        assert all(self.modseq < last_of[uid] <= highest for uid in changed)
        for uid in changed:
            self.known[uid] = mailbox.flags_of(uid)
        self.modseq = highest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    fill(tmp_path / "Maildir", [MESSAGE] * 20)
    return tmp_path / "Maildir"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "index"


@contextlib.contextmanager
def numbered(root: Path, place: Path) -> Iterator[tuple[MaildirMailbox, Modseqs]]:
    """As a process would have them."""
    with opened(root) as mailbox, indexed(mailbox, place, complete=False) as index:
        yield mailbox, numbers_of(index)


# --- what moves them -------------------------------------------------------------------------


def test_only_what_changed_gets_a_new_number(root: Path, place: Path) -> None:
    with numbered(root, place) as (mailbox, given):
        first = given.note()
        assert given.changed_since(first) == []
        assert given.vanished_since(first) == []
        assert set(given.of(mailbox.uids()).values()) == {first}
        mailbox.store_flags([3, 5], add(FLAGGED))
        second = given.note()
        assert second > first
        assert given.changed_since(first) == [3, 5]
        assert given.of([2, 3, 5]) == {2: first, 3: second, 5: second}
        mailbox.expunge([5, 6, 9])
        third = given.note()
        assert third > second
        assert given.changed_since(first) == [3]
        assert given.vanished_since(first) == [(5, 6), (9, 9)]
        assert given.vanished_since(second) == [(5, 6), (9, 9)]
        assert given.vanished_since(third) == []
        fill(root, [MESSAGE], first=50)
        mailbox.sync()
        assert given.note() > third
        assert given.changed_since(third) == [21]


@pytest.mark.parametrize(
    "nothing",
    [
        pytest.param(lambda mailbox: None, id="nothing at all"),
        pytest.param(lambda mailbox: mailbox.store_flags([4], remove(FLAGGED)), id="no news"),
        pytest.param(lambda mailbox: mailbox.recent(claim=True), id="recent is taken"),
        pytest.param(
            lambda mailbox: [
                mailbox.store_flags([4], change) for change in (add(FLAGGED), remove(FLAGGED))
            ],
            id="there and back unseen",
        ),
    ],
)
def test_what_moves_none(root: Path, place: Path, nothing: Callable[[object], object]) -> None:
    (root / "new" / "1700000000.M1P1.host").write_bytes(MESSAGE)
    with numbered(root, place) as (mailbox, given):
        first = given.note()
        nothing(mailbox)
        assert given.note() == first
    with numbered(root, place) as (_, given):
        assert given.note() == first


def test_changes_while_nobody_looked(root: Path, place: Path) -> None:
    """By a shell, with no process of ours there."""
    with numbered(root, place) as (_, given):
        first = given.note()
    names = sorted(os.listdir(root / "cur"))
    os.rename(root / "cur" / names[0], root / "cur" / (names[0] + "FS"))
    os.unlink(root / "cur" / names[1])
    fill(root, [MESSAGE], first=70)
    with numbered(root, place) as (mailbox, given):
        last = given.note()
        assert given.changed_since(first) == [1, 21]
        assert given.vanished_since(first) == [(2, 2)]
        assert given.of([1, 21]) == {1: last, 21: last}
        assert list(mailbox.uids()) == [1, *range(3, 22)]


def test_a_message_that_came_and_went_while_nobody_asked(root: Path, place: Path) -> None:
    """Others may have shown it to the client, without numbers."""
    with numbered(root, place) as (mailbox, given):
        first = given.note()
        fill(root, [MESSAGE] * 2, first=70)
        mailbox.sync()
        mailbox.expunge([21])
        mailbox.expunge([22])
        assert given.note() > first
        assert given.vanished_since(first) == [(21, 22)]
        assert given.changed_since(first) == []


def test_a_keyword_that_gets_another_name(root: Path, place: Path) -> None:
    (root / "dovecot-keywords").write_text("0 Work\n")
    names = sorted(os.listdir(root / "cur"))
    os.rename(root / "cur" / names[6], root / "cur" / (names[6] + "a"))
    with numbered(root, place) as (mailbox, given):
        assert mailbox.flags_of(7).keywords == {"Work"}
        first = given.note()
    (root / "dovecot-keywords").write_text("0 Play\n")
    with numbered(root, place) as (_, given):
        given.note()
        assert given.changed_since(first) == [7]


def test_a_file_that_was_away_for_a_while(root: Path, place: Path) -> None:
    """It is back under its old UID, and nobody is told that this UID vanished."""
    name = sorted(os.listdir(root / "cur"))[2]
    with numbered(root, place) as (_, given):
        first = given.note()
    (root / "cur" / name).rename(root.parent / name)
    with numbered(root, place) as (_, given):
        second = given.note()
        assert given.vanished_since(first) == [(3, 3)]
    (root.parent / name).rename(root / "cur" / name)
    with numbered(root, place) as (mailbox, given):
        assert given.note() > second
        assert 3 in mailbox.uids()
        assert given.vanished_since(first) == []
        assert given.changed_since(second) == [3]


def test_the_seen_of_others_moves_nothing(root: Path, place: Path, tmp_path: Path) -> None:
    """Each viewer has his own \\Seen, and numbers of his own for it."""
    with contextlib.ExitStack() as stack:
        viewers = []
        for name in ("ann", "bob"):
            shared = stack.enter_context(opened(root))
            mailbox = overlay(shared, tmp_path / name / "seen", public=False)
            index = MailboxIndex.open(mailbox, [tmp_path / name / "index"], label=name)
            stack.enter_context(contextlib.closing(index))
            viewers.append((mailbox, numbers_of(index)))
        (anns, for_ann), (bobs, for_bob) = viewers
        before = for_ann.note(), for_bob.note()
        anns.store_flags([4], add(SEEN))
        bobs.sync()
        assert for_ann.note() > before[0]
        assert for_ann.changed_since(before[0]) == [4]
        assert for_bob.note() == before[1]
        with opened(root) as owners:  # the \Seen in the file names is the owner's
            owners.store_flags([8], add(SEEN))
        after = for_ann.note(), for_bob.note()
        for mailbox, _ in viewers:
            mailbox.sync()
        assert (for_ann.note(), for_bob.note()) == after
        anns.store_flags([8], add(FlagSet(System.ANSWERED)))
        bobs.sync()
        assert for_bob.note() > after[1]
        assert for_bob.changed_since(after[1]) == [8]


# --- numbers never go back -------------------------------------------------------------------


def overwritten(place: Path) -> None:
    file_of(place).write_bytes(b"x" * 5000)


def flipped(place: Path) -> None:
    octets = bytearray(file_of(place).read_bytes())
    for at in range(5000, len(octets), 97):
        octets[at] ^= 0x40
    file_of(place).write_bytes(octets)


@pytest.mark.parametrize(
    "lose",
    [
        pytest.param(lambda place: file_of(place).unlink(), id="removed"),
        pytest.param(drop, id="dropped"),
        pytest.param(overwritten, id="overwritten"),
        pytest.param(flipped, id="octets flipped"),
        pytest.param(lambda place: file_of(place).write_bytes(b""), id="emptied"),
    ],
)
@pytest.mark.parametrize("clock", [0, -86_400_000], ids=["clock goes on", "clock a day back"])
def test_a_lost_index(
    root: Path,
    place: Path,
    lose: Callable[[Path], object],
    clock: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = Client()
    with numbered(root, place) as (mailbox, given):
        client.resync(mailbox, given)
        mailbox.store_flags([1], add(FLAGGED))
        mailbox.expunge([2])
        client.resync(mailbox, given)
    lose(place)
    now = database.clock_modseq
    monkeypatch.setattr(database, "clock_modseq", lambda: now() + clock)
    with numbered(root, place) as (mailbox, given):
        mailbox.store_flags([1], remove(FLAGGED))
        mailbox.expunge([3])
        client.resync(mailbox, given)
        assert client.known == truth_of(mailbox)
    caplog.clear()


def test_the_whole_directory_is_lost(root: Path, place: Path) -> None:
    client = Client()
    with numbered(root, place) as (mailbox, given):
        client.resync(mailbox, given)
        mailbox.expunge([2])
        client.resync(mailbox, given)
    shutil.rmtree(place)
    with numbered(root, place) as (mailbox, given):
        mailbox.expunge([3])
        client.resync(mailbox, given)
        assert client.known == truth_of(mailbox)


@pytest.mark.parametrize("content", [b"", b"-5", b"many\n", b"9" * 60, b"\0" * 20])
def test_a_damaged_reserve_is_none(root: Path, place: Path, content: bytes) -> None:
    with numbered(root, place) as (_, given):
        first = given.note()
    drop(place)
    (place / RESERVE).write_bytes(content)
    with numbered(root, place) as (_, given):
        assert first <= given.note() < first + 10**9


def test_a_mailbox_that_is_no_more_leaves_no_reserve(root: Path, place: Path) -> None:
    with numbered(root, place) as (_, given):
        given.note()
    assert drop(place)
    assert (place / RESERVE).exists()
    drop(place, forget=True)
    assert not place.exists()


def test_the_clock_jumps(root: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    now = database.clock_modseq()
    with numbered(root, place) as (mailbox, given):
        for change, clock in enumerate((0, -(10**12), 10**12, 0, -(10**12))):
            monkeypatch.setattr(database, "clock_modseq", lambda: now + clock)  # noqa: B023 -- used in this round
            before = client.modseq
            mailbox.store_flags([1 + change], add(FLAGGED))
            client.resync(mailbox, given)
            assert client.modseq > before
    assert client.known == truth_of(mailbox)


def test_a_client_knows_a_higher_number(root: Path, place: Path) -> None:
    """Ours were lost with the clock set back: all messages are told anew, and vanished ones."""
    client = Client()
    with numbered(root, place) as (mailbox, given):
        client.resync(mailbox, given)
        mailbox.expunge([4])
        client.modseq = given.note() + 10**9
        highest = given.restart_above(client.modseq)
        assert highest > client.modseq
        assert given.vanished_since(client.modseq) is None
        assert given.changed_since(client.modseq) == list(mailbox.uids())
        client.resync(mailbox, given)
        assert client.known == truth_of(mailbox)
        assert list(given.problems()) == []


@pytest.mark.parametrize("claim", [0, 1, 1 << 62, (1 << 63) - 1], ids=str)
def test_claims_that_are_not_believed(root: Path, place: Path, claim: int) -> None:
    with numbered(root, place) as (_, given):
        highest = given.note()
        assert given.restart_above(claim) == highest
        assert given.note() == highest


def test_a_power_cut(root: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers are not waited for until they are on the disk; the next boot finds that out."""
    client = Client()
    with numbered(root, place) as (mailbox, given):
        client.resync(mailbox, given)
        mailbox.store_flags([1], add(FLAGGED))
        given.note()
        on_disk = file_of(place).read_bytes()
        mailbox.store_flags([2], add(FLAGGED))
        client.resync(mailbox, given)
        mailbox.store_flags([2], remove(FLAGGED))  # as it is kept in what survives
        given.note()
    file_of(place).write_bytes(on_disk)
    monkeypatch.setattr(database, "_this_boot", lambda: 12345)
    with numbered(root, place) as (mailbox, given):
        client.resync(mailbox, given)
        assert client.known == truth_of(mailbox)


def test_a_reboot_without_a_power_cut(
    root: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was closed is on the disk, and nobody has to look again."""
    with numbered(root, place) as (mailbox, given):
        first = given.note()
        mailbox.store_flags([1], add(FLAGGED))
        last = given.note()
    monkeypatch.setattr(database, "_this_boot", lambda: 12345)
    with numbered(root, place) as (_, given):
        assert given.note() == last
        assert given.changed_since(first) == [1]


def test_two_processes_end_one_after_the_other(
    root: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one to end says that all is on the disk; what the other writes then is not."""
    client = Client()
    with numbered(root, place) as (mailbox, given):
        client.resync(mailbox, given)
        with numbered(root, place) as (others, theirs):
            others.store_flags([1], add(FLAGGED))
            theirs.note()
        mailbox.sync()
        mailbox.store_flags([2], add(FLAGGED))
        client.resync(mailbox, given)
        on_disk = file_of(place).read_bytes()
        mailbox.store_flags([3], add(FLAGGED))
        client.resync(mailbox, given)
        mailbox.store_flags([3], remove(FLAGGED))
        given.note()
    file_of(place).write_bytes(on_disk)
    monkeypatch.setattr(database, "_this_boot", lambda: 12345)
    with numbered(root, place) as (mailbox, given):
        client.resync(mailbox, given)
        assert client.known == truth_of(mailbox)


# --- what is remembered is bounded -----------------------------------------------------------


@pytest.mark.parametrize(("rows", "octets"), [(3, 1 << 20), (4096, 30)], ids=["number", "size"])
def test_old_vanished_messages_are_forgotten(
    root: Path, place: Path, rows: int, octets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(number_rows, "VANISHED_ROWS", rows)
    monkeypatch.setattr(number_rows, "VANISHED_OCTETS", octets)
    with numbered(root, place) as (mailbox, given):
        asked = [given.note()]
        for uid in range(2, 12, 2):
            mailbox.expunge([uid])
            asked.append(given.note())
        answers = [given.vanished_since(modseq) for modseq in asked]
        assert answers[0] is None
        assert answers[-1] == []
        assert answers[-2] == [(10, 10)]
        remembered = [answer for answer in answers if answer is not None]
        assert len(remembered) == (4 if rows == 3 else 3)
        client = Client()
        client.known = dict.fromkeys(range(1, 21), FlagSet())
        client.modseq = asked[0]
        client.resync(mailbox, given)
        assert client.known == truth_of(mailbox)


def test_in_memory_there_are_none(root: Path) -> None:
    """They would be lost with the process: NOMODSEQ."""
    with opened(root) as mailbox, indexed(mailbox, None) as index:
        assert index.modseqs() is None


def test_a_busy_file_is_a_refusal(root: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_PATIENCE", 0.05)
    with numbered(root, place) as (mailbox, given), numbered(root, place) as (_, others):
        first = given.note()
        sql = others._database.sql  # the other process's
        sql.execute("BEGIN IMMEDIATE")
        mailbox.store_flags([1], add(FLAGGED))
        with pytest.raises(SharingError) as refused:
            given.note()
        assert refused.value.code is Code.UNAVAILABLE
        sql.execute("ROLLBACK")
        assert given.note() > first
        assert given.changed_since(first) == [1]


# --- the law ---------------------------------------------------------------------------------


class Resyncing(RuleBasedStateMachine):
    """Two processes of one uid and a shell change a mailbox; clients resync whenever they like."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()

    @initialize(count=st.integers(0, 5))
    def begin(self, count: int) -> None:
        tmp = self.stack.enter_context(_directory())
        self.root, self.place = tmp / "Maildir", tmp / "index"
        self.files = 0
        self._fill(count)
        self.clients = [Client(), Client()]
        self.processes = [self._process(), self._process()]

    def _process(self) -> tuple[contextlib.ExitStack, MaildirMailbox, MailboxIndex]:
        stack = contextlib.ExitStack()
        mailbox = stack.enter_context(opened(self.root, self.place))
        left = recall([self.place], mailbox)
        generation = mailbox.generation
        if left is not None:  # a client that selects now hears of nothing else
            _, highest = left
            assert all(highest.modseq >= client.modseq for client in self.clients)
            self.clients[0].modseq = highest.modseq
            self.clients[0].known = truth_of(mailbox)
        index = stack.enter_context(indexed(mailbox, self.place, complete=False))
        if left is not None:
            numbers_of(index).resume(generation, highest.modseq)
        self.stack.callback(stack.close)
        return stack, mailbox, index

    @rule(who=st.integers(0, 1), noting=st.booleans())
    def rests(self, who: int, noting: bool) -> None:
        """What the process knows is kept for the next one."""
        _, mailbox, index = self.processes[who]
        age(self.root)
        mailbox.sync()
        if noting:
            numbers_of(index).note()
        mailbox.put_away()
        index.put_away()

    def _fill(self, count: int) -> None:
        fill(self.root, [MESSAGE] * count, first=self.files)
        self.files += count

    @rule(
        who=st.integers(0, 1),
        at=st.integers(0, 9),
        on=st.booleans(),
        which=st.sampled_from((FLAGGED, SEEN, FlagSet(keywords=frozenset({"Work"})))),
    )
    def store(self, who: int, at: int, on: bool, which: FlagSet) -> None:
        _, mailbox, _ = self.processes[who]
        if uids := mailbox.uids():
            mailbox.store_flags([uids[at % len(uids)]], add(which) if on else remove(which))

    @rule(who=st.integers(0, 1), at=st.integers(0, 9))
    def expunge(self, who: int, at: int) -> None:
        _, mailbox, _ = self.processes[who]
        if uids := mailbox.uids():
            mailbox.expunge([uids[at % len(uids)]])

    @rule(count=st.integers(1, 3))
    def deliver(self, count: int) -> None:
        self._fill(count)

    @rule(at=st.integers(0, 9))
    def shell_removes(self, at: int) -> None:
        names = sorted(os.listdir(self.root / "cur"))
        if names:
            (self.root / "cur" / names[at % len(names)]).unlink()

    @rule(at=st.integers(0, 9), letter=st.sampled_from("SFR"))
    def shell_marks(self, at: int, letter: str) -> None:
        names = sorted(os.listdir(self.root / "cur"))
        if names:
            name = names[at % len(names)]
            base, _, letters = name.partition(":2,")
            turned = set(letters) ^ {letter}
            (self.root / "cur" / name).rename(
                self.root / "cur" / f"{base}:2,{''.join(sorted(turned))}"
            )

    @rule(who=st.integers(0, 1))
    def sync(self, who: int) -> None:
        self.processes[who][1].sync()

    @rule(who=st.integers(0, 1))
    def note(self, who: int) -> None:
        numbers_of(self.processes[who][2]).note()

    @rule(who=st.integers(0, 1))
    def process_ends(self, who: int) -> None:
        self.processes[who][0].close()
        self.processes[who] = self._process()

    @rule()
    def index_is_dropped(self) -> None:
        drop(self.place)

    @rule(who=st.integers(0, 1), client=st.integers(0, 1))
    def resync(self, who: int, client: int) -> None:
        _, mailbox, index = self.processes[who]
        mailbox.sync()
        client_ = self.clients[client]
        client_.resync(mailbox, numbers_of(index))
        assert client_.known == truth_of(mailbox)

    @invariant()
    def nothing_is_wrong(self) -> None:
        if self.stack and hasattr(self, "processes"):
            assert list(numbers_of(self.processes[0][2]).problems()) == []

    def teardown(self) -> None:
        self.stack.close()


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(autouse=True, scope="module")
def _every_mailbox_is_worth_keeping() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(keeping, "WORTH", 0)
        yield


TestResyncing = Resyncing.TestCase
TestResyncing.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_numbers_are_read_when_others_wrote_them(root: Path, place: Path) -> None:
    """Whoever is told a number is told all that happened up to it."""
    client = Client()
    with numbered(root, place) as (mine, given), numbered(root, place) as (others, theirs):
        client.resync(mine, given)
        theirs.note()
        others.store_flags([5], add(FLAGGED))
        theirs.note()
        changed = given.changed_since(client.modseq)
        assert changed == [5]
        assert mine.flags_of(5) == FLAGGED
        client.resync(mine, given)
        assert client.known == truth_of(others)


# --- numbers that are known to agree ---------------------------------------------------------


def rest(root: Path, place: Path) -> int:
    """A process numbers all, and writes down that it did.  Returns HIGHESTMODSEQ."""
    age(root)
    with opened(root, place) as mailbox, indexed(mailbox, place, complete=False) as index:
        highest = numbers_of(index).note()
        mailbox.put_away()
        index.put_away()
    return highest


def compares(index: MailboxIndex) -> bool:
    """Whether all numbers are read to learn the highest."""
    return any("packed" in text for text in statements(index, numbers_of(index).note))


def test_numbers_are_not_compared_again_when_nothing_happened(root: Path, place: Path) -> None:
    highest = rest(root, place)
    with opened(root, place) as mailbox, indexed(mailbox, place, complete=False) as index:
        assert not compares(index)
        assert numbers_of(index).note() == highest
        assert numbers_of(index).changed_since(highest) == []
        mailbox.store_flags([2], add(FLAGGED))
        assert numbers_of(index).changed_since(highest) == [2]


def test_what_another_process_numbered_and_is_undone_gets_a_number(root: Path, place: Path) -> None:
    client = Client()
    name = next((root / "cur").iterdir())
    marked = name.with_name(f"{name.name.partition(':')[0]}:2,F")
    with numbered(root, place) as (ours, given), numbered(root, place) as (theirs, others):
        given.note()
        name.rename(marked)
        theirs.sync()
        client.resync(theirs, others)
        marked.rename(name)
        ours.sync()
        client.resync(ours, given)
        assert client.known == truth_of(ours)


def test_a_change_between_two_processes_is_numbered(root: Path, place: Path) -> None:
    highest = rest(root, place)
    with opened(root) as others:
        others.store_flags([3], add(FLAGGED))
    with opened(root, place) as mailbox, indexed(mailbox, place, complete=False) as index:
        assert compares(index)
        assert numbers_of(index).changed_since(highest) == [3]


def test_a_change_whose_numbers_are_not_put_away(root: Path, place: Path) -> None:
    """What agreed with an older state of the mailbox does not agree with that state once more."""
    highest = rest(root, place)
    with opened(root, place) as mailbox, indexed(mailbox, place, complete=False) as index:
        mailbox.store_flags([3], add(FLAGGED))
        numbers_of(index).note()
    with opened(root, place) as mailbox, indexed(mailbox, place, complete=False) as index:
        assert compares(index)
        assert numbers_of(index).changed_since(highest) == [3]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE kept SET octets = x'00' || substr(octets, 2)",
        "UPDATE kept SET octets = 7",
        "UPDATE numbers SET highest = highest - 1",
        "DELETE FROM numbers",
        "DELETE FROM kept",
    ],
)
def test_a_damaged_agreement(root: Path, place: Path, damage: str) -> None:
    """Whatever is wrong is found before a number is told, and no number goes back."""
    highest = rest(root, place)
    with contextlib.closing(sqlite3.connect(file_of(place))) as sql, sql:
        sql.execute(damage)
    with opened(root, place) as mailbox, indexed(mailbox, place, complete=False) as index:
        assert numbers_of(index).note() >= highest
        client = Client()
        client.modseq = highest
        client.resync(mailbox, numbers_of(index))
        assert list(numbers_of(index).problems()) == []


def test_a_viewers_own_seen_is_part_of_what_agrees(root: Path, place: Path, tmp_path: Path) -> None:
    def process(action: Callable[[Modseqs, object], object]) -> None:
        with opened(root) as shared:
            mine = overlay(shared, tmp_path / "private", public=False, examine=False)
            mine.keep_in(Shelf([place]))
            mine.sync()
            index = MailboxIndex.open(mine, [place])
            with contextlib.closing(index):
                action(numbers_of(index), mine)
                age(root)
                mine.sync()
                mine.put_away()
                index.put_away()

    found: list[object] = []
    process(lambda given, mine: found.append(given.note()))
    private = overlay(MaildirStorage(MaildirConfig(root)).open(("INBOX",)),
                      tmp_path / "private", public=False, examine=False)  # fmt: skip
    private.store_flags([2], add(SEEN))
    private.close()
    process(lambda given, mine: found.append(given.changed_since(int(str(found[0])))))
    assert found[1] == [2]


# --- a number for who does not open the index -------------------------------------------------


def left_of(root: Path, place: Path) -> int | None:
    with opened(root, place) as mailbox:
        left = recall([place], mailbox)
        return None if left is None else left[1].modseq


def test_who_comes_next_need_not_open_the_index(root: Path, place: Path) -> None:
    assert left_of(root, place) is None
    highest = rest(root, place)
    assert left_of(root, place) == highest


def test_closing_the_index_is_no_reason_to_open_it(root: Path, place: Path) -> None:
    """That writes to it, once numbers were given."""
    rest(root, place)
    with opened(root, place) as mailbox, indexed(mailbox, place, complete=False) as index:
        mailbox.store_flags([2], add(FLAGGED))
        highest = numbers_of(index).note()
        age(root)
        mailbox.sync()
        mailbox.put_away()
        index.put_away()
    assert left_of(root, place) == highest


def test_the_next_change_is_found_without_comparing_all(root: Path, place: Path) -> None:
    highest = rest(root, place)
    with opened(root, place) as mailbox:
        left, generation = recall([place], mailbox), mailbox.generation
        assert left is not None
        mailbox.store_flags([2], add(FLAGGED))
        with indexed(mailbox, place, complete=False) as index:
            numbers_of(index).resume(generation, left[1].modseq)
            read = [text for text in statements(index, numbers_of(index).note) if "packed" in text]
            assert read
            assert all("WHERE chunk = 0" in text or "INSERT" in text for text in read)
            assert numbers_of(index).changed_since(highest) == [2]


def _others_change(root: Path, place: Path) -> None:
    with opened(root) as others:
        others.store_flags([2], add(FLAGGED))


def _others_give_numbers(root: Path, place: Path) -> None:
    """And the mailbox then is as it was."""
    status = (root / "cur").stat()
    with numbered(root, place) as (_, theirs):
        theirs.restart_above(theirs.note() + 10)
    os.utime(root / "cur", ns=(status.st_atime_ns, status.st_mtime_ns))


def _a_copy_is_put_there(root: Path, place: Path) -> None:
    shutil.copy2(file_of(place), place / "copy")
    (place / "copy").rename(file_of(place))


def _one_octet_is_wrong(root: Path, place: Path) -> None:
    octets = bytearray((place / HIGHEST).read_bytes())
    octets[33] ^= 1
    (place / HIGHEST).write_bytes(octets)


def _it_is_somebody_elses(root: Path, place: Path) -> None:
    (place / HIGHEST).chmod(0o666)


def _it_is_cut_short(root: Path, place: Path) -> None:
    (place / HIGHEST).write_bytes(b"sharefs")


def _the_index_is_gone(root: Path, place: Path) -> None:
    file_of(place).unlink()


@pytest.mark.parametrize(
    "happens",
    [_others_change, _others_give_numbers, _a_copy_is_put_there, _one_octet_is_wrong,
     _it_is_somebody_elses, _it_is_cut_short, _the_index_is_gone],
    ids=lambda happens: happens.__name__.strip("_"),
)  # fmt: skip
def test_nothing_is_told_that_may_be_wrong(
    root: Path, place: Path, happens: Callable[[Path, Path], None]
) -> None:
    rest(root, place)
    happens(root, place)
    assert left_of(root, place) is None


def test_numbers_given_meanwhile_are_heard_of(root: Path, place: Path) -> None:
    rest(root, place)
    with opened(root, place) as mailbox:
        left, generation = recall([place], mailbox), mailbox.generation
        assert left is not None
        with numbered(root, place) as (others, theirs):
            others.store_flags([5], add(FLAGGED))
            theirs.note()
        with indexed(mailbox, place, complete=False) as index:
            numbers_of(index).resume(generation, left[1].modseq)
            assert numbers_of(index).changed_since(left[1].modseq) == [5]
            assert mailbox.flags_of(5) == FLAGGED
