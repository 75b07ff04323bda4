"""Each system call on the mount and on a plain directory: the same values, errnos and results.

The cases in `posix_names` and `posix_files` run once in a directory of a mounted mirror and once in
a directory beside it.  With umask 077 below a directory of mode 0700 the creation rules ask for
what the kernel does anyway, so that even the modes agree.  Where the mount differs on purpose or
because FUSE cannot do better, `test_differs` says in which way.
"""

import contextlib
import ctypes
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import OPEN_TMP_PREFIX
from tests.mount import posix_files, posix_names
from tests.mount.posix_names import Case, tried
from tests.support.become import Identity, run_as, start_as
from tests.support.mount import Mount, mounted
from tests.support.server import wait_until

pytestmark = [pytest.mark.superuser, pytest.mark.fuse]

CALLERS = {"user": Identity(61001, 61001, (61500,)), "root": Identity(0, 0, (0,))}


@pytest.fixture(scope="module")
def top(engine_choice: str) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix=OPEN_TMP_PREFIX))
    path.chmod(0o755)
    for name in ("source", "plain"):
        (path / name).mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path)


@pytest.fixture(scope="module")
def mirror(top: Path) -> Iterator[Mount]:
    with mounted(top, ["--mirror", top / "source"]) as mount:
        yield mount


def differing(one: Any, other: Any) -> str:
    """Where two answers part, for the reader of a failure."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        pairs = list(zip(one, other, strict=False))
        parts = [f"[{n}] {differing(a, b)}" for n, (a, b) in enumerate(pairs) if a != b]
        if len(one) != len(other):
            parts.append(f"{len(one)} and {len(other)} answers")
        return "\n".join(parts)
    return f"{one!r} on the mount, {other!r} beside it"


def picture(top: Path) -> dict[str, Any]:
    """Everything below, with content, but for times."""
    found: dict[str, Any] = {}
    for where, _, names in os.walk(top):
        for path in (Path(where), *(Path(where, name) for name in names)):
            status = path.lstat()
            content: Any = ""
            if stat.S_ISREG(status.st_mode) and status.st_size < 10 << 20:
                content = path.read_bytes()
            attributes = {
                name: os.getxattr(path, name, follow_symlinks=False)
                for name in os.listxattr(path, follow_symlinks=False)
            }
            key = str(path.relative_to(top))
            found[key] = (posix_names.shape(status), content, attributes)
    return found


@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize(
    "case", [*posix_names.CASES, *posix_files.CASES], ids=lambda case: case.__name__
)
def test_as_on_a_plain_directory(top: Path, mirror: Mount, case: Case, who: str) -> None:
    check_alike(top, case, who)


def check_alike(top: Path, case: Case, who: str) -> None:
    """In directories of its own, on top/mnt, which mirrors top/source, and in top/plain."""
    caller = CALLERS[who]
    name = f"{case.__name__}-{who}"
    for place in ("source", "plain"):
        (top / place / name).mkdir(mode=0o700)
        os.chown(top / place / name, caller.uid, caller.gid)
        prepare = posix_files.PREPARED.get(case.__name__)
        if prepare is not None:
            prepare(top / place / name)
    seen = {
        place: run_as(
            caller.uid, caller.gid, caller.groups,
            lambda place=place: case(top / place / name),  # type: ignore[misc]  # mypy: default
            umask=0o077, timeout=30,
        )
        for place in ("mnt", "plain")
    }  # fmt: skip
    assert seen["mnt"] == seen["plain"], differing(seen["mnt"], seen["plain"])
    assert picture(top / "source" / name) == picture(top / "plain" / name)
    shutil.rmtree(top / "source" / name)
    shutil.rmtree(top / "plain" / name)


def both(top: Path, name: str, action: Callable[[Path], Any], who: str = "user") -> tuple[Any, Any]:
    """What action returns for a new file of that name on the mount, and beside it."""
    caller = CALLERS[who]
    found = []
    for place, below in (("mnt", "source"), ("plain", "plain")):
        (top / below / name).mkdir(mode=0o700)
        os.chown(top / below / name, caller.uid, caller.gid)
        here = top / place / name
        found.append(
            run_as(caller.uid, caller.gid, caller.groups, lambda here=here: action(here / "file"))  # type: ignore[misc]  # mypy: default
        )
    return found[0], found[1]


def unnamed_file(path: Path) -> Any:
    got = tried(os.open, path.parent, os.O_TMPFILE | os.O_RDWR)
    if isinstance(got, int):
        os.close(got)
    return got if isinstance(got, str) else "made"


def punch_a_hole(path: Path) -> Any:
    with path.open("w+b") as file:
        file.write(b"x" * 100_000)
        file.flush()
        libc = ctypes.CDLL(None, use_errno=True)
        flags = 3  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
        offset, length = ctypes.c_long(0), ctypes.c_long(65536)
        done = libc.fallocate(file.fileno(), flags, offset, length)
        return errno.errorcode[ctypes.get_errno()] if done else "punched"


def data_begins(path: Path) -> Any:
    with path.open("w+b") as file:
        os.pwrite(file.fileno(), b"x", 1 << 20)
        return os.lseek(file.fileno(), 0, os.SEEK_DATA)


def make_device(path: Path) -> Any:
    return tried(os.mknod, path, stat.S_IFCHR | 0o666, os.makedev(1, 3))


def set_trusted(path: Path) -> Any:
    path.touch()
    return tried(os.setxattr, path, "trusted.x", b"1")


def superuser_writes(path: Path) -> Any:
    path.touch()
    path.chmod(0o4755)
    path.write_bytes(b"x")
    return stat.filemode(path.stat().st_mode)


def private_mode(path: Path) -> Any:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o400))
    return stat.filemode(path.stat().st_mode)


@pytest.mark.parametrize(
    ("action", "who", "on_mount", "beside"),
    [
        (private_mode, "user", "-rw-------", "-r--------"),  # the creation rules' very purpose
        (unnamed_file, "user", "EOPNOTSUPP", "made"),  # open(2) of O_TMPFILE is not passed on
        (make_device, "root", "EPERM", None),  # the daemon gives CAP_MKNOD up
        (set_trusted, "root", "EPERM", None),  # the daemon gives CAP_SYS_ADMIN up
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_differs(
    top: Path, mirror: Mount, action: Callable[[Path], Any], who: str, on_mount: Any, beside: Any
) -> None:
    """What does not agree, which docs/mount.md tells."""
    names = {"EOPNOTSUPP", "ENOTSUP"}  # one number

    def plain(got: Any) -> Any:
        return "EOPNOTSUPP" if got in names else got

    one, other = both(top, f"differs-{action.__name__}", action, who)
    assert plain(one) == on_mount
    if plain(other) != beside:  # not every file system below can do what ours cannot
        assert plain(other) == on_mount


def hole_in_the_data(path: Path) -> Any:
    """fallocate(2) and lseek(2) see the same as what is read."""
    punched = punch_a_hole(path)
    with path.open("rb") as file:
        where = [tried(os.lseek, file.fileno(), 0, how) for how in (os.SEEK_DATA, os.SEEK_HOLE)]
        return punched, where, file.read() == bytes(65536) + b"x" * (100_000 - 65536)


def longer_by_allocating(path: Path) -> Any:
    with path.open("w+b") as file:
        os.posix_fallocate(file.fileno(), 0, 12345)
        return path.stat().st_size


@pytest.mark.parametrize(
    ("action", "who"),
    [
        (hole_in_the_data, "user"),
        (data_begins, "user"),
        (longer_by_allocating, "user"),
        (superuser_writes, "root"),
        (superuser_writes, "user"),
    ],
    ids=lambda value: value.__name__ if callable(value) else value,
)
def test_agrees(top: Path, mirror: Mount, action: Callable[[Path], Any], who: str) -> None:
    one, other = both(top, f"agrees-{action.__name__}-{who}", action, who)
    assert one == other


def test_exclusive_creation_has_one_winner_across_the_mount(top: Path, mirror: Mount) -> None:
    """Half of them work on the mount, half beside it."""
    shared = top / "source" / "race"
    shared.mkdir()

    def wins(place: Path) -> int:
        won = 0
        for number in range(60):
            got = tried(os.open, place / f"{number}.lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            if isinstance(got, int):
                os.close(got)
                won += 1
            else:
                assert got == "EEXIST"
        return won

    with contextlib.ExitStack() as stack:
        children = [
            stack.enter_context(start_as(0, 0, (), lambda place=place: wins(place)))  # type: ignore[misc]  # mypy: default
            for place in (shared, top / "mnt" / "race", shared, top / "mnt" / "race")
        ]
        assert sum(child.result() for child in children) == 60


def test_changes_beside_the_mount_are_seen(top: Path, mirror: Mount) -> None:
    """Contents at the next open(2), names and attributes within a second."""
    source, seen = top / "source" / "beside", top / "mnt" / "beside"
    source.mkdir()
    (source / "one").write_bytes(b"first")
    assert (seen / "one").read_bytes() == b"first"
    (source / "one").write_bytes(b"other")  # the same size, perhaps the same tick of the clock
    wait_until(lambda: (seen / "one").read_bytes() == b"other", 2)
    (source / "one").rename(source / "two")
    wait_until(lambda: not (seen / "one").exists() and os.listdir(seen) == ["two"], 2)
    (source / "two").unlink()
    (source / "two").mkdir()
    wait_until((seen / "two").is_dir, 2)
    assert tried((seen / "three").stat) == "ENOENT"
    (source / "three").touch()
    wait_until((seen / "three").exists, 2)
