"""A listing that one process kept for the next: what it answers is what a fresh look would."""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharefs.flags import FlagChange, FlagOp, FlagSet, System
from sharefs.index import Shelf
from sharefs.store.late import LateUids
from sharefs.store.maildir import Fsync, MaildirConfig, MaildirMailbox, MaildirStorage, keeping
from sharefs.store.maildir.kept import FILE_NAME, Listing, Marks, unpack
from sharefs.store.maildir.uidlist_format import ListMark
from tests.store.contract import HELLO, INBOX, add
from tests.store.test_maildir_views import Client, Storm

SEEN: Final = FlagSet(System.SEEN)


@pytest.fixture(autouse=True)
def _every_mailbox_is_worth_keeping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "WORTH", 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "Maildir"
    for name in ("cur", "new", "tmp"):
        (root / name).mkdir(parents=True)
    for number, flags in enumerate(["S", "", "FS", "S", "Sa", "Ta"]):
        (root / "cur" / f"{number + 10}.x.h:2,{flags}").write_bytes(HELLO)
    (root / "new" / "20.x.h,W=77").write_bytes(HELLO)
    (root / "dovecot-keywords").write_text("0 Work\n")
    return root


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "place"


def age(root: Path) -> None:
    """The last change was a while ago."""
    for name in ("new", "cur"):
        before = time.time_ns() - 10 * 10**9
        os.utime(root / name, ns=(before, before))


@contextlib.contextmanager
def opened(root: Path, place: Path | None) -> Iterator[MaildirMailbox]:
    storage = MaildirStorage(MaildirConfig(root, fsync=Fsync.NEVER))
    with contextlib.closing(storage.open(INBOX)) as mailbox:
        if place is not None:
            mailbox.keep_in(Shelf([place]))
        yield mailbox


def keep(root: Path, place: Path) -> None:
    """One process: it looks, and puts away what it saw."""
    age(root)
    with opened(root, place) as mailbox:
        mailbox.sync()
        mailbox.sync()  # what was new has its UID now
        mailbox.put_away()
    assert (place / FILE_NAME).exists()


Answers = tuple[object, ...]


def answers(mailbox: MaildirMailbox, *, names_first: bool = False) -> Answers:
    """All that clients can ask, from the listing alone if names_first is not said."""
    mailbox.sync()
    uids = list(mailbox.uids())
    if names_first:
        assert len({mailbox.identity_of(uid) for uid in uids}) == len(uids)
    some = uids[1:4]
    return (
        uids,
        mailbox.flags_of_each(mailbox.uids()),
        mailbox.flags_of_each([*some, 4_000_000]),
        [mailbox.flags_of(uid) for uid in uids],
        {flags: list(found) for flags, found in mailbox.by_flags()},
        list(mailbox.unseen()),
        mailbox.first_unseen(),
        sorted(mailbox.keywords()),
        mailbox.can_add_keywords(),
        (mailbox.uidvalidity, mailbox.uidnext, mailbox.guid()),
        mailbox.has_recent(),
        mailbox.recent(claim=False),
        [mailbox.identity_of(uid) for uid in uids],
        mailbox.known_sizes(uids),
        [mailbox.info(uid) for uid in uids],
        [mailbox.read(uid) for uid in uids],
        mailbox.looks_unchanged(),
    )


def check(root: Path, place: Path) -> None:
    for names_first in (False, True):
        with opened(root, place) as resumed, opened(root, None) as fresh:
            got = answers(resumed, names_first=names_first)
            assert got == answers(fresh, names_first=names_first)


class Lists:
    """Counts listings of directories.  An audit hook stays for good, hence one for all."""

    def __init__(self) -> None:
        self.seen: int | None = None
        sys.addaudithook(self._hear)

    def _hear(self, event: str, _: tuple[object, ...]) -> None:
        if self.seen is not None and event in ("os.listdir", "os.scandir"):
            self.seen += 1

    def during(self, action: Callable[[], object]) -> int:
        self.seen = 0
        try:
            action()
            return self.seen
        finally:
            self.seen = None


LISTS = Lists()


def test_an_unchanged_mailbox_is_not_listed_again(root: Path, place: Path) -> None:
    keep(root, place)
    with opened(root, place) as mailbox, opened(root, None) as other:
        assert not LISTS.during(lambda: answers(mailbox))
        assert LISTS.during(lambda: answers(other))
    check(root, place)


def test_a_list_is_made_when_it_is_looked_into(root: Path, place: Path) -> None:
    keep(root, place)
    with opened(root, place) as mailbox:
        late = mailbox.late_uids()
        assert isinstance(late, LateUids)
        first, last, several = late[0], late[-1], [*late]
        assert mailbox.first_unseen() in several
        uids = mailbox.uids()
        assert (first, last, several, len(late)) == (uids[0], uids[-1], uids, len(uids))
        assert late.all() is uids is mailbox.late_uids()


# --- what others do between two processes ----------------------------------------------------


def _move(root: Path, old: str, new: str) -> None:
    (root / old).rename(root / new)


def _rewrite_list(root: Path) -> None:
    """As another program does it, with all UIDs as they are."""
    path = root / "dovecot-uidlist"
    temp = root / "temp"
    temp.write_text(path.read_text())
    temp.rename(path)


def _renumber(root: Path) -> None:
    """The list is lost and made anew: another UIDVALIDITY."""
    (root / "dovecot-uidlist").unlink()
    with opened(root, None) as mailbox:
        mailbox.sync()


def _list_again(root: Path) -> None:
    """Somebody has seen a message vanish and come back."""
    with (root / "dovecot-uidlist").open("a") as file:
        file.write("70 :12.x.h\n")


def _tear_list(root: Path) -> None:
    with (root / "dovecot-uidlist").open("a") as file:
        file.write("71 :to")


def _hide(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """A change after which the mtimes are set back to what they were."""

    def hidden(root: Path) -> None:
        stamps = {name: (root / name).stat().st_mtime_ns for name in ("new", "cur")}
        change(root)
        for name, mtime in stamps.items():
            os.utime(root / name, ns=(mtime, mtime))

    return hidden


def _mark(root: Path) -> None:
    _move(root, "cur/11.x.h:2,", "cur/11.x.h:2,F")


def _remake(root: Path) -> None:
    shutil.copytree(root, root.with_name("copy"))
    shutil.rmtree(root)
    root.with_name("copy").rename(root)


CHANGES: list[tuple[str, Callable[[Path], object]]] = [
    ("nothing", lambda root: None),
    ("delivery", lambda root: (root / "new" / "30.x.h").write_bytes(HELLO)),
    ("delivery to cur", lambda root: (root / "cur" / "30.x.h:2,S").write_bytes(HELLO)),
    ("flags", _mark),
    ("flags, mtime set back", _hide(_mark)),
    ("removal", lambda root: (root / "cur" / "12.x.h:2,FS").unlink()),
    ("removal, mtime set back", _hide(lambda root: (root / "cur" / "12.x.h:2,FS").unlink())),
    ("removal from new", lambda root: (root / "new" / "20.x.h,W=77").unlink()),
    ("removal from new, mtime set back", _hide(lambda r: (r / "new" / "20.x.h,W=77").unlink())),
    ("claimed", lambda root: _move(root, "new/20.x.h,W=77", "cur/20.x.h,W=77:2,")),
    ("back in new", lambda root: _move(root, "cur/10.x.h:2,S", "new/10.x.h")),
    ("keyword named", lambda root: (root / "dovecot-keywords").write_text("0 Play\n")),
    ("keywords removed", lambda root: (root / "dovecot-keywords").unlink()),
    ("list rewritten", _rewrite_list),
    ("list lost", _renumber),
    ("list names one again", _list_again),
    ("list torn", _tear_list),
    ("new/ missing", lambda root: shutil.rmtree(root / "new")),
    ("another directory", _remake),
]


@pytest.mark.parametrize("change", [row[1] for row in CHANGES], ids=[row[0] for row in CHANGES])
@pytest.mark.parametrize("aged", [False, True], ids=["just now", "a while ago"])
def test_what_others_did_meanwhile_is_found(
    root: Path, place: Path, change: Callable[[Path], object], aged: bool
) -> None:
    keep(root, place)
    change(root)
    if aged:
        with contextlib.suppress(FileNotFoundError):
            age(root)
    check(root, place)


@pytest.mark.parametrize("change", [row[1] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_an_old_listing_from_a_backup(
    root: Path, place: Path, change: Callable[[Path], object]
) -> None:
    keep(root, place)
    old = (place / FILE_NAME).read_bytes()
    change(root)
    with contextlib.suppress(FileNotFoundError):
        keep(root, place)
    (place / FILE_NAME).write_bytes(old)
    check(root, place)


@pytest.mark.parametrize("change", [row[1] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_what_others_do_before_names_are_asked_for(
    root: Path, place: Path, change: Callable[[Path], object]
) -> None:
    """A process that goes on with a listing hears of changes like one that made it itself."""
    keep(root, place)
    with opened(root, place) as resumed, opened(root, None) as listed:
        views = Client(resumed), Client(listed)
        change(root)
        if (
            not (root / "dovecot-uidlist").read_text().startswith(f"3 V{resumed.uidvalidity} ")
            or not (root / "new").is_dir()
        ):
            return  # both must be opened again
        if resumed.site.directory.stat().st_ino != (root.stat().st_ino):
            return
        for view in views:
            with contextlib.suppress(KeyError):
                view.catch_up()
                view.check()
        assert views[0].uids == views[1].uids
        assert views[0].flags == views[1].flags


def test_our_own_changes_after_going_on(root: Path, place: Path) -> None:
    keep(root, place)
    with opened(root, place) as mailbox:
        client = Client(mailbox)
        mailbox.store_flags(client.uids[:2], FlagChange(FlagOp.ADD, FlagSet(System.FLAGGED)))
        client.catch_up()
        client.check()
        add(mailbox, HELLO, flags=SEEN)
        mailbox.expunge(client.uids[2:3])
        mailbox.recent(claim=True)
        client.catch_up()
        client.check()
    check(root, place)


def test_a_list_that_was_replaced_before_it_was_read(root: Path, place: Path) -> None:
    """Without the message that it lists: the names of what was kept are in no list any more."""
    keep(root, place)
    with opened(root, place) as mailbox:
        client = Client(mailbox)
        gone = client.uids[3]
        header, *records = (root / "dovecot-uidlist").read_text().splitlines(keepends=True)
        left = [line for line in records if not line.startswith(f"{gone} ")]
        (root / "temp").write_text("".join([header, *left]))
        (root / "temp").rename(root / "dovecot-uidlist")
        client.catch_up()
        client.check()
        assert gone not in client.uids
        assert len(client.uids) == 7  # the file is there, so it has another one


# --- damage ----------------------------------------------------------------------------------


def test_flipped_octets(root: Path, place: Path) -> None:
    """Each octet of the file, one after the other: never another answer."""
    keep(root, place)
    path = place / FILE_NAME
    octets = path.read_bytes()
    with opened(root, None) as fresh:
        want = answers(fresh)
    assert unpack(octets) is not None
    for at in range(len(octets)):
        damaged = octets[:at] + bytes([octets[at] ^ 0x41]) + octets[at + 1 :]
        assert unpack(damaged) is None
        if at % 37 == 0:
            path.write_bytes(damaged)
            with opened(root, place) as mailbox:
                assert answers(mailbox) == want


@pytest.mark.parametrize("left", [0, 1, 20, 40, 200, -1])
def test_a_file_cut_short(root: Path, place: Path, left: int) -> None:
    keep(root, place)
    octets = (place / FILE_NAME).read_bytes()
    (place / FILE_NAME).write_bytes(octets[:left])
    check(root, place)


def test_another_boot(root: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut left of a directory may be older than its mtime."""
    keep(root, place)
    monkeypatch.setattr(keeping, "this_boot", lambda: "another")
    with opened(root, place) as mailbox:
        assert LISTS.during(lambda: answers(mailbox))
    check(root, place)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.chmod(0o666),
        lambda path: path.parent.chmod(0o777),
        lambda path: path.with_name("other").hardlink_to(path),
        lambda path: path.rename(path.with_name("other")) and path.symlink_to("other"),
        lambda path: [path.unlink(), os.mkfifo(path, 0o600)],  # type: ignore[func-returns-value]
        lambda path: [path.unlink(), path.mkdir()],
    ],
    ids=["mode", "directory", "second name", "link", "fifo", "directory in its place"],
)
def test_what_somebody_else_could_have_written_is_not_read(
    root: Path, place: Path, spoil: Callable[[Path], object]
) -> None:
    keep(root, place)
    spoil(place / FILE_NAME)
    with opened(root, place) as mailbox:
        assert LISTS.during(lambda: answers(mailbox))
    check(root, place)


def test_nowhere_to_keep_it(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    age(root)
    with opened(root, tmp_path / "file" / "below") as mailbox:
        mailbox.sync()
        mailbox.put_away()
    check(root, tmp_path / "file" / "below")


# --- what is kept, and when ------------------------------------------------------------------


def test_nothing_is_kept_while_something_could_have_been_missed(root: Path, place: Path) -> None:
    with opened(root, place) as mailbox:
        mailbox.sync()
        (root / "cur" / "30.x.h:2,").write_bytes(HELLO)
        mailbox.sync()
        mailbox.put_away()
        assert not (place / FILE_NAME).exists()


def test_it_is_written_once(root: Path, place: Path) -> None:
    keep(root, place)
    with opened(root, place) as mailbox:
        mailbox.sync()
        before = (place / FILE_NAME).stat()
        mailbox.put_away()
        assert (place / FILE_NAME).stat() == before
        (root / "new" / "30.x.h").write_bytes(HELLO)
        age(root)
        mailbox.sync()
        mailbox.put_away()
        assert (place / FILE_NAME).stat().st_ino != before.st_ino
    check(root, place)


def test_small_mailboxes_are_not_kept(
    root: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "WORTH", 8)
    age(root)
    with opened(root, place) as mailbox:
        mailbox.sync()
        mailbox.put_away()
    assert not place.exists()


_TRACES = st.tuples(*[st.integers(0, 2**64)] * 5)
_MARKS = st.builds(
    Marks,
    st.text("0123456789abcdef-", max_size=36),
    _TRACES,
    _TRACES,
    st.builds(
        ListMark,
        st.tuples(*[st.integers(0, 2**64)] * 4),
        st.integers(0, 2**64),
        st.text(max_size=60),
        st.integers(0, 2**40),
        st.binary(max_size=128),
        st.integers(0, 2**40),
        st.integers(0, 2**32 - 2),
    ),
)
_PLACES = st.tuples(st.booleans(), st.sampled_from([":2,", ":2,S", "", ":2,a\udcff", ":2,F,x"]))


@given(_MARKS, st.dictionaries(st.integers(1, 2**32 - 2), _PLACES, max_size=30))
def test_packing_and_unpacking(marks: Marks, places: dict[int, tuple[bool, str]]) -> None:
    uids = sorted(places)
    listing = Listing.of(marks, uids, [places[uid] for uid in uids])
    assert listing is not None
    got = unpack(listing.pack())
    assert got is not None
    assert got.marks == marks
    assert got.uids == uids
    assert got.each_place() == [places[uid] for uid in uids]
    assert [got.place_of(uid) for uid in uids] == got.each_place()
    assert got.place_of(0) is None
    assert got.infos_of(got.uids) == [places[uid][1] for uid in uids]
    assert got.infos_of([*uids, 0]) == [*(places[uid][1] for uid in uids), None]
    for at in range(len(uids)):
        some = uids[at : at + 3]
        assert got.infos_of(some) == [places[uid][1] for uid in some]
    assert got.uids_with({":2,S", ""}) == [u for u in uids if places[u][1] in (":2,S", "")]


@given(st.binary(max_size=200))
def test_garbage_is_no_listing(octets: bytes) -> None:
    assert unpack(octets) is None


def test_too_many_kinds_of_messages() -> None:
    marks = Marks("b", (0,) * 5, (0,) * 5, ListMark((0,) * 4, 0, "", 0, b"", 0, 0))
    places = [(False, f":2,S,{number}") for number in range(257)]
    assert Listing.of(marks, [*range(1, 258)], places) is None
    assert Listing.of(marks, [*range(1, 257)], places[1:]) is not None


# --- a storm ---------------------------------------------------------------------------------


class Processes(Storm):
    """As before, and processes end and begin anew, whose clients remember what they were told."""

    def __init__(self, root: Path, place: Path, clients: list[Client], seed: int) -> None:
        super().__init__(root, clients, seed)
        self.place = place
        self.storage = MaildirStorage(clients[0].mailbox.site.config)

    def step(self) -> None:
        if self.random.random() < 0.3:
            self.random.choice([self.rest, self.restart, self.restart])()
        else:
            super().step()

    def rest(self) -> None:
        age(self.root)
        mailbox = self.random.choice(self.clients).mailbox
        mailbox.sync()
        mailbox.put_away()

    def restart(self) -> None:
        at = self.random.randrange(len(self.clients))
        before = self.clients[at]
        if self.random.random() < 0.5:
            age(self.root)
            before.mailbox.sync()
        before.mailbox.put_away()
        before.mailbox.close()
        mailbox = self.storage.open(INBOX)
        mailbox.keep_in(Shelf([self.place]))
        mailbox.sync()
        self.clients[at] = Client(mailbox)
        assert mailbox.uidnext > before.high


@pytest.mark.parametrize("seed", range(12))
def test_processes_that_go_on_where_others_ended(root: Path, place: Path, seed: int) -> None:
    (root / "away").mkdir()
    with contextlib.ExitStack() as stack:
        clients = [Client(stack.enter_context(opened(root, place))) for _ in range(3)]
        storm = Processes(root, place, clients, seed)
        for _ in range(150):
            storm.step()
            for client in clients:
                if storm.random.random() < 0.4:
                    client.catch_up()
                    client.check()
        for _ in range(2):
            for client in clients:
                client.catch_up()
                client.check()
        with opened(root, None) as fresh:
            for client in clients:
                assert client.uids == list(fresh.uids())
                assert client.flags == {uid: fresh.flags_of(uid) for uid in fresh.uids()}
        for client in clients:
            client.mailbox.close()
