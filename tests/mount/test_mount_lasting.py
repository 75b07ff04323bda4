"""What the kernel remembers for long, and that it is told at once when that changes below."""

import contextlib
import ctypes
import mmap
import os
import random
import shutil
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.account.world import UIDS, world_in_tmp
from tests.mount.test_mount_view import outcome
from tests.mount.test_mount_visibility import BELOW, NAME, Case, content, names, seen_in_time
from tests.support.become import Identity, start_as
from tests.support.mount import Mount, is_mounted, mounted
from tests.support.server import wait_until

pytestmark = [pytest.mark.superuser, pytest.mark.fuse]

BOB: Final = Identity(UIDS["bob"], UIDS["bob"])
PATIENCE: Final = 20.0  # seconds until something must last
UNANSWERED: Final = 0.3  # seconds


def tasks_of(mount: Mount) -> list[Path]:
    return list(Path(f"/proc/{mount.process.pid}/task").iterdir())


def is_stopped(task: Path) -> bool:
    text = (task / "stat").read_text()
    return text[text.rindex(")") + 2] in "tT"


@contextlib.contextmanager
def stopped(mount: Mount) -> Iterator[None]:
    """The daemon answers nothing."""
    mount.process.send_signal(signal.SIGSTOP)
    try:
        deadline = time.monotonic() + PATIENCE
        while not all(is_stopped(task) for task in tasks_of(mount)):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        yield
    finally:
        mount.process.send_signal(signal.SIGCONT)


def is_remembered(mount: Mount, look: Callable[[], object]) -> bool:
    """Whether the kernel answers without the daemon."""
    thread = threading.Thread(target=look)
    with stopped(mount):
        thread.start()
        thread.join(UNANSWERED)
        remembered = not thread.is_alive()
    thread.join()
    return remembered


def settle(mount: Mount, look: Callable[[], object]) -> None:
    """Ask until it lasts."""
    deadline = time.monotonic() + PATIENCE
    while True:
        look()
        time.sleep(1.1)  # what is remembered now is remembered for long
        if is_remembered(mount, look):
            return
        assert time.monotonic() < deadline, "it never lasts"


def numbers(mount: Mount) -> dict[str, int]:
    text = os.getxattr(mount.top, "trusted.sharefs.status").decode()
    return {name: int(number) for name, number in (line.split() for line in text.splitlines())}


@pytest.fixture(scope="module")
def mirror() -> Iterator[tuple[Path, Mount]]:
    with world_in_tmp() as world:
        source = world.top / "source"
        source.mkdir()
        source.chmod(0o755)
        with mounted(world.top, ["--mirror", source]) as mount:
            mount.top.chmod(0o755)
            yield source, mount


def status(path: Path) -> Any:
    def look() -> Any:
        found = path.lstat()
        return found.st_mode & 0o7777, found.st_uid, found.st_nlink, found.st_size

    return outcome(look)


def of_file(directory: Path) -> Any:
    return status(directory / NAME)


def of_directory(directory: Path) -> Any:
    return outcome(lambda: (directory.stat().st_mode & 0o7777, directory.stat().st_nlink))


def missing(directory: Path) -> Any:
    return outcome(lambda: (directory / "missing").stat().st_size)


def end_of_link(directory: Path) -> Any:
    return outcome(lambda: os.readlink(directory / "link"))


def deeper(directory: Path) -> Any:
    return outcome(lambda: (directory / "deep" / "deeper" / "file").stat().st_size)


def by_another_name(directory: Path) -> None:
    os.link(directory / NAME, directory.parent / f"other name in {directory.name}")


def written_by_another_name(directory: Path) -> None:
    by_another_name(directory)
    with (directory.parent / f"other name in {directory.name}").open("ab") as file:
        file.write(b" again")


def appear(directory: Path) -> None:
    (directory.parent / "elsewhere").write_bytes(b"here")
    os.rename(directory.parent / "elsewhere", directory / "missing")


def retarget(directory: Path) -> None:
    (directory / "link").unlink()
    (directory / "link").symlink_to("there")


SIZES: Final = [
    Case("mode", of_file, lambda d: (d / NAME).chmod(0o640), (0o644, 0, 1, 5), (0o640, 0, 1, 5)),
    Case(
        "owner", of_file, lambda d: os.chown(d / NAME, 61001, -1),
        (0o644, 0, 1, 5), (0o644, 61001, 1, 5),
    ),
    Case("linked elsewhere", of_file, by_another_name, (0o644, 0, 1, 5), (0o644, 0, 2, 5)),
    Case("cut", of_file, lambda d: os.truncate(d / NAME, 1), (0o644, 0, 1, 5), (0o644, 0, 1, 1)),
    Case(
        "written by another name", of_file, written_by_another_name,
        (0o644, 0, 1, 5), (0o644, 0, 2, 11),
    ),
    Case("mode of a directory", of_directory, lambda d: d.chmod(0o700), (0o755, 3), (0o700, 3)),
    Case("a directory more", of_directory, lambda d: (d / "x").mkdir(), (0o755, 3), (0o755, 4)),
    Case("appears", missing, lambda d: (d / "missing").write_bytes(b"x"), "ENOENT", 1),
    Case("moved in", missing, appear, "ENOENT", 4),
    Case("linked in", missing, lambda d: os.link(d / NAME, d / "missing"), "ENOENT", 5),
    Case("a link anew", end_of_link, retarget, "here", "there"),
    Case("tree moved", deeper, lambda d: os.rename(d / "deep", d / "dark"), 4, "ENOENT"),
    Case("tree gone", deeper, lambda d: shutil.rmtree(d / "deep"), 4, "ENOENT"),
]  # fmt: skip
CASES: Final = [case for case in BELOW if case.look is not names] + SIZES


def furnish(directory: Path) -> None:
    (directory / "deep" / "deeper").mkdir(parents=True)
    (directory / "deep" / "deeper" / "file").write_bytes(b"deep")
    (directory / NAME).write_bytes(b"hello")
    (directory / "link").symlink_to("here")
    for path in (directory, directory / "deep", directory / NAME):
        path.chmod(0o644 if path.is_file() else 0o755)


@pytest.fixture(scope="module")
def settled(mirror: tuple[Path, Mount]) -> tuple[Path, Mount]:
    """A directory for each case, in all of which everything lasts."""
    source, mount = mirror

    def look() -> None:
        for case in CASES:
            for ask in (case.look, of_file, of_directory, missing, deeper):
                ask(mount.top / case.name)

    for case in CASES:
        (source / case.name).mkdir()
        furnish(source / case.name)
    for _ in range(3):
        look()
        time.sleep(1.1)
    return source, mount


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_lasts_ends_with_a_change_below(settled: tuple[Path, Mount], case: Case) -> None:
    source, mount = settled
    seen = mount.top / case.name
    assert case.look(seen) == case.before
    if case.look is not content and case.look is not end_of_link:  # those are asked for at open(2)
        assert is_remembered(mount, lambda: case.look(seen))
    case.act(source / case.name)
    assert seen_in_time(lambda: case.look(seen), case.after)


def test_a_right_taken_below_by_an_acl(mirror: tuple[Path, Mount]) -> None:
    source, mount = mirror
    (source / "acl").write_bytes(b"hello")
    (source / "acl").chmod(0o640)
    subprocess.run(["setfacl", "-m", f"u:{BOB.uid}:r", source / "acl"], check=True)

    def may() -> Any:
        return BOB.run(outcome, lambda: os.access(mount.top / "acl", os.R_OK))

    assert may() is True
    settle(mount, lambda: os.stat(mount.top / "acl"))
    assert may() is True
    subprocess.run(["setfacl", "-b", source / "acl"], check=True)
    assert seen_in_time(may, False)


def test_a_mapping_made_below(mirror: tuple[Path, Mount]) -> None:
    """Writing to it is no event; making it is one."""
    source, mount = mirror
    path, seen = source / "mapped", mount.top / "mapped"
    path.write_bytes(b"hello")
    settle(mount, lambda: os.stat(seen))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 5) as mapping:
        for times in range(2):
            os.stat(seen)
            time.sleep(1.1)
            assert not is_remembered(mount, lambda: os.stat(seen))
            mapping[0] = times
            mapping.flush()
            assert seen_in_time(lambda: seen.stat().st_mtime_ns - path.stat().st_mtime_ns, 0)
            assert seen_in_time(lambda: seen.read_bytes()[0], times)
    settle(mount, lambda: os.stat(seen))


def test_what_is_mounted_below(mirror: tuple[Path, Mount]) -> None:
    source, mount = mirror
    (source / "point").mkdir()
    (source / "point" / "under").touch()
    under = mount.top / "point" / "under"
    settle(mount, lambda: outcome(under.stat))
    subprocess.run(["mount", "-t", "tmpfs", "none", source / "point"], check=True)
    try:
        assert seen_in_time(under.exists, False)
        settle(mount, lambda: outcome(under.stat))
    finally:
        subprocess.run(["umount", "-l", source / "point"], check=True)
    assert seen_in_time(under.exists, True)


def test_what_was_mounted_below_is_let_go_of(mirror: tuple[Path, Mount]) -> None:
    """Or umount -l would leave it alive as long as the daemon is."""
    source, mount = mirror
    (source / "gone").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", source / "gone"], check=True)
    try:
        (source / "gone" / "deep").mkdir()
        assert seen_in_time(lambda: os.listdir(mount.top / "gone"), ["deep"])
        assert outcome((mount.top / "gone" / "deep" / "missing").stat) == "ENOENT"
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        number = next(line.split()[0] for line in lines if f" {source / 'gone'} " in line)
        assert number in mounts_open_in(mount)
    finally:
        subprocess.run(["umount", "-l", source / "gone"], check=True)
    wait_until(lambda: number not in mounts_open_in(mount))


def mounts_open_in(mount: Mount) -> set[str]:
    """Numbers of the mounts on which its daemon has anything open."""
    found = set()
    for path in Path(f"/proc/{mount.process.pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            lines = path.read_text().splitlines()
            found |= {line.split()[1] for line in lines if line.startswith("mnt_id:")}
    return found


def test_what_is_mounted_on_the_mount_stays(mirror: tuple[Path, Mount]) -> None:
    """Names of directories are looked at again, not thrown away."""
    source, mount = mirror
    (source / "above" / "point").mkdir(parents=True)
    settle(mount, lambda: os.stat(mount.top / "above" / "point"))
    subprocess.run(["mount", "-t", "tmpfs", "none", mount.top / "above" / "point"], check=True)
    try:
        for number in range(3):
            (source / "above" / f"{number}").touch()
            os.chmod(source / "above" / "point", 0o700 + number)
            os.rename(source / "above", source / "away")
            os.rename(source / "away", source / "above")
            time.sleep(0.5)
            assert os.path.ismount(mount.top / "above" / "point")
    finally:
        subprocess.run(["umount", mount.top / "above" / "point"], check=True)


def test_through_the_mount_everything_is_seen_at_once(mirror: tuple[Path, Mount]) -> None:
    """Our own doings are no events."""
    _, mount = mirror
    top = mount.top / "through"
    top.mkdir()
    for round_ in range(2):
        assert missing(top) == "ENOENT"
        (top / "missing").write_bytes(b"1234")
        assert missing(top) == 4
        os.link(top / "missing", top / "link")
        settle(mount, lambda: [os.stat(top / name) for name in ("missing", "link", ".")])
        (top / "link").write_bytes(b"123456")
        assert missing(top) == 6
        assert status(top / "missing")[2] == 2
        (top / "missing").chmod(0o600)
        assert status(top / "link")[0] == 0o600
        os.rename(top / "missing", top / "elsewhere")
        assert missing(top) == "ENOENT"
        os.rename(top / "elsewhere", top / "missing")
        (top / "missing").unlink()
        assert missing(top) == "ENOENT"
        assert status(top / "link")[2] == 1, round_
        (top / "link").unlink()


def test_lost_events(mirror: tuple[Path, Mount]) -> None:
    """More than the kernel's queue holds."""
    source, mount = mirror
    for name in ("lost", "many"):
        (source / name).mkdir()
    furnish(source / "lost")

    def look() -> None:
        for ask in (of_file, missing, deeper):
            ask(mount.top / "lost")
        outcome((mount.top / "many" / "nothing").stat)

    settle(mount, look)
    limit = int(Path("/proc/sys/fs/fanotify/max_queued_events").read_text())
    with stopped(mount):
        for number in range(limit + 100):
            os.close(os.open(source / "many" / f"{number}", os.O_CREAT | os.O_WRONLY))
        (source / "lost" / NAME).chmod(0o600)
        (source / "lost" / "missing").touch()
        os.rename(source / "lost" / "deep", source / "lost" / "dark")
    seen = mount.top / "lost"
    assert seen_in_time(lambda: of_file(seen)[0], 0o600)
    assert seen_in_time(lambda: missing(seen), 0)
    assert seen_in_time(lambda: deeper(seen), "ENOENT")
    shutil.rmtree(source / "many")
    (source / "lost" / NAME).chmod(0o640)  # and from now on within a second, without events
    assert seen_in_time(lambda: of_file(seen)[0], 0o640)
    settle(mount, look)  # and later as before


def test_who_makes_a_storm_stops_nobody(mirror: tuple[Path, Mount]) -> None:
    source, mount = mirror
    for name in ("stormy", "calm"):
        (source / name).mkdir()
        (source / name).chmod(0o777)
        furnish(source / name)
    os.chown(source / "stormy", BOB.uid, BOB.gid)

    def look() -> None:
        for name in ("calm", "stormy"):
            for ask in (of_file, missing, deeper):
                ask(mount.top / name)

    settle(mount, look)

    def storm() -> None:
        deadline, number = time.monotonic() + 3, 0
        while number < 1000 or time.monotonic() < deadline:
            path = source / "stormy" / f"{number}"
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
            os.rename(path, source / "stormy" / "missing")
            os.unlink(source / "stormy" / "missing")
            number += 1

    with start_as(BOB.uid, BOB.gid, (), storm) as child:
        for size in range(1, 5):
            os.truncate(source / "calm" / NAME, size)
            assert seen_in_time(lambda: of_file(mount.top / "calm")[3], size)
        child.result()
    assert missing(mount.top / "stormy") == "ENOENT"
    (source / "stormy" / "missing").touch()
    assert seen_in_time(lambda: missing(mount.top / "stormy"), 0)


def test_where_nothing_can_be_watched(open_tmp: Path) -> None:
    """A file system that tells of nothing: here, another mount of ours."""
    source = open_tmp / "source"
    source.mkdir()
    furnish(source)
    (open_tmp / "second").mkdir()
    with mounted(open_tmp, ["--mirror", source]) as first:  # noqa: SIM117  # one above the other
        with mounted(open_tmp / "second", ["--mirror", first.top]) as mount:
            for _ in range(3):
                assert (of_file(mount.top), missing(mount.top)) == ((0o644, 0, 1, 5), "ENOENT")
                time.sleep(1.1)
            assert numbers(mount)["watched"] == 0
            assert not is_remembered(mount, lambda: os.stat(mount.top / NAME))
            (source / NAME).chmod(0o600)
            (source / "missing").touch()
            assert seen_in_time(lambda: of_file(mount.top)[0], 0o600)
            assert seen_in_time(lambda: missing(mount.top), 0)


def test_without_the_capability_for_leases(open_tmp: Path) -> None:
    """As in many a container: of others' files nobody can say whether they are written to."""
    source = open_tmp / "source"
    source.mkdir()
    furnish(source)
    (source / "bob's").write_bytes(b"x")
    os.chown(source / "bob's", BOB.uid, BOB.gid)
    shell = "exec setpriv --bounding-set -lease "
    with mounted(open_tmp, ["--mirror", source], shell=shell) as mount:
        settle(mount, lambda: (of_file(mount.top), missing(mount.top)))
        for _ in range(2):
            os.stat(mount.top / "bob's")
            time.sleep(1.1)
        assert not is_remembered(mount, lambda: os.stat(mount.top / "bob's"))


def test_what_the_kernel_forgets_is_let_go(mirror: tuple[Path, Mount]) -> None:
    source, mount = mirror
    (source / "forgotten").mkdir()
    for number in range(50):
        (source / "forgotten" / f"{number}").touch()

    def look() -> None:
        for number in range(100):
            outcome((mount.top / "forgotten" / f"{number}").stat)

    settle(mount, look)
    during = numbers(mount)
    descriptors = mount.descriptors()
    assert during["watched"] >= 50
    assert during["remembered"] >= 100
    deadline = time.monotonic() + 10
    while numbers(mount)["watched"] > during["watched"] - 50:
        assert time.monotonic() < deadline, (during, numbers(mount))
        Path("/proc/sys/vm/drop_caches").write_text("2")
        time.sleep(0.05)
    assert numbers(mount)["remembered"] <= during["remembered"] - 100
    assert mount.descriptors() <= descriptors


def list_into(directory: Path, memory: Path, keeper: int) -> None:
    """getdents64(2) into a mapping of a file.  keeper: the process that does not give it."""
    libc = ctypes.CDLL(None, use_errno=True)
    with memory.open("r+b") as file, mmap.mmap(file.fileno(), 1 << 16) as mapping:
        buffer = (ctypes.c_char * (1 << 16)).from_buffer(mapping)
        fd = os.open(directory, os.O_RDONLY)
        os.kill(keeper, signal.SIGSTOP)
        tasks = Path(f"/proc/{keeper}/task")
        wait_until(lambda: all(map(is_stopped, tasks.iterdir())))  # kill(2) does not wait for it
        libc.syscall(217, fd, buffer, 1 << 16)  # x86_64
        os.close(fd)
        del buffer


@contextlib.contextmanager
def held(directory: Path, work: Path) -> Iterator[None]:
    """Somebody lists it into memory that does not come: the kernel keeps the directory locked."""
    if os.uname().machine != "x86_64":
        pytest.skip("the number of getdents64(2) is x86_64's")
    slow = work / "slow"
    slow.mkdir()
    (slow / "memory").write_bytes(bytes(1 << 16))
    with mounted(work, ["--mirror", slow]) as never:
        keeper = never.process.pid
        try:
            job = partial(list_into, directory, never.top / "memory", keeper)
            with start_as(0, 0, (), job) as child:
                deadline = time.monotonic() + 10
                while "iterate_dir" not in Path(f"/proc/{child.pid}/stack").read_text():
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                try:
                    yield
                finally:  # else nobody could wait for the child's end
                    os.kill(keeper, signal.SIGCONT)
                child.result()
        finally:
            os.kill(keeper, signal.SIGCONT)


def test_who_holds_a_directory_holds_up_nobody_else(
    mirror: tuple[Path, Mount], open_tmp: Path
) -> None:
    source, mount = mirror
    for name in ("held", "free"):
        (source / name).mkdir()
        furnish(source / name)
    settle(mount, lambda: [missing(mount.top / name) for name in ("held", "free")])
    with held(mount.top / "held", open_tmp):
        (source / "held" / "missing").touch()
        for size in range(3):
            (source / "free" / "missing").write_bytes(b"x" * size)
            assert seen_in_time(lambda: missing(mount.top / "free"), size)
            (source / "free" / "missing").unlink()
            assert seen_in_time(lambda: missing(mount.top / "free"), "ENOENT")
        # Told by a thread that waits for the directory.
        assert any("fuse_reverse_inval_entry" in stack for stack in stacks(mount))
    assert seen_in_time(lambda: missing(mount.top / "held"), 0)


def stacks(mount: Mount) -> list[str]:
    """Where each thread of the daemon is in the kernel."""
    return [(task / "stack").read_text() for task in tasks_of(mount)]


def test_killed_while_it_waits_for_a_directory(open_tmp: Path) -> None:
    """A thread in the kernel outlives the daemon, and keeps all that it has open."""
    source = open_tmp / "source"
    source.mkdir()
    (source / "held").mkdir()
    (open_tmp / "first").mkdir()
    with mounted(open_tmp / "first", ["--mirror", source]) as mount:
        settle(mount, lambda: missing(mount.top / "held"))
        with held(mount.top / "held", open_tmp):
            (source / "held" / "missing").touch()
            deadline = time.monotonic() + 10
            while not any("fuse_reverse_inval_entry" in stack for stack in stacks(mount)):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            mount.died = True
            mount.process.kill()
            deadline = time.monotonic() + 10
            while is_mounted(mount.top):
                assert time.monotonic() < deadline
                time.sleep(0.02)


DIRECTORIES: Final = ("", "a", "b", "a/c")
FILES: Final = tuple(f"file{number}" for number in range(5))
PLACES: Final = tuple(
    str(Path(directory, name)) for directory in DIRECTORIES for name in (*FILES, "a", "b", "c")
)


def change(top: Path, pick: random.Random) -> None:
    """One of everything that happens to files."""
    first, second = (top / pick.choice(PLACES) for _ in range(2))
    with contextlib.suppress(OSError):
        match pick.randrange(11):
            case 0 | 1:
                first.write_bytes(b"x" * pick.randrange(100))
            case 2:
                with first.open("ab") as file:
                    file.write(b"more")
            case 3:
                first.unlink()
            case 4:
                os.rename(first, second)
            case 5:
                os.link(first, second)
            case 6:
                first.chmod(pick.choice((0o600, 0o644, 0o755)))
            case 7:
                first.symlink_to(pick.choice(FILES))
            case 8:
                first.mkdir()
            case 9:
                os.utime(first, (1, pick.randrange(1_000_000)), follow_symlinks=False)
            case _:
                os.truncate(first, pick.randrange(50))


def snapshot(top: Path) -> dict[str, Any]:
    """What there is, and what is not there."""

    def told(path: Path) -> Any:
        found = path.lstat()
        kind = stat.S_IFMT(found.st_mode)
        size = found.st_size if kind == stat.S_IFREG else 0
        return found.st_mode, found.st_uid, found.st_nlink, size, found.st_mtime_ns

    return {name: outcome(partial(told, top / name)) for name in ("", *PLACES)}


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_the_mount_shows_what_is_there(
    mirror: tuple[Path, Mount], seed: int
) -> None:
    """Changes beside the mount and through it, and pauses in which everything comes to last."""
    source, mount = mirror
    below, seen = source / f"any{seed}", mount.top / f"any{seed}"
    for directory in DIRECTORIES:
        (below / directory).mkdir()
    pick = random.Random(seed)
    for round_ in range(8):
        for _ in range(3):
            assert seen_in_time(lambda: snapshot(seen) == snapshot(below), True), round_
            time.sleep(0.45)
        for _ in range(pick.randrange(1, 25)):
            change(pick.choice((below, below, seen)), pick)
    assert numbers(mount)["watched"] > 0
