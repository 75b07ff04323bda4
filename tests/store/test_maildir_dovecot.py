"""One Maildir, two servers at the same moment: ours and a real Dovecot must agree on everything."""

import contextlib
import functools
import imaplib
import os
import random
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sharefs.flags import NAMES, NO_FLAGS, FlagChange, FlagOp, FlagSet, System
from sharefs.names import Layout, Naming
from sharefs.store.interface import Existence, Mailbox
from sharefs.store.maildir import MaildirConfig, MaildirStorage
from tests.store.contract import HELLO, INBOX, SEEN, add, message, uids
from tests.support.dovecot import Dovecot, MailUser, private_dovecot

pytestmark = [
    pytest.mark.dovecot,
    pytest.mark.slow,
    pytest.mark.superuser,
    pytest.mark.skipif(not shutil.which("dovecot"), reason="needs Dovecot"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to start a server for others"),
]

UID = GID = 5001
FLAGGED = FlagSet(System.FLAGGED, frozenset({"$Label1"}))
HOMES = 20
State = dict[int, tuple[frozenset[str], int]]


@dataclass
class Pair:
    """The same mail through both servers, by one user."""

    server: Dovecot
    user: MailUser
    layout: Layout

    @property
    def root(self) -> Path:
        return self.user.home / "Maildir"

    def ours(self) -> MaildirStorage:
        return MaildirStorage(MaildirConfig(self.root, naming=Naming(self.layout)))

    @contextlib.contextmanager
    def theirs(self, name: str = "INBOX") -> Iterator[imaplib.IMAP4]:
        with self.server.imap(self.user.name) as client:
            assert client.select(name)[0] == "OK"
            yield client

    @contextlib.contextmanager
    def both(self) -> Iterator[tuple[Mailbox, imaplib.IMAP4]]:
        with self.theirs() as theirs, contextlib.closing(self.ours().open(INBOX)) as ours:
            ours.sync()
            yield ours, theirs


@pytest.fixture(scope="module", params=list(Layout))
def servers(request: pytest.FixtureRequest) -> Iterator[tuple[Dovecot, list[MailUser], Layout]]:
    layout = Layout(request.param)
    location = "maildir:~/Maildir" + (":LAYOUT=fs" if layout is Layout.FS else "")
    base = Path(tempfile.mkdtemp(prefix="sharefs-homes-"))
    base.chmod(0o755)
    users = [MailUser(f"u{number}", UID, GID, base / f"u{number}") for number in range(HOMES)]
    for user in users:
        user.home.mkdir()
        os.chown(user.home, UID, GID)
    config = f"mail_location = {location}\nmailbox_idle_check_interval = 1s\n"
    try:
        with private_dovecot(config, users) as server:
            yield server, users, layout
    finally:
        shutil.rmtree(base)


@pytest.fixture
def pair(servers: tuple[Dovecot, list[MailUser], Layout]) -> Iterator[Pair]:
    server, users, layout = servers
    yield Pair(server, users.pop(), layout)
    complaints = re.findall(r".*(?:Panic|Error|Warning):.*", server.log_text())
    assert complaints == []


def as_the_user(scenario: Callable[[Pair], None]) -> Callable[[Pair], None]:
    """Run a test under the uid that owns the mail, as both servers do."""

    @functools.wraps(scenario)
    def run(pair: Pair) -> None:
        pair.user.identity.run(scenario, pair)

    return run


# --- what each of them sees ------------------------------------------------------------------


def seen_by_dovecot(client: imaplib.IMAP4) -> State:
    client.noop()
    state: State = {}
    _, lines = client.uid("FETCH", "1:*", "(FLAGS RFC822.SIZE)")
    for line in lines:
        if not isinstance(line, bytes):
            continue
        uid = re.search(rb"UID (\d+)", line)
        size = re.search(rb"RFC822.SIZE (\d+)", line)
        flags = re.search(rb"FLAGS \(([^)]*)\)", line)
        if uid and size and flags:
            names = frozenset(flags[1].decode().split()) - {"\\Recent"}
            state[int(uid[1])] = (names, int(size[1]))
    return state


def seen_by_us(mailbox: Mailbox) -> State:
    return {uid: (names_of(mailbox.flags_of(uid)), mailbox.info(uid).size) for uid in uids(mailbox)}


def names_of(flags: FlagSet) -> frozenset[str]:
    return frozenset(NAMES[flag] for flag in System(flags.system)) | flags.keywords


def status(client: imaplib.IMAP4, name: str = "INBOX") -> dict[str, int]:
    _, [line] = client.status(name, "(UIDVALIDITY UIDNEXT MESSAGES)")
    assert isinstance(line, bytes)
    words = line.decode().rpartition("(")[2].rstrip(")").split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


def agree(ours: Mailbox, theirs: imaplib.IMAP4) -> State:
    """Both see the same messages, flags, sizes, and numbers.  Returns what they see.

    Dovecot may look at a directory again only after the second in which it changed.
    """
    deadline = time.monotonic() + 4
    while (got := seen_by_us(ours)) != (want := seen_by_dovecot(theirs)):
        if time.monotonic() > deadline:
            assert got == want
        time.sleep(0.1)
    counted = status(theirs)
    assert counted["UIDVALIDITY"] == ours.uidvalidity
    assert counted["UIDNEXT"] == ours.uidnext
    return got


def append(client: imaplib.IMAP4, octets: bytes, flags: str = "", name: str = "INBOX") -> int:
    answer, [line] = client.append(name, flags, '"17-Jul-1996 02:44:25 -0700"', octets)
    assert answer == "OK"
    found = re.search(rb"APPENDUID \d+ (\d+)", line)
    assert found
    return int(found[1])


def deliver(root: Path, name: str, to: str = "new") -> None:
    (root / "tmp" / "x").write_bytes(b"Subject: delivered\n\nx\n")
    (root / "tmp" / "x").rename(root / to / name)


# --- tests -----------------------------------------------------------------------------------


@as_the_user
def test_we_read_what_dovecot_writes(pair: Pair) -> None:
    with pair.both() as (ours, theirs):
        append(theirs, message(1))
        append(theirs, message(2), "(\\Seen \\Flagged $Label1 Second)")
        append(theirs, message(3), "(\\Draft \\Answered \\Deleted Second)")
        state = agree(ours, theirs)
        assert list(state) == [1, 2, 3]
        assert state[2][0] == {"\\Seen", "\\Flagged", "$Label1", "Second"}
        assert [ours.read(uid) for uid in (1, 2, 3)] == [message(1), message(2), message(3)]
        assert ours.info(1).internaldate == 837596665
        assert set(ours.keywords()) == {"$Label1", "Second"}


@as_the_user
def test_dovecot_reads_what_we_write(pair: Pair) -> None:
    ours = pair.ours().open(INBOX)
    add(ours, message(1), message(2), date=837596665)
    add(ours, message(3), flags=FlagSet(System(0x1F), frozenset({"Mine", "$Label1"})))
    with pair.theirs() as theirs:
        state = agree(ours, theirs)
        assert list(state) == [1, 2, 3]
        assert state[3][0] == {*NAMES.values(), "Mine", "$Label1"}
        for number in (1, 2, 3):
            _, data = theirs.fetch(str(number), "(BODY.PEEK[] INTERNALDATE)")
            assert isinstance(data[0], tuple)
            assert data[0][1] == message(number)
        _, [line] = theirs.fetch("1", "(INTERNALDATE)")
        assert isinstance(line, bytes)
        date = imaplib.Internaldate2tuple(line)
        assert date is not None
        assert time.mktime(date) == 837596665


@as_the_user
def test_flags_go_both_ways(pair: Pair) -> None:
    with pair.both() as (ours, theirs):
        for number in range(1, 5):
            append(theirs, message(number))
        agree(ours, theirs)
        theirs.store("1", "+FLAGS", "(\\Seen Theirs)")
        agree(ours, theirs)
        ours.store_flags(
            [1, 2], FlagChange(FlagOp.ADD, FlagSet(System.FLAGGED, frozenset({"Ours"})))
        )
        state = agree(ours, theirs)
        assert state[1][0] == {"\\Seen", "\\Flagged", "Theirs", "Ours"}
        theirs.store("2:3", "+FLAGS", "(ours New)")
        state = agree(ours, theirs)
        assert state[3][0] == {"Ours", "New"}
        ours.store_flags([1, 2, 3], FlagChange(FlagOp.REPLACE, SEEN))
        agree(ours, theirs)
        theirs.store("2", "-FLAGS", "(\\Seen)")
        state = agree(ours, theirs)
        assert [flags for flags, _ in state.values()] == [{"\\Seen"}, set(), {"\\Seen"}, set()]


@as_the_user
def test_expunging_goes_both_ways(pair: Pair) -> None:
    with pair.both() as (ours, theirs):
        add(ours, *map(message, range(1, 7)))
        agree(ours, theirs)
        ours.expunge([1, 4])
        assert list(agree(ours, theirs)) == [2, 3, 5, 6]
        theirs.uid("STORE", "3,6", "+FLAGS", "(\\Deleted)")
        theirs.expunge()
        assert list(agree(ours, theirs)) == [2, 5]
        assert add(ours, HELLO) == [7]
        assert append(theirs, HELLO) == 8
        assert list(agree(ours, theirs)) == [2, 5, 7, 8]


@pytest.mark.parametrize("we_are_first", [True, False])
def test_deliveries_have_one_number(pair: Pair, we_are_first: bool) -> None:
    @as_the_user
    def scenario(pair: Pair) -> None:
        with pair.both() as (ours, theirs):
            for name in ("30.M1P1.h", "20.M900P1.h", "20.M1000P1.h,S=22", "100.M1P1.h"):
                deliver(pair.root, name)
            deliver(pair.root, "15.M1P1.h:2,SZ", to="cur")
            if we_are_first:
                ours.sync()
            else:
                theirs.noop()
            state = agree(ours, theirs)
            assert len(state) == 5
            assert state[1][0] == {"\\Seen"}
            lines = (pair.root / "dovecot-uidlist").read_text().splitlines()[1:]
            assert [line.partition(" :")[2].partition(",")[0] for line in lines] == [
                "15.M1P1.h", "20.M900P1.h", "20.M1000P1.h", "30.M1P1.h", "100.M1P1.h",
            ]  # fmt: skip

    scenario(pair)


@as_the_user
def test_recent_has_one_claimer(pair: Pair) -> None:
    with pair.both() as (ours, theirs):
        deliver(pair.root, "1.a.h")
        ours.sync()
        assert ours.recent(claim=True) == {1}
        theirs.noop()
        assert theirs.response("RECENT")[1] in ([None], [b"0"])
        deliver(pair.root, "2.a.h")
        agree(ours, theirs)
        assert ours.recent(claim=True) == frozenset()


@as_the_user
def test_dovecot_without_its_index_finds_the_same(pair: Pair) -> None:
    with pair.both() as (ours, theirs):
        add(ours, *map(message, range(1, 6)), flags=FLAGGED)
        append(theirs, HELLO)
        ours.expunge([2, 6])
        before = agree(ours, theirs)
        uidvalidity = ours.uidvalidity
    for path in pair.root.glob("dovecot.*"):
        path.unlink()
    with pair.both() as (ours, theirs):
        assert agree(ours, theirs) == before
        assert ours.uidvalidity == uidvalidity


@as_the_user
def test_a_list_that_we_rewrote_is_read_by_dovecot(pair: Pair) -> None:
    with pair.both() as (ours, theirs):
        add(ours, *[HELLO] * 100)
        agree(ours, theirs)
        ours.expunge(range(1, 91))
        deliver(pair.root, "1.a.h")
        state = agree(ours, theirs)
        assert list(state) == [*range(91, 102)]
        lines = (pair.root / "dovecot-uidlist").read_text().splitlines()
        assert len(lines) == 12
        assert add(ours, HELLO) == [102]
        agree(ours, theirs)


@as_the_user
def test_copies_keep_the_guid_on_both_sides(pair: Pair) -> None:
    storage = pair.ours()
    with pair.both() as (ours, theirs):
        add(ours, HELLO, message(2))
        agree(ours, theirs)
        theirs.create("Theirs")
        theirs.copy("1", "Theirs")
        storage.create(("Ours",))
        with contextlib.closing(storage.open(("Ours",))) as target:
            assert [copied.linked for copied in target.copy_from(ours, [1])] == [True]
        guids = []
        for name in ("INBOX", "Theirs", "Ours"):
            done = pair.server.doveadm(
                "fetch", "-u", pair.user.name, "guid", "mailbox", name, "uid", "1"
            )
            guids.append(done.stdout.strip())
        assert guids[0]
        assert guids == guids[:1] * 3
        links = [
            path.stat().st_nlink
            for folder in ("new", "cur")
            for path in (pair.root / folder).iterdir()
        ]
        assert sorted(links) == [1, 3]


@as_the_user
def test_mailboxes_made_and_moved_by_either(pair: Pair) -> None:
    storage = pair.ours()

    def our_names() -> set[str]:
        return {
            "/".join(found.name)
            for found in storage.iterate()
            if found.existence is Existence.SELECTABLE
        }

    def their_names() -> set[str]:
        with pair.server.imap(pair.user.name) as client:  # an old session lists from its memory
            _, lines = client.list()
        separator = "." if pair.layout is Layout.MAILDIRPP else "/"
        names = set()
        for line in lines:
            if isinstance(line, bytes) and b"\\NoSelect" not in line:
                name = line.decode().rpartition(" ")[2].strip('"')
                names.add(name.replace(separator, "/"))
        return names

    separator = "." if pair.layout is Layout.MAILDIRPP else "/"
    with pair.theirs() as theirs:
        theirs.create("Theirs")
        theirs.create(f"Theirs{separator}Sub")
        theirs.create("Entw&APw-rfe")
        storage.create(("Ours",))
        storage.create(("Ours", "Sub"))
        assert our_names() == {"INBOX", "Theirs", "Theirs/Sub", "Entwürfe", "Ours", "Ours/Sub"}
        assert {name.replace("&APw-", "ü") for name in their_names()} == our_names()
        theirs.rename("Ours", "A")
        storage.rename(("Theirs",), ("B",))
        want = {"INBOX", "A", "A/Sub", "B", "B/Sub", "Entwürfe"}
        assert our_names() == want
        assert {name.replace("&APw-", "ü") for name in their_names()} == want
        append(theirs, HELLO, name="B")
        with contextlib.closing(storage.open(("B",))) as mailbox:
            assert uids(mailbox) == [1]
            assert status(theirs, "B")["UIDVALIDITY"] == mailbox.uidvalidity
        storage.delete(("B", "Sub"))
        storage.delete(("B",))
        theirs.delete(f"A{separator}Sub")
        assert our_names() == {"INBOX", "A", "Entwürfe"}
        assert {name.replace("&APw-", "ü") for name in their_names()} == our_names()
        if pair.layout is Layout.MAILDIRPP:
            assert (pair.root / ".A" / "maildirfolder").exists()
        values = {status(theirs, name)["UIDVALIDITY"] for name in ("INBOX", "A", "Entw&APw-rfe")}
        assert len(values) == 3


@pytest.mark.parametrize("seed", range(3))
def test_whatever_either_does_both_agree(pair: Pair, seed: int) -> None:
    @as_the_user
    def scenario(pair: Pair) -> None:
        choose = random.Random(seed)
        with pair.both() as (ours, theirs):
            state: State = {}
            for step in range(25):
                some = choose.sample(sorted(state), min(len(state), choose.randrange(4)))
                names = frozenset(choose.sample(["a", "B", "$c", "d"], choose.randrange(3)))
                flags = FlagSet(System(choose.randrange(32) & ~4), names)
                text = " ".join(names_of(flags))
                theirs_uids = ",".join(map(str, some)) or "999"
                match choose.randrange(8):
                    case 0 | 1:
                        add(ours, message(step), flags=flags)
                    case 2:
                        append(theirs, message(step), f"({text})")
                    case 3:
                        change = FlagChange(choose.choice(list(FlagOp)), flags)
                        ours.store_flags(some, change)
                    case 4:
                        theirs.uid("STORE", theirs_uids, choose.choice("+- ").strip() + "FLAGS",
                                   f"({text})")  # fmt: skip
                    case 5:
                        ours.expunge(some[:1])
                    case 6:
                        theirs.uid("STORE", theirs_uids, "+FLAGS", "(\\Deleted)")
                        theirs.expunge()
                    case 7:
                        deliver(pair.root, f"{step}.x.h")
                if choose.random() < 0.5:
                    state = agree(ours, theirs)
            agree(ours, theirs)

    scenario(pair)


@as_the_user
def test_both_writing_at_once(pair: Pair) -> None:
    got: dict[int, bytes] = {}
    failures: list[BaseException] = []
    with pair.both() as (ours, theirs):
        agree(ours, theirs)

        def they_write() -> None:
            try:
                with pair.theirs() as client:
                    for number in range(60):
                        octets = b"Subject: theirs %d\r\n\r\n" % number
                        got[append(client, octets)] = octets
            except BaseException as exc:
                failures.append(exc)

        thread = threading.Thread(target=they_write)
        thread.start()
        for number in range(60):
            octets = b"Subject: ours %d\r\n\r\n" % number
            [uid] = add(ours, octets)
            assert uid not in got
            got[uid] = octets
            if number % 3 == 0:
                ours.sync()
                some = [uid for uid in ours.uids() if uid % 3 == 0]
                ours.store_flags(some, FlagChange(FlagOp.ADD, SEEN))
        thread.join()
        assert failures == []
        state = agree(ours, theirs)
        assert set(state) == set(got)
        assert {uid: ours.read(uid) for uid in got} == got
        assert ours.flags_of(1) == NO_FLAGS
