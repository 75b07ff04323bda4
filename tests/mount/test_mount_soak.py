"""Thousands of operations by several users at once; afterwards nothing is left of them."""

import contextlib
import errno
import fcntl
import os
import random
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.account.world import UIDS, World
from tests.mount.rights_table import RENAME_NOREPLACE, renameat2
from tests.mount.test_mount_rights import make_box
from tests.mount.worlds import viewed
from tests.support.become import start_as
from tests.support.mount import Mount, mounted

pytestmark = [pytest.mark.superuser, pytest.mark.fuse]

ROUNDS: Final = 250  # by each worker; every one is some ten system calls
WORKERS: Final = ("alice", "alice", "bob", "bob", "carol")
PAGES: Final = 1024  # of memory that may have been won: allocators keep some


def look(box: Path, pick: random.Random) -> None:
    for folder in ("cur", "new", "tmp"):
        with os.scandir(box / folder) as entries:
            for entry in entries:
                entry.stat()


def deliver(box: Path, pick: random.Random) -> None:
    name = f"{pick.randrange(40)}.host"
    with contextlib.suppress(FileExistsError):
        (box / "tmp" / name).open("x").close()
    os.link(box / "tmp" / name, box / "new" / name)
    os.unlink(box / "tmp" / name)


def notice(box: Path, pick: random.Random) -> None:
    name = f"{pick.randrange(40)}.host"
    renameat2(box / "new" / name, box / "cur" / f"{name}:2,", RENAME_NOREPLACE)


def flag(box: Path, pick: random.Random) -> None:
    name = f"{pick.randrange(40)}.host:2,"
    old, new = pick.choice([("", "S"), ("S", "FS"), ("FS", ""), ("S", "")])
    os.rename(box / "cur" / (name + old), box / "cur" / (name + new))


def hold_removed(box: Path, pick: random.Random) -> None:
    """Open, remove, go on with it: the kernel asks after files without a name."""
    path = pick.choice(sorted((box / "cur").iterdir()))
    fd = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(PermissionError):
            os.unlink(path)
        os.fstat(fd)
        os.read(fd, 10)
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    finally:
        os.close(fd)


def control(box: Path, pick: random.Random) -> None:
    lock = box / f"dovecot-uidlist.{os.getpid()}.lock"
    lock.write_text("x" * pick.randrange(5000))
    os.rename(lock, box / "dovecot-uidlist")
    (box / "dovecot-uidlist").read_text()


def miss(box: Path, pick: random.Random) -> None:
    for name in ("cur/nothing", "nowhere/cur", "cur/x/y", "../nobody"):
        with contextlib.suppress(OSError):
            os.stat(box / name)


def attributes(box: Path, pick: random.Random) -> None:
    os.getxattr(box, "user.sharefs.myrights")
    os.listxattr(box)
    os.utime(pick.choice(sorted((box / "new").iterdir())), (1, 1))


def folders(box: Path, pick: random.Random) -> None:
    mailbox = box.parent / f".soak{os.getpid()}"
    for path in (mailbox, mailbox / "cur", mailbox / "new", mailbox / "tmp"):
        path.mkdir()
    (mailbox / "cur" / "1.host:2,").write_text("x")
    os.rename(mailbox / "cur" / "1.host:2,", box / "new" / f"{pick.randrange(40)}.host")
    for path in (mailbox / "cur", mailbox / "new", mailbox / "tmp", mailbox):
        path.rmdir()


DEEDS: Final[list[Callable[[Path, random.Random], None]]] = [
    look, deliver, notice, flag, hold_removed, control, miss, attributes,
]  # fmt: skip


@pytest.fixture
def place() -> Iterator[tuple[World, Mount]]:
    with viewed() as both:
        yield both


def work(home: Path, box: Path, seed: int, rounds: int) -> int:
    """How much of it could be done at all."""
    pick, done = random.Random(seed), 0
    for _ in range(rounds):
        deed = pick.choice([*DEEDS, folders] if pick.randrange(20) == 0 else DEEDS)
        where = box if deed is not folders else home / ".Own"
        with contextlib.suppress(OSError, IndexError):
            deed(where, pick)
            done += 1
    return done


def soak(mount: Mount, rounds: int) -> None:
    with contextlib.ExitStack() as stack:
        children = []
        for seed, name in enumerate(WORKERS):
            home = mount.top / name
            box = home / (".Soak" if name == "alice" else ".shared.alice.Soak")
            job = partial(work, home, box, seed, rounds)
            children.append(stack.enter_context(start_as(UIDS[name], UIDS[name], (), job)))
        done = [child.result() for child in children]
    assert min(done[:4]) > rounds // 4, done


@dataclass(frozen=True)
class State:
    """Of the daemon, once the kernel has forgotten what nobody uses.  memory: pages."""

    inodes: int
    lookups: int
    handles: int
    descriptors: int
    threads: int
    memory: int


def state(mount: Mount) -> State:
    Path("/proc/sys/vm/drop_caches").write_text("2")
    text = os.getxattr(mount.top, "trusted.sharefs.status").decode()
    found = dict(line.split() for line in text.splitlines())
    process = Path(f"/proc/{mount.process.pid}")
    return State(
        inodes=int(found["inodes"]),
        lookups=int(found["lookups"]),
        handles=int(found["handles"]),
        descriptors=mount.descriptors(),
        threads=len(os.listdir(process / "task")),
        memory=int((process / "statm").read_text().split()[1]),
    )


def settled(mount: Mount, before: State) -> State:
    """Releases and forgets come behind what caused them."""
    deadline = time.monotonic() + 10
    while True:
        now = state(mount)
        if (now.inodes, now.handles) <= (before.inodes, before.handles):
            return now
        assert time.monotonic() < deadline, (before, now)
        time.sleep(0.05)


def demand_nothing_left(before: State, after: State) -> None:
    assert after.inodes <= before.inodes
    assert after.lookups <= before.lookups
    assert after.handles == before.handles == 0
    assert after.descriptors <= before.descriptors + 4  # directories that were opened again
    assert after.threads <= before.threads + 4
    assert after.memory - before.memory < PAGES


def test_nothing_is_left_of_a_days_work_in_the_view(place: tuple[World, Mount]) -> None:
    world, mount = place
    make_box(world, "Soak", "lrwstipe")
    soak(mount, ROUNDS // 4)  # what is made once is there now
    before = state(mount)
    soak(mount, ROUNDS)
    demand_nothing_left(before, settled(mount, before))


def test_nothing_is_left_of_a_days_work_in_a_mirror(open_tmp: Path) -> None:
    source = open_tmp / "source"
    for path in (source, *(source / name for name in ("cur", "new", "tmp"))):
        path.mkdir()
        path.chmod(0o777)
    deeds = [deed for deed in DEEDS if deed is not attributes]

    def work_there(top: Path, seed: int, rounds: int) -> int:
        pick, done = random.Random(seed), 0
        for _ in range(rounds):
            with contextlib.suppress(OSError, IndexError):
                pick.choice(deeds)(top, pick)
                done += 1
        return done

    def soak_mirror(rounds: int) -> None:
        uids = [UIDS[name] for name in WORKERS]
        with contextlib.ExitStack() as stack:
            children = [
                stack.enter_context(
                    start_as(uid, uid, (), partial(work_there, mount.top, seed, rounds))
                )
                for seed, uid in enumerate(uids)
            ]
            for child in children:
                assert child.result() > rounds // 4

    with mounted(open_tmp, ["--mirror", source]) as mount:
        soak_mirror(ROUNDS // 4)
        before = state(mount)
        soak_mirror(ROUNDS)
        demand_nothing_left(before, settled(mount, before))


def test_names_that_come_and_go_beside_the_mount(open_tmp: Path) -> None:
    """Forgetting, looking up and removing at the same time: numbers are used again at once."""
    source = open_tmp / "source"
    source.mkdir()
    source.chmod(0o777)

    def change(number: int) -> int:
        for turn in range(600):
            path = source / str(turn % 7)
            with contextlib.suppress(OSError):
                path.unlink()
            with contextlib.suppress(OSError):
                path.rmdir()
            with contextlib.suppress(OSError):
                path.mkdir() if (turn + number) % 3 == 0 else path.write_text(str(turn))
        return 0

    def use(top: Path, seed: int) -> int:
        pick, wrong = random.Random(seed), 0
        for _ in range(600):
            name = str(pick.randrange(7))
            try:
                found = os.stat(top / name)
                fd = os.open(top / name, os.O_RDONLY)
                try:
                    wrong += stat.S_IFMT(os.fstat(fd).st_mode) not in (stat.S_IFREG, stat.S_IFDIR)
                    wrong += found.st_ino == 0
                    os.listdir(top)
                finally:
                    os.close(fd)
            except OSError as error:
                wrong += error.errno not in (errno.ENOENT, errno.ESTALE)
        return wrong

    with mounted(open_tmp, ["--mirror", source]) as mount:
        before = state(mount)
        with contextlib.ExitStack() as stack:
            jobs = [partial(change, 0), partial(use, mount.top, 1), partial(use, mount.top, 2)]
            children = [
                stack.enter_context(start_as(UIDS["bob"], UIDS["bob"], (), job)) for job in jobs
            ]
            for _ in range(40):
                Path("/proc/sys/vm/drop_caches").write_text("2")  # the kernel forgets meanwhile
                time.sleep(0.02)
            assert [child.result() for child in children] == [0, 0, 0]
        for path in source.iterdir():
            path.rmdir() if path.is_dir() else path.unlink()
        demand_nothing_left(before, settled(mount, before))
