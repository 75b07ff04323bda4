"""flock(2) and fcntl(2) between programs on the mount and programs beside it.

Each scenario runs with both programs on a plain directory, which says what is right, and with each
of them, or both, on the mount.
"""

import contextlib
import errno
import fcntl
import os
import select
import signal
import struct
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from sharefs.mount.lock_ranges import LAST, READ, UNLOCK, WRITE, Range
from sharefs.mount.locks import MAX_RANGES, SHARE, Locks, Owner, Target
from tests.account.world import UIDS, World
from tests.mount.posix_names import tried
from tests.mount.test_mount_rights import make_box
from tests.mount.worlds import make_inboxes, users_at_home, view_of
from tests.support.become import Identity, start_as
from tests.support.mount import Mount, mounted

pytestmark = [pytest.mark.superuser, pytest.mark.fuse]

NOW: Final = fcntl.LOCK_NB
FLOCK: Final = struct.Struct("hhqqi4x")
ALICE: Final = Identity(UIDS["alice"], UIDS["alice"])
BOB: Final = Identity(UIDS["bob"], UIDS["bob"])
Way = Callable[..., Any]
WAYS: Final[dict[str, Way]] = {"flock": fcntl.flock, "fcntl": fcntl.lockf}


class Program:
    """A process that does what it is told, one thing after the other, and says what came of it."""

    def __init__(self, who: Identity) -> None:
        self._asked, asks = os.pipe()
        answers, self._answered = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                os.close(asks)
                os.close(answers)
                if who.uid:
                    os.setgroups(who.groups)
                    os.setresgid(who.gid, who.gid, who.gid)
                    os.setresuid(who.uid, who.uid, who.uid)
                self._serve()
            finally:
                os._exit(0)
        os.close(self._asked)
        os.close(self._answered)
        self._asks, self._answers = asks, answers

    def _serve(self) -> None:
        files: dict[str, int] = {}
        signal.signal(signal.SIGALRM, lambda number, frame: None)
        while words := os.read(self._asked, 4096).decode().split("\t"):
            if words == [""]:
                return
            os.write(self._answered, repr(tried(self._do, files, *words)).encode() + b"\n")

    @staticmethod
    def _do(files: dict[str, int], verb: str, *rest: str) -> Any:
        match verb, *rest:
            case "open", path, name, *flags:
                files[name] = os.open(path, int(flags[0]) if flags else os.O_RDWR)
                return "open"
            case "close", name:
                return os.close(files.pop(name))
            case "flock", name, how:
                return fcntl.flock(files[name], int(how))
            case "fcntl", name, how, *where:
                length, start = map(int, where) if where else (0, 0)
                return fcntl.lockf(files[name], int(how), length, start)
            case "ofd", name, kind:
                packed = FLOCK.pack(int(kind), 0, 0, 0, 0)
                return bool(fcntl.fcntl(files[name], fcntl.F_OFD_SETLK, packed))
            case "get", name, kind, start, length:
                packed = FLOCK.pack(int(kind), 0, int(start), int(length), 0)
                return FLOCK.unpack(fcntl.fcntl(files[name], fcntl.F_GETLK, packed))
            case "interruptible", way, name:
                old = signal.setitimer(signal.ITIMER_REAL, 0.2)
                assert old == (0.0, 0.0)
                signal.siginterrupt(signal.SIGALRM, True)
                return _without_retry(way, files[name])
            case "dup", name, other:
                files[other] = os.dup(files[name])
                return "dup"
        raise AssertionError(verb, rest)

    def ask(self, *words: object) -> None:
        os.write(self._asks, "\t".join(map(str, words)).encode())

    def answer(self, timeout: float = 20.0) -> str:
        ready, _, _ = select.select([self._answers], [], [], timeout)
        if not ready:
            return "waits"
        return os.read(self._answers, 4096).decode().strip()

    def do(self, *words: object) -> str:
        self.ask(*words)
        return self.answer()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def end(self) -> None:
        self.kill()
        os.close(self._asks)
        os.close(self._answers)
        os.waitpid(self.pid, 0)


def _without_retry(way: str, fd: int) -> str:
    """Python calls again after EINTR (PEP 475), so the handler raises."""

    def stop(number: int, frame: object) -> None:
        raise InterruptedError(errno.EINTR, "interrupted")

    signal.signal(signal.SIGALRM, stop)
    try:
        WAYS[way](fd, fcntl.LOCK_EX)
    except InterruptedError:
        return "interrupted"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "locked"


@contextlib.contextmanager
def programs(number: int, *who: Identity) -> Iterator[list[Program]]:
    made: list[Program] = []
    try:
        for one in who or (Identity(0, 0),) * number:
            made.append(Program(one))  # noqa: PERF401  # what was made before an error must end
        yield made
    finally:
        for program in made:
            program.end()


# --- scenarios: the file as the first program calls it, and as the others do --------------------

Scenario = Callable[[Path, Path], Any]


def whole_file_locks(one: Path, other: Path) -> Any:
    found = []
    for way in WAYS:
        with programs(2) as (a, b):
            found += [a.do("open", one, "f"), b.do("open", other, "f")]
            for who, how in (
                (a, fcntl.LOCK_EX), (b, fcntl.LOCK_EX), (b, fcntl.LOCK_SH), (a, fcntl.LOCK_SH),
                (b, fcntl.LOCK_SH), (a, fcntl.LOCK_EX), (b, fcntl.LOCK_UN), (a, fcntl.LOCK_EX),
                (b, fcntl.LOCK_SH),
            ):  # fmt: skip
                found.append(who.do(way, "f", how | (0 if how == fcntl.LOCK_UN else NOW)))
            found.append(a.do("close", "f"))
            found.append(eventually(partial(b.do, way, "f", fcntl.LOCK_EX | NOW)))
    return found


def eventually(ask: Callable[[], str]) -> str:
    """A close(2) through FUSE reaches the daemon a moment later."""
    answer = ""
    for _ in range(100):
        answer = ask()
        if answer == "None":
            break
        select.select([], [], [], 0.02)
    return answer


def ranges(one: Path, other: Path) -> Any:
    ex, sh, un = fcntl.LOCK_EX | NOW, fcntl.LOCK_SH | NOW, fcntl.LOCK_UN
    found = []
    with programs(2) as (a, b):
        a.do("open", one, "f"), b.do("open", other, "f")
        for who, how, length, start in (
            (a, ex, 10, 20), (b, ex, 10, 10), (b, ex, 11, 10), (a, sh, 5, 20), (b, sh, 15, 10),
            (b, sh, 16, 10), (b, ex, 0, 30), (a, ex, 0, 25), (a, un, 0, 0), (b, ex, 0, 25),
            (b, un, 2, 26), (a, ex, 2, 26), (a, ex, 3, 26),
        ):  # fmt: skip
            found.append(who.do("fcntl", "f", how, length, start))
    return found


def who_is_in_the_way(one: Path, other: Path) -> Any:
    """F_GETLK names the range, and the process."""
    found: list[Any] = []
    with programs(2) as (a, b):
        a.do("open", one, "f"), b.do("open", other, "f")
        a.do("fcntl", "f", fcntl.LOCK_EX | NOW, 10, 20)
        for kind, start, length in (
            (fcntl.F_WRLCK, 0, 0), (fcntl.F_RDLCK, 25, 100), (fcntl.F_WRLCK, 30, 5),
        ):  # fmt: skip
            answer = b.do("get", "f", kind, start, length)
            found.append(answer.replace(str(a.pid), "first"))
        found.append(a.do("get", "f", fcntl.F_WRLCK, 0, 0))  # his own are not
    return found


def any_close_ends_a_process_locks(one: Path, other: Path) -> Any:
    with programs(2) as (a, b):
        b.do("open", other, "f")
        a.do("open", one, "f"), a.do("fcntl", "f", fcntl.LOCK_EX | NOW)
        found = [b.do("fcntl", "f", fcntl.LOCK_EX | NOW)]
        a.do("open", one, "again", os.O_RDONLY), a.do("close", "again")
        return [*found, b.do("fcntl", "f", fcntl.LOCK_EX | NOW)]


def a_copy_of_the_descriptor_keeps_flock(one: Path, other: Path) -> Any:
    with programs(2) as (a, b):
        b.do("open", other, "f")
        a.do("open", one, "f"), a.do("dup", "f", "g"), a.do("flock", "f", fcntl.LOCK_EX | NOW)
        a.do("close", "f")
        found = [b.do("flock", "f", fcntl.LOCK_EX | NOW)]
        a.do("close", "g")
        return [*found, eventually(lambda: b.do("flock", "f", fcntl.LOCK_EX | NOW))]


def open_file_locks(one: Path, other: Path) -> Any:
    """F_OFD_SETLK of a program on the mount."""
    with programs(2) as (a, b):
        b.do("open", other, "f"), a.do("open", one, "f"), a.do("open", one, "g")
        found = [a.do("ofd", "f", WRITE), a.do("ofd", "g", WRITE), b.do("ofd", "f", READ)]
        found += [a.do("close", "g"), b.do("ofd", "f", READ), a.do("close", "f")]
        return [*found, eventually(lambda: str(b.do("ofd", "f", READ) != "True" or None))]


def waiting(one: Path, other: Path) -> Any:
    """Who waits gets it when it is let go: by unlocking, by close(2), by SIGKILL."""
    found = []
    for way in WAYS:
        for ending in ("unlock", "close", "kill"):
            with programs(2) as (a, b):
                a.do("open", one, "f"), b.do("open", other, "f")
                a.do(way, "f", fcntl.LOCK_EX | NOW)
                b.ask(way, "f", fcntl.LOCK_EX)
                found.append(b.answer(0.06))
                if ending == "unlock":
                    a.do(way, "f", fcntl.LOCK_UN)
                elif ending == "close":
                    a.do("close", "f")
                else:
                    a.kill()
                found.append(b.answer())
    return found


def interrupted(one: Path, other: Path) -> Any:
    """A signal ends the waiting; the lock of nobody is left."""
    found = []
    for way in WAYS:
        with programs(3) as (a, b, c):
            a.do("open", one, "f"), b.do("open", other, "f"), c.do("open", other, "f")
            a.do(way, "f", fcntl.LOCK_EX | NOW)
            found.append(b.do("interruptible", way, "f"))
            a.do(way, "f", fcntl.LOCK_UN)
            found.append(c.do(way, "f", fcntl.LOCK_EX | NOW))
    return found


def killed_while_waiting(one: Path, other: Path) -> Any:
    with programs(3) as (a, b, c):
        a.do("open", one, "f"), b.do("open", other, "f"), c.do("open", other, "f")
        a.do("fcntl", "f", fcntl.LOCK_EX | NOW)
        b.ask("fcntl", "f", fcntl.LOCK_EX)
        found = [b.answer(0.1)]
        b.kill()
        os.waitid(os.P_PID, b.pid, os.WEXITED | os.WNOWAIT)
        a.do("fcntl", "f", fcntl.LOCK_UN)
        return [*found, c.do("fcntl", "f", fcntl.LOCK_EX | NOW)]


def first_come(one: Path, other: Path) -> Any:
    """Readers who wait get it together."""
    with programs(3) as (a, b, c):
        a.do("open", one, "f"), b.do("open", other, "f"), c.do("open", other, "f")
        a.do("fcntl", "f", fcntl.LOCK_EX | NOW)
        b.ask("fcntl", "f", fcntl.LOCK_SH)
        c.ask("fcntl", "f", fcntl.LOCK_SH)
        found = [b.answer(0.1), c.answer(0.1)]
        a.do("fcntl", "f", fcntl.LOCK_UN)
        return [*found, b.answer(), c.answer()]


SCENARIOS: Final[list[Scenario]] = [
    whole_file_locks, ranges, who_is_in_the_way, any_close_ends_a_process_locks,
    a_copy_of_the_descriptor_keeps_flock, open_file_locks, waiting, interrupted,
    killed_while_waiting, first_come,
]  # fmt: skip


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with users_at_home() as world:
        make_inboxes(world)
        yield world


@pytest.fixture(scope="module")
def view(world: World) -> Iterator[Mount]:
    with view_of(world) as mount:
        yield mount


@pytest.fixture(scope="module")
def mirror(world: World) -> Iterator[Mount]:
    work = world.top / "mirrored"
    (work / "source").mkdir(parents=True)
    with mounted(work, ["--mirror", work / "source"]) as mount:
        yield mount


@pytest.fixture(params=["mirror", "view"])
def both_ways(
    request: pytest.FixtureRequest, world: World, mirror: Mount, view: Mount
) -> tuple[Path, Path]:
    """One directory on the mount and below: the mirror's, and alice's own mailbox."""
    if request.param == "mirror":
        return mirror.top, world.top / "mirrored" / "source"
    return view.top / "alice" / ".Own", world.maildir("alice", ".Own")


@pytest.mark.parametrize("sides", ["mount and mount", "mount and beside", "beside and mount"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.__name__)
def test_locks_are_the_same_everywhere(
    both_ways: tuple[Path, Path], open_tmp: Path, scenario: Scenario, sides: str
) -> None:
    plain = open_tmp / "plain"
    plain.write_bytes(b"0123456789" * 10)
    want = scenario(plain, plain)
    seen, below = both_ways
    name = f"dovecot.{scenario.__name__}"
    (below / name).write_bytes(b"0123456789" * 10)
    place = {"mount": seen / name, "beside": below / name}
    first, second = sides.split(" and ")
    if scenario is who_is_in_the_way and first == "mount" and second == "beside":
        want = [one.replace("first)", "-1)") for one in want]  # the daemon's, an open file's
    assert scenario(place[first], place[second]) == want


def test_two_who_wait_for_each_other_are_told(both_ways: tuple[Path, Path]) -> None:
    seen, below = both_ways
    (below / "dovecot.ring").write_bytes(b"x" * 100)
    with programs(3) as members:
        for n, one in enumerate(members):
            one.do("open", seen / "dovecot.ring", "f")
            assert one.do("fcntl", "f", fcntl.LOCK_EX | NOW, 1, n) == "None"
        members[0].ask("fcntl", "f", fcntl.LOCK_EX, 1, 1)
        members[1].ask("fcntl", "f", fcntl.LOCK_EX, 1, 2)
        assert [one.answer(0.1) for one in members[:2]] == ["waits", "waits"]
        assert members[2].do("fcntl", "f", fcntl.LOCK_EX, 1, 0) == repr(
            errno.errorcode[errno.EDEADLK]
        )
        members[2].do("close", "f")
        assert members[1].answer() == "None"


def test_a_viewers_locks_do_not_stop_the_owner(world: World, view: Mount) -> None:
    """Who may read a file may lock it; but bob's programs are no reason for alice's to wait."""
    box = make_box(world, "Locked", "lr")
    index = box / "dovecot.index.log"
    index.write_bytes(b"log")
    os.chown(index, ALICE.uid, ALICE.gid)
    seen = view.top / "bob" / ".shared.alice.Locked" / "dovecot.index.log"
    own = view.top / "alice" / ".Locked" / "dovecot.index.log"
    for way in WAYS:
        with programs(4, BOB, BOB, ALICE, ALICE) as (bob, again, beside, on_mount):
            for one in (bob, again):
                assert one.do("open", seen, "f", os.O_RDONLY) == "'open'"
            assert beside.do("open", index, "f") == "'open'"
            assert on_mount.do("open", own, "f") == "'open'"
            assert bob.do(way, "f", fcntl.LOCK_SH | NOW) == "None"
            if way == "flock":
                assert bob.do(way, "f", fcntl.LOCK_EX | NOW) == "None"
                assert again.do(way, "f", fcntl.LOCK_SH | NOW) == "'EAGAIN'"
            else:
                assert again.do(way, "f", fcntl.LOCK_SH | NOW) == "None"
            assert beside.do(way, "f", fcntl.LOCK_EX | NOW) == "None"
            assert on_mount.do(way, "f", fcntl.LOCK_EX | NOW) == "'EAGAIN'"


def test_a_process_has_no_more_locks_than_its_share(open_tmp: Path) -> None:
    (open_tmp / "source").mkdir()
    path = open_tmp / "mnt" / "file"
    with mounted(
        open_tmp, ["--mirror", open_tmp / "source"], shell="ulimit -n 512; exec "
    ) as mount:
        (open_tmp / "source" / "file").write_bytes(b"x")
        (open_tmp / "source" / "file").chmod(0o666)

        def collect() -> list[Any]:
            """Each child is another owner of locks, through the one open file."""
            fd, pids, answers = os.open(path, os.O_RDWR), [], []
            for _ in range(30):
                reader, writer = os.pipe()
                pid = os.fork()
                if not pid:
                    found = tried(fcntl.lockf, fd, fcntl.LOCK_SH | NOW)
                    os.write(writer, str(found).encode())
                    signal.pause()
                pids.append(pid)
                answers.append(os.read(reader, 100).decode())
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            return answers

        with start_as(61001, 61001, (), collect) as child:
            answers = child.result()
        assert set(answers) == {"None", "ENOLCK"}
        share = 512 // 8 // SHARE
        assert answers.count("None") == share
        assert BOB.run(lambda: tried(fcntl.lockf, os.open(path, os.O_RDWR), fcntl.LOCK_SH)) is None
        assert mount.process.poll() is None


def test_locks_can_be_left_to_the_kernel(open_tmp: Path) -> None:
    (open_tmp / "source").mkdir()
    (open_tmp / "source" / "file").write_bytes(b"x")
    with mounted(open_tmp, ["--mirror", open_tmp / "source", "-o", "locks=local"]):
        for way in WAYS:
            with programs(3) as (one, other, beside):
                one.do("open", open_tmp / "mnt" / "file", "f")
                other.do("open", open_tmp / "mnt" / "file", "f")
                beside.do("open", open_tmp / "source" / "file", "f")
                assert one.do(way, "f", fcntl.LOCK_EX | NOW) == "None"
                assert other.do(way, "f", fcntl.LOCK_EX | NOW) == "'EAGAIN'"
                assert beside.do(way, "f", fcntl.LOCK_EX | NOW) == "None"


# --- the table of locks itself ------------------------------------------------------------------


@pytest.fixture
def locks() -> Iterator[Locks]:
    made = Locks(64)
    made.start()
    yield made
    made.close()
    assert len(made) == 0


def whole(number: int, *, uid: int = 61001, handle: int = 5) -> Owner:
    return Owner(number, False, uid, handle)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield Target("file", fd)
    os.close(fd)


def test_nothing_is_left_of_who_has_gone(locks: Locks, target: Target) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(8):
        assert locks.try_set(target, whole(number, handle=number), Range(number, number, WRITE))
    assert len(locks) == 8
    for number in range(4):
        locks.closed_by(target, number)
    for number in range(4, 8):
        locks.released(number)
    assert len(locks) == 0
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_range_too_many_is_refused(locks: Locks, target: Target) -> None:
    def every_other_octet() -> None:
        for n in range(MAX_RANGES):
            assert locks.try_set(target, whole(1), Range(2 * n, 2 * n, READ))

    with pytest.raises(OSError, match="locks") as caught:
        every_other_octet()
    assert caught.value.errno == errno.ENOLCK
    assert locks.try_set(target, whole(2, handle=6), Range(0, LAST, READ))


def test_unlocking_what_nobody_locked_is_done(locks: Locks, target: Target) -> None:
    assert locks.try_set(target, whole(1), Range(0, LAST, UNLOCK))
    assert len(locks) == 0


def test_who_gave_up_gets_nothing(locks: Locks, target: Target) -> None:
    assert locks.try_set(target, whole(1), Range(0, LAST, WRITE))
    assert not locks.try_set(target, whole(2), Range(0, LAST, WRITE))
    wait = locks.wait(target, whole(2), Range(0, LAST, WRITE))
    locks.give_up(wait)
    locks.give_up(wait)
    with pytest.raises(OSError, match="Interrupted"):
        wait.future.result(1)
    locks.closed_by(target, 1)
    assert locks.try_set(target, whole(3), Range(0, LAST, WRITE))


def test_many_threads_count_without_loss(locks: Locks, target: Target) -> None:
    """Each waits for its turn; nobody is forgotten."""
    counted = [0]

    def count(number: int) -> None:
        for _ in range(20):
            owner, wanted = whole(number), Range(0, LAST, WRITE)
            if not locks.try_set(target, owner, wanted):
                locks.wait(target, owner, wanted).future.result(20)
            value = counted[0]
            select.select([], [], [], 0)
            counted[0] = value + 1
            locks.closed_by(target, number)

    threads = [threading.Thread(target=count, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert counted == [120]
