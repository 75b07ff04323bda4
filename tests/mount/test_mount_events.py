"""Events of changes below: how they are read, what is concluded, how the kernel is told."""

import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import pytest

from sharefs.mount.caller import Caller
from sharefs.mount.entries import TIMEOUT
from sharefs.mount.fanotify import OF_DIRECTORIES, OF_FILES, Event, Group, Mask, key_of, parse
from sharefs.mount.gate import Gate
from sharefs.mount.lasting import FLOOD, LONG, NOISY, PAUSES, SOON, Lasting
from sharefs.mount.mirror import Mirror
from sharefs.mount.mount_table import mounts_below, mounts_in_mail_folders
from sharefs.mount.nodes import ROOT, Node, NodeTable
from sharefs.mount.protocol import (
    EXPIRE_ONLY,
    INVAL_ENTRY_OUT,
    INVAL_INODE_OUT,
    NOTIFY_INC_EPOCH,
    NOTIFY_INVAL_ENTRY,
    NOTIFY_INVAL_INODE,
)
from sharefs.mount.session import Session
from sharefs.mount.telling import AGAIN, STUCK, THREADS, Name, Teller
from sharefs.mount.turn import Turn
from sharefs.mount.waiting import Pausing
from sharefs.mount.watching import Watcher
from tests.support.become import start_as

# --- reading -----------------------------------------------------------------------------

DIRECTORY: Final = struct.pack("=Ii8s", 8, 1, b"thedir__")
FILE: Final = struct.pack("=Ii8s", 8, 1, b"thefile_")
FID, DFID_NAME, DFID = 1, 2, 3


def info(kind: int, handle: bytes, name: bytes = b"") -> bytes:
    octets = b"fsid1234" + handle + (name + b"\0" if name else b"")
    octets += bytes(-len(octets) % 4)
    return struct.pack("=BBH", kind, 0, 4 + len(octets)) + octets


def raw(mask: int, pid: int, *infos: bytes) -> bytes:
    body = b"".join(infos)
    return struct.pack("=IBBHQii", 24 + len(body), 3, 0, 24, mask, -1, pid) + body


READ: Final = [
    (
        "a name",
        raw(Mask.CREATE, 5, info(DFID_NAME, DIRECTORY, b"new")),
        [Event(Mask.CREATE, 5, DIRECTORY, b"new")],
    ),
    (
        "a name that is no UTF-8",
        raw(Mask.DELETE, 5, info(DFID_NAME, DIRECTORY, b"\xff\n")),
        [Event(Mask.DELETE, 5, DIRECTORY, b"\xff\n")],
    ),
    (
        "the directory itself",
        raw(Mask.ATTRIB | Mask.ONDIR, 5, info(DFID_NAME, DIRECTORY, b".")),
        [Event(Mask.ATTRIB | Mask.ONDIR, 5, DIRECTORY)],
    ),
    (
        "a file, told with its name",
        raw(Mask.OPEN, 0, info(DFID_NAME, DIRECTORY, b"x"), info(FID, FILE)),
        [Event(Mask.OPEN, 0, FILE)],
    ),
    ("a file alone", raw(Mask.ATTRIB, 5, info(FID, FILE)), [Event(Mask.ATTRIB, 5, FILE)]),
    (
        "both at once",
        raw(Mask.CREATE | Mask.OPEN, 5, info(DFID_NAME, DIRECTORY, b"x"), info(FID, FILE)),
        [Event(Mask.CREATE, 5, DIRECTORY, b"x"), Event(Mask.OPEN, 5, FILE)],
    ),
    ("lost", raw(Mask.Q_OVERFLOW, 0), [Event(Mask.Q_OVERFLOW, 0)]),
    (
        "several",
        raw(Mask.Q_OVERFLOW, 0) + raw(Mask.ATTRIB, 5, info(DFID, DIRECTORY)),
        [Event(Mask.Q_OVERFLOW, 0), Event(Mask.ATTRIB, 5, DIRECTORY)],
    ),
    ("nothing", b"", []),
]


@pytest.mark.parametrize(("octets", "want"), [r[1:] for r in READ], ids=[r[0] for r in READ])
def test_what_the_kernel_says(octets: bytes, want: list[Event]) -> None:
    assert list(parse(octets)) == want


@pytest.mark.parametrize(
    ("octets", "want"),
    [
        (raw(Mask.CREATE, 7, info(DFID_NAME, DIRECTORY, b"mine")), []),
        (raw(Mask.CREATE, 5, info(DFID_NAME, DIRECTORY, b"theirs")), [b"theirs"]),
        (raw(Mask.CREATE, 7, info(DFID_NAME, DIRECTORY, b"mbox.lock")), [b"mbox.lock"]),
        (raw(Mask.Q_OVERFLOW, 0), [b""]),
    ],
    ids=["ours", "others'", "our lock", "lost"],
)
def test_whose_doings_are_passed_over(octets: bytes, want: list[bytes]) -> None:
    assert [event.name for event in parse(octets, but_of=7)] == want


def test_a_group_of_ones_own(tmp_path: Path) -> None:
    """Real marks and events, and the keys by which they are recognised."""
    group = Group()
    (tmp_path / "file").write_bytes(b"x")
    directory = os.open(tmp_path, os.O_PATH)
    file = os.open(tmp_path / "file", os.O_PATH)
    try:
        group.mark(directory, OF_DIRECTORIES)
        group.mark(file, OF_FILES)
        (tmp_path / "file").chmod(0o600)
        (tmp_path / "more").touch()
        own = os.getpid()
        got = group.read()
        assert Event(Mask.ATTRIB, own, key_of(file)) in got
        assert Event(Mask.CREATE, own, key_of(directory), b"more") in got
        group.unmark(file, OF_FILES)
        (tmp_path / "file").chmod(0o644)
        assert group.read() == []
        group.flush()
        (tmp_path / "last").touch()
        assert group.read() == []
    finally:
        os.close(file)
        os.close(directory)
        group.close()


@pytest.mark.superuser
def test_a_user_needs_no_capability(open_tmp: Path) -> None:
    """Who mounts for himself.  Who else did it he is not told; that it was not he is enough."""
    os.chown(open_tmp, 61001, 61001)
    ready, go_on = os.pipe()

    def listen() -> tuple[list[int], int]:
        group = Group()
        fd = os.open(open_tmp, os.O_PATH)
        group.mark(fd, OF_DIRECTORIES)
        (open_tmp / "own").touch()
        os.write(go_on, b"!")
        deadline = time.monotonic() + 10
        while not (events := group.read(but_of=os.getpid())) and time.monotonic() < deadline:
            time.sleep(0.01)
        return [event.mask for event in events if event.name == b"others"], len(events)

    with start_as(61001, 61001, (), listen) as child:
        assert os.read(ready, 1) == b"!"
        (open_tmp / "others").touch()
        assert child.result() == ([Mask.CREATE], 1)
    os.close(ready)
    os.close(go_on)


@pytest.mark.parametrize(
    ("mask", "told"),
    [(Mask.OPEN, 0), (Mask.MODIFY, 1), (Mask.OPEN | Mask.MODIFY, 1), (Mask.Q_OVERFLOW, 0)],
    ids=lambda value: str(value),
)
def test_which_of_our_own_doings_count(mask: int, told: int) -> None:
    octets = raw(mask, 7, info(FID, FILE))
    assert len(list(parse(octets, but_of=7, ours=Mask.MODIFY | Mask.ATTRIB))) == told


MOUNTINFO: Final = """\
20 1 8:1 / / rw - ext4 /dev/vda rw
21 20 0:20 / /proc rw - proc proc rw
22 20 0:30 / /home/alice/in\\040it rw - tmpfs none rw
23 22 0:31 / /home/alice/in\\040it/deeper rw - tmpfs none rw
24 20 0:32 / /home/alice2 rw - tmpfs none rw
25 20 0:33 / /home/alice rw - tmpfs none rw
"""


@pytest.mark.parametrize(
    ("top", "mount", "want"),
    [
        ("/home/alice", "20", {22, 23}),
        ("/home/alice/in it", "22", {23}),
        ("/home/alice/in it/deeper", "23", set()),
        ("/", "20", {21, 22, 23, 24, 25}),
        ("/nowhere", "99", set()),
    ],
    ids=lambda value: str(value),
)
def test_mounts_below(top: str, mount: str, want: set[int]) -> None:
    assert {int(line.split()[0]) for line in mounts_below(top, mount, MOUNTINFO)} == want


def test_mounts_in_mail_folders() -> None:
    lines = (
        "26 20 0:34 / /home/alice/Maildir/cur rw - tmpfs none rw",
        "27 20 0:35 / /home/alice/Maildir/cur/1:2,S rw - tmpfs none rw",
        "28 20 0:36 / /srv/mail/.a\\040b/new/2 rw - tmpfs none rw",
    )
    found = mounts_in_mail_folders(MOUNTINFO + "\n".join(lines))
    assert found == {lines[1], lines[2]}


# --- concluding --------------------------------------------------------------------------


class Marks(Group):
    """A group without a kernel: which marks there are, by inode."""

    def __init__(self) -> None:
        self.there: dict[int, int] = {}

    def mark(self, fd: int, mask: int) -> None:
        self.there[os.fstat(fd).st_ino] = mask

    def unmark(self, fd: int, mask: int) -> None:
        assert self.there.pop(os.fstat(fd).st_ino) == mask

    def flush(self) -> None:
        self.there.clear()


class Local:
    """Every file system can be watched, or none."""

    def __init__(self) -> None:
        self.found = "ext4"

    def kind(self, device: int, fd: int) -> str:
        return self.found


class Told(Teller):
    """Notes what the kernel is told."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.names: list[Name] = []

    def attributes(self, ino: int, *, again: bool = True) -> None:
        self.numbers.append(ino)

    def name(self, name: Name) -> None:
        self.names.append(name)


@dataclass
class Place:
    """A directory with a file, as a mount's daemon knows it, and a clock that stands still."""

    top: Path
    marks: Marks = field(default_factory=Marks)
    told: Told = field(default_factory=Told)
    local: Local = field(default_factory=Local)
    now: float = 1000.0

    def __post_init__(self) -> None:
        (self.top / "file").write_bytes(b"hello")
        fd = os.open(self.top, os.O_PATH | os.O_DIRECTORY)
        status = os.fstat(fd)
        self.root = Node(ROOT, (status.st_dev, status.st_ino), "x", True)
        self.root.fd = fd
        self.table = NodeTable(self.root)
        self.gate = Gate()
        self.lasting = Lasting(self.gate, self.local, self.marks, self.told, clock=lambda: self.now)
        self.table.let_go = self.lasting.gone

    def close(self) -> None:
        self.gate.close()
        os.close(self.root.fd)

    def look(self, name: str = "file") -> tuple[float, float]:
        """LOOKUP: for how long the name and the attributes last; the name alone if it is none."""
        try:
            status = os.lstat(self.top / name)
        except FileNotFoundError:
            return self.lasting.missing(self.root, name), 0.0
        node = self.node(name)
        entry = self.lasting.found(self.root, name, node, status)
        self.table.known(node)
        return entry.entry_timeout, entry.attr_timeout

    def look_twice(self, name: str = "file") -> tuple[float, float]:
        self.look(name)
        self.now += SOON
        return self.look(name)

    def node(self, name: str = "file") -> Node:
        status = os.lstat(self.top / name)
        node = self.table.node_for("x", status)
        node.name_is(self.root, name)
        return node

    def key(self, name: str = ".") -> bytes:
        fd = os.open(self.top / name, os.O_PATH)
        try:
            return key_of(fd)
        finally:
            os.close(fd)

    def happens(self, mask: int, name: str = "", *, key: bytes = b"", pid: int = 1) -> None:
        self.lasting.happened([Event(mask, pid, key or self.key(), os.fsencode(name))])


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


LASTS: Final = (LONG, LONG)
SHORT: Final = (TIMEOUT, TIMEOUT)


def test_who_comes_back_gets_what_lasts(place: Place) -> None:
    assert place.look() == SHORT
    assert place.look() == SHORT  # at once: one and the same deed
    assert place.look_twice() == LASTS
    assert place.marks.there.keys() == {os.stat(place.top).st_ino, place.node().identity[1]}


def test_a_missing_name_lasts_when_it_is_asked_for_again(place: Place) -> None:
    assert place.look("missing") == (0.0, 0.0)  # as before every file that is made
    assert place.look("another") == (0.0, 0.0)
    assert place.lasting.numbers() == {"watched": 0, "remembered": 0}
    assert place.look("missing") == (LONG, 0.0)
    assert place.lasting.numbers() == {"watched": 1, "remembered": 1}


def test_a_name_that_came_before_the_mark_is_not_missing(place: Place) -> None:
    for _ in range(2):
        assert place.lasting.missing(place.root, "file") == 0.0


def written(place: Place) -> Callable[[], None]:
    file = (place.top / "file").open("ab")
    return file.close


def set_id(place: Place) -> Callable[[], None]:
    (place.top / "file").chmod(0o4755)
    return lambda: None


@pytest.mark.parametrize("prepare", [written, set_id])
def test_names_last_where_attributes_do_not(
    place: Place, prepare: Callable[[Place], Callable[[], None]]
) -> None:
    end = prepare(place)
    assert place.look_twice() == (LONG, TIMEOUT)
    end()


def test_what_cannot_be_watched(place: Place) -> None:
    place.local.found = "nfs4"
    assert place.look_twice() == SHORT
    assert place.look("missing") == (0.0, 0.0)
    assert not place.marks.there


@pytest.mark.parametrize(
    "mask", [Mask.OPEN, Mask.MODIFY, Mask.ATTRIB, Mask.MOVE_SELF], ids=lambda mask: mask.name
)
def test_an_event_ends_attributes(place: Place, mask: Mask) -> None:
    place.look_twice()
    place.happens(mask, key=place.key("file"))
    assert place.told.numbers == [place.node().ino]
    assert place.look() == (LONG, TIMEOUT)
    assert place.marks.there.keys() == {os.stat(place.top).st_ino}
    assert place.look_twice() == LASTS


@pytest.mark.parametrize(
    "mask", [Mask.CREATE, Mask.DELETE, Mask.MOVED_FROM, Mask.MOVED_TO], ids=lambda mask: mask.name
)
def test_an_event_ends_a_name(place: Place, mask: Mask) -> None:
    place.look_twice()
    place.look("missing")
    for name in ("file", "missing", "file", "never asked for"):
        place.happens(mask, name)
    assert place.told.names == [Name(ROOT, b"file", False), Name(ROOT, b"missing", False)]
    assert set(place.told.numbers) == {ROOT}
    assert place.lasting.numbers()["remembered"] == 0


def test_a_directory_is_told_of_gently(place: Place) -> None:
    (place.top / "below").mkdir()
    assert place.look_twice("below") == LASTS
    place.happens(Mask.MOVED_FROM, "below")
    assert place.told.names == [Name(ROOT, b"below", True)]


def test_our_own_doings_are_no_events(place: Place) -> None:
    place.look_twice()
    place.happens(Mask.DELETE, "file", pid=os.getpid())
    place.happens(Mask.MODIFY, key=place.key("file"), pid=os.getpid())
    assert (place.told.names, place.told.numbers) == ([], [])


def test_our_own_doings_where_a_file_is_several(place: Place) -> None:
    """They are told gently, and whoever has it open through us makes no mapping of it."""
    place.lasting = Lasting(
        place.gate, place.local, place.marks, place.told, ours=Mask.DELETE | Mask.ATTRIB,
        clock=lambda: place.now,
    )  # fmt: skip
    assert place.look_twice() == LASTS
    own = os.getpid()
    place.happens(Mask.OPEN, key=place.key("file"), pid=own)
    assert (place.told.names, place.told.numbers) == ([], [])
    place.happens(Mask.ATTRIB, key=place.key("file"), pid=own)
    assert place.told.numbers == [place.node().ino]
    assert place.look() == LASTS  # the mark stays
    place.happens(Mask.DELETE, "file", pid=own)
    assert place.told.names == [Name(ROOT, b"file", True)]


def test_a_file_that_is_several_has_one_mark(place: Place) -> None:
    """Each is told, and the mark stays until the last is forgotten."""
    status = os.lstat(place.top / "file")
    nodes = [place.node(), place.table.node_for("y", status)]
    nodes[1].name_is(place.root, "file")
    for node in nodes:
        place.table.known(node)
        for _ in range(2):
            entry = place.lasting.found(place.root, "file", node, status)
            place.now += SOON
        assert entry.attr_timeout == LONG
    place.happens(Mask.ATTRIB, key=place.key("file"))
    assert place.told.numbers == [node.ino for node in nodes]
    for node in nodes:
        place.now += SOON
        place.lasting.found(place.root, "file", node, status)
    place.table.forget(nodes[0].ino, nodes[0].lookups)
    assert status.st_ino in place.marks.there
    place.table.forget(nodes[1].ino, nodes[1].lookups)
    assert status.st_ino not in place.marks.there


def test_a_scope_is_taken_back(place: Place) -> None:
    place.look_twice()
    assert place.lasting.lasts("x")
    place.lasting.take_back("another")
    assert not place.told.names
    place.lasting.take_back("x")
    assert [name.name for name in place.told.names] == [b"file"]
    assert not place.lasting.lasts("x")
    assert not place.marks.there
    assert place.lasting.numbers() == {"watched": 0, "remembered": 0}


def test_what_the_kernel_forgets(place: Place) -> None:
    place.look_twice()
    node = place.node()
    place.table.forget(node.ino, node.lookups)
    assert place.marks.there.keys() == {os.stat(place.top).st_ino}
    assert node.watch is None


def test_a_number_that_becomes_another_file(place: Place) -> None:
    place.look_twice()
    node = place.node()
    (place.top / "other").write_bytes(b"x")
    place.table.retarget(node, os.stat(place.top / "other"))
    assert place.told.numbers == [node.ino]
    assert node.watch is None


def test_lost_events(place: Place) -> None:
    place.look_twice()
    place.look("missing")
    for pause in (*PAUSES, PAUSES[-1]):
        place.told.names.clear()
        place.told.numbers.clear()
        place.happens(Mask.Q_OVERFLOW)
        assert {name.name for name in place.told.names} == {b"file", b"missing"}
        assert set(place.told.numbers) == {ROOT, place.node().ino}
        assert not place.marks.there
        assert place.lasting.numbers() == {"watched": 0, "remembered": 0}
        assert (place.look(), place.look("missing")) == (SHORT, (0.0, 0.0))
        place.now += pause - 0.1
        assert (place.look(), place.look("missing")) == (SHORT, (0.0, 0.0))
        place.now += 6
        assert place.look_twice() == LASTS
        assert place.look("missing") == (LONG, 0.0)


def test_nobody_hears_of_events_any_more(place: Place) -> None:
    place.look_twice()
    place.lasting.give_up()
    assert [name.name for name in place.told.names] == [b"file"]
    place.now += 10_000
    assert (place.look_twice(), place.look("missing")) == (SHORT, (0.0, 0.0))


def test_too_many_events_of_one_directory(place: Place) -> None:
    (place.top / "calm").mkdir()
    place.look_twice("calm")
    place.look("missing")
    for number in range(NOISY + 1):
        place.happens(Mask.CREATE, f"{number}")
    assert Name(ROOT, b"missing", False) in place.told.names
    assert place.lasting.numbers() == {"watched": 1, "remembered": 0}
    assert place.look("missing") == (0.0, 0.0)
    place.now += 6
    assert place.look("missing") == (LONG, 0.0)


def test_a_flood(place: Place) -> None:
    """Of many directories, none of which is noisy."""
    directories = [place.top / f"{number}" for number in range(FLOOD // NOISY + 1)]
    keys = []
    for path in directories:
        path.mkdir()
        place.look(path.name)
    place.now += SOON
    for path in directories:
        assert place.look(path.name) == LASTS
        keys.append(place.key(path.name))
    assert place.lasting.numbers()["watched"] == len(keys) + 1
    for key in keys:
        place.lasting.happened([Event(Mask.CREATE, 1, key, b"x")] * NOISY)
    assert place.lasting.numbers() == {"watched": 0, "remembered": 0}


# --- telling -----------------------------------------------------------------------------


class Kernel:
    """Takes messages; those about names that begin with "stuck" not before it is let go."""

    def __init__(self) -> None:
        self.got: list[tuple[int, bytes]] = []
        self.free = threading.Event()
        self.changed = threading.Condition()

    def __call__(self, code: int, *octets: bytes) -> None:
        with self.changed:
            self.got.append((code, b"".join(octets)))
            self.changed.notify_all()
        if code == NOTIFY_INVAL_ENTRY and octets[1].startswith(b"stuck"):
            assert self.free.wait(10)

    def wait_for(self, code: int, octets: bytes, times: int = 1) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.got.count((code, octets)) >= times, 10)


def entry(parent: int, name: bytes, *, flags: int = 0) -> bytes:
    return INVAL_ENTRY_OUT.pack(parent, len(name), flags) + name + b"\0"


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def teller(kernel: Kernel) -> Iterator[Teller]:
    teller = Teller(kernel)
    yield teller
    kernel.free.set()
    teller.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "telling"]


def test_attributes_are_told_at_once_and_again(teller: Teller, kernel: Kernel) -> None:
    want = (NOTIFY_INVAL_INODE, INVAL_INODE_OUT.pack(7, -1, 0))
    teller.attributes(7)
    teller.attributes(7)
    assert kernel.got == [want] * 2
    assert teller.has_more
    time.sleep(AGAIN)
    teller.tick()
    assert kernel.got == [want] * 3  # once for both
    assert not teller.has_more


def test_names_are_told_by_others(teller: Teller, kernel: Kernel) -> None:
    teller.name(Name(7, b"file", False))
    kernel.wait_for(NOTIFY_INVAL_ENTRY, entry(7, b"file"))
    teller.name(Name(7, b"directory", True))
    kernel.wait_for(NOTIFY_INVAL_ENTRY, entry(7, b"directory", flags=EXPIRE_ONLY))
    time.sleep(AGAIN)
    teller.tick()
    kernel.wait_for(NOTIFY_INVAL_ENTRY, entry(7, b"directory", flags=EXPIRE_ONLY), times=2)


def test_who_is_stuck_is_replaced(teller: Teller, kernel: Kernel) -> None:
    for number in range(THREADS - 1):
        stuck = b"stuck%d" % number
        teller.name(Name(7, stuck, False))
        _tick_until(teller, kernel, entry(7, stuck))
    teller.name(Name(8, b"file", False))
    _tick_until(teller, kernel, entry(8, b"file"))
    assert NOTIFY_INC_EPOCH not in [code for code, _ in kernel.got]


def test_when_all_are_stuck_everything_is_forgotten(teller: Teller, kernel: Kernel) -> None:
    for number in range(THREADS):
        stuck = b"stuck%d" % number
        teller.name(Name(7, stuck, False))
        _tick_until(teller, kernel, entry(7, stuck))
    time.sleep(STUCK)
    teller.name(Name(8, b"file", False))
    teller.tick()
    assert kernel.got[-1] == (NOTIFY_INC_EPOCH, b"")
    kernel.free.set()
    teller.name(Name(8, b"later", False))
    kernel.wait_for(NOTIFY_INVAL_ENTRY, entry(8, b"later"))


def _tick_until(teller: Teller, kernel: Kernel, octets: bytes) -> None:
    deadline = time.monotonic() + 10
    while (NOTIFY_INVAL_ENTRY, octets) not in kernel.got:
        assert time.monotonic() < deadline
        teller.tick()
        time.sleep(0.01)


def test_a_kernel_that_knows_nothing_of_it(teller: Teller) -> None:
    def refuse(code: int, *octets: bytes) -> None:
        raise FileNotFoundError

    refused = Teller(refuse)
    refused.attributes(7)
    refused.name(Name(7, b"file", False))
    refused.close()


# --- hearing -----------------------------------------------------------------------------


class Spoilt(Mirror):
    """Has something to check besides events, and a bug there."""

    spoilt = False

    @property
    def needs_checks(self) -> bool:
        return self.spoilt

    def check(self) -> bool:
        raise ZeroDivisionError


class Hearing:
    """As much of a session as a watcher needs."""

    def __init__(self, notify: Kernel) -> None:
        self.turn = Turn()
        self.notify = notify


def test_who_hears_no_more_takes_everything_back(
    tmp_path: Path, kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"hello")
    tree = Spoilt(os.open(tmp_path, os.O_PATH | os.O_DIRECTORY), Pausing())
    session = Hearing(kernel)
    watcher = Watcher.open(tree)
    assert watcher is not None
    watcher.start(cast(Session, session))
    asker = Caller(0, 0, os.getpid())

    def look() -> tuple[float, float]:
        with session.turn:
            node, status = tree.find(tree.table[ROOT], "file", asker)
            entry = tree.found(tree.table[ROOT], "file", node, status, asker)
            tree.table.known(node)
            return entry.entry_timeout, entry.attr_timeout

    try:
        assert look() == SHORT
        time.sleep(SOON)
        assert look() == LASTS
        tree.spoilt = True
        (tmp_path / "another").touch()  # so that it looks
        kernel.wait_for(NOTIFY_INVAL_ENTRY, entry(ROOT, b"file"))
        assert "changes below are not heard of any more" in caplog.text
        assert look() == SHORT
    finally:
        watcher.stop()
        tree.close()
