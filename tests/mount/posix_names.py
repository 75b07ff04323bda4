"""System calls on names and directories.  Each returns what it saw: see `test_mirror_posix`."""

import ctypes
import errno
import os
import socket
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

Case = Callable[[Path], Any]

NOREPLACE: Final = 1  # linux/fs.h
EXCHANGE: Final = 2
WHITEOUT: Final = 4
_libc: Final = ctypes.CDLL(None, use_errno=True)


def tried(action: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The value, or the name of the errno."""
    try:
        return action(*args, **kwargs)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def write(path: Path, octets: bytes = b"hello") -> Path:
    path.write_bytes(octets)
    return path


def directory(path: Path) -> Path:
    path.mkdir()
    return path


def opening(path: Path | str, flags: int, *, dir_fd: int | None = None) -> int:
    """open(2) with the mode that programs give, 0666."""
    return os.open(path, flags, 0o666, dir_fd=dir_fd)


def shape(status: os.stat_result) -> tuple[Any, ...]:
    """What of stat(2) does not depend on when and where."""
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return (
        stat.filemode(status.st_mode), size, status.st_nlink, status.st_uid, status.st_gid,
        status.st_rdev,
    )  # fmt: skip


def renamed(old: Path, new: Path, flags: int) -> Any:
    """renameat2(2)."""
    cwd = -100  # AT_FDCWD
    done = _libc.renameat2(cwd, os.fsencode(old), cwd, os.fsencode(new), flags)
    return done if not done else errno.errorcode[ctypes.get_errno()]


def rename_onto_each_kind(top: Path) -> Any:
    found = []
    for one in ("file", "empty", "full", "link", "missing"):
        for other in ("file", "empty", "full", "link", "missing"):
            here = directory(top / f"{one}-{other}")
            for name, kind in (("old", one), ("new", other)):
                make_kind(here / name, kind)
            got = tried(os.rename, here / "old", here / "new")
            found.append((one, other, got, sorted(os.listdir(here))))
    return found


def make_kind(path: Path, kind: str) -> None:
    match kind:
        case "file":
            write(path)
        case "empty" | "full":
            path.mkdir()
            if kind == "full":
                write(path / "inside")
        case "link":
            path.symlink_to("nowhere")


def rename_flags(top: Path) -> Any:
    found: list[Any] = []
    for flags in (NOREPLACE, EXCHANGE, NOREPLACE | EXCHANGE, EXCHANGE | WHITEOUT, 1 << 20):
        for other in ("file", "full", "missing"):
            here = directory(top / f"{flags}-{other}")
            write(here / "old", b"old")
            make_kind(here / "new", other)
            got = renamed(here / "old", here / "new", flags)
            names = {name: (here / name).is_dir() for name in sorted(os.listdir(here))}
            found.append((flags, other, got, names))
    return found


def rename_strange(top: Path) -> Any:
    file, full = write(top / "file"), directory(top / "full")
    below = directory(full / "below")
    os.link(file, top / "twin")
    return [
        tried(os.rename, file, file),
        tried(os.rename, file, top / "twin"),  # the same file: nothing happens
        sorted(os.listdir(top)),
        tried(os.rename, full, below / "deeper"),
        tried(os.rename, below, full),
        tried(os.rename, full / ".", top / "dot"),
        tried(os.rename, f"{file}/", top / "slash"),
        tried(os.rename, f"{full}/", f"{top}/moved/"),
        tried(os.rename, file, f"{top}/other/"),
        tried(os.rename, file, top / ("n" * 256)),
        tried(os.rename, top / ("n" * 256), file),
        tried(os.rename, file, file / "x"),
        tried(os.rename, file, top / "none" / "x"),
        tried(os.rename, top / "", top / "x"),
    ]


def rename_while_open(top: Path) -> Any:
    with write(top / "one").open("r+b") as one, write(top / "two", b"TWO").open("rb") as two:
        (top / "one").rename(top / "two")
        one.write(b"HE")
        one.flush()
        return (
            (top / "two").read_bytes(), two.read(), os.fstat(two.fileno()).st_nlink,
            os.fstat(one.fileno()).st_ino == os.stat(top / "two").st_ino,
        )  # fmt: skip


def rename_directory_while_inside(top: Path) -> Any:
    deep = top / "a" / "b"
    deep.mkdir(parents=True)
    handle = os.open(deep, os.O_RDONLY)
    try:
        (top / "a").rename(top / "z")
        os.close(opening("made", os.O_CREAT | os.O_WRONLY, dir_fd=handle))
        above = os.open("..", os.O_RDONLY, dir_fd=handle)
        try:
            inside = os.listdir(above)
        finally:
            os.close(above)
    finally:
        os.close(handle)
    return os.listdir(top / "z" / "b"), inside


def unlink_each_kind(top: Path) -> Any:
    found = []
    for kind in ("file", "empty", "full", "link", "missing"):
        for name, action in (("unlink", os.unlink), ("rmdir", os.rmdir)):
            make_kind(top / f"{kind}-{name}", kind)
            found.append((kind, name, tried(action, top / f"{kind}-{name}")))
    file = write(top / "file")
    return [
        *found,
        tried(os.rmdir, top / "full-rmdir" / "."),
        tried(os.rmdir, top / "full-rmdir" / ".."),
        tried(os.unlink, f"{file}/"),
        tried(os.unlink, file / "below"),
        tried(os.unlink, top / ("n" * 256)),
        sorted(os.listdir(top)),
    ]


def unlink_while_open(top: Path) -> Any:
    path = write(top / "file")
    with path.open("r+b") as file:
        path.unlink()
        gone = [tried(os.stat, path), shape(os.fstat(file.fileno()))]
        file.seek(0, os.SEEK_END)
        file.write(b" world")
        file.flush()
        os.fsync(file.fileno())
        os.ftruncate(file.fileno(), 8)
        os.fchmod(file.fileno(), 0o640)
        os.utime(file.fileno(), ns=(5, 7))
        os.setxattr(file.fileno(), "user.last", b"words")
        file.seek(0)
        write(path, b"another")
        again = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY)
        reopened = os.read(again, 100)
        os.close(again)
        status = os.fstat(file.fileno())
        return [
            *gone, file.read(), shape(status), status.st_mtime_ns, reopened, path.read_bytes(),
            os.getxattr(file.fileno(), "user.last"),
            tried(os.link, f"/proc/self/fd/{file.fileno()}", top / "revived", follow_symlinks=True),
        ]  # fmt: skip


def unlink_one_of_many(top: Path) -> Any:
    first = write(top / "0")
    for number in range(1, 300):
        os.link(first, top / str(number))
    counts = [first.stat().st_nlink]
    for number in range(0, 300, 2):
        (top / str(number)).unlink()
    os.link(top / "299", top / "again")
    counts.append((top / "1").stat().st_nlink)
    numbers = {os.stat(top / name).st_ino for name in os.listdir(top)}
    return counts, len(numbers), (top / "151").read_bytes()


def removed_directory(top: Path) -> Any:
    gone = directory(top / "gone")
    handle = os.open(gone, os.O_RDONLY)
    try:
        os.chdir(gone)
        gone.rmdir()
        return [
            os.listdir(handle),
            tried(opening, "new", os.O_CREAT | os.O_WRONLY, dir_fd=handle),
            tried(os.mkdir, "new", dir_fd=handle),
            tried(os.symlink, "x", "new", dir_fd=handle),
            tried(os.stat, "new", dir_fd=handle),
            tried(os.getcwd),
            os.fstat(handle).st_nlink,
        ]
    finally:
        os.chdir("/")
        os.close(handle)


def make_directories(top: Path) -> Any:
    file = write(top / "file")
    (top / "dangling").symlink_to("nowhere")
    return [
        tried(os.mkdir, top / "one"),
        tried(os.mkdir, top / "one"),
        tried(os.mkdir, f"{top}/two/"),
        tried(os.mkdir, file),
        tried(os.mkdir, file / "below"),
        tried(os.mkdir, top / "dangling"),
        tried(os.mkdir, top / "none" / "below"),
        tried(os.mkdir, top / ("n" * 255)),
        tried(os.mkdir, top / ("n" * 256)),
        tried(os.mkdir, top / "one" / "."),
        tried(os.rmdir, top / "one" / "."),
        [shape((top / name).lstat()) for name in sorted(os.listdir(top))],
        shape(top.stat())[0],
    ]


def link_each_kind(top: Path) -> Any:
    found = []
    for kind in ("file", "empty", "link", "missing"):
        make_kind(top / kind, kind)
        got = tried(os.link, top / kind, top / f"{kind}-2", follow_symlinks=False)
        found.append((kind, got))
    os.mkfifo(top / "fifo")
    return [
        *found,
        tried(os.link, top / "fifo", top / "fifo-2"),
        tried(os.link, top / "file", top / "file-2"),
        tried(os.link, top / "file", top / "link"),
        tried(os.link, top / "file", top / "none" / "x"),
        tried(os.link, top / "file", top / ("n" * 256)),
        {name: shape((top / name).lstat()) for name in sorted(os.listdir(top))},
    ]


def lock_by_link(top: Path) -> Any:
    """The lock that is safe over NFS: a link to a file of one's own, and then its link count."""
    mine, other = write(top / "mine"), write(top / "other")
    os.link(mine, top / "mailbox.lock")
    counts = [mine.stat().st_nlink, tried(os.link, other, top / "mailbox.lock")]
    counts.append(other.stat().st_nlink)
    (top / "mailbox.lock").unlink()
    return [*counts, mine.stat().st_nlink, tried(os.link, other, top / "mailbox.lock")]


def symbolic_links(top: Path) -> Any:
    directory(top / "real")
    write(top / "real" / "file")
    links = {
        "good": "real/file", "dir": "real", "self": "self", "out": "../..", "bad": "nowhere",
        "long": "t" * 4000, "abs": "/etc/hostname", "odd": "\n \udcff*",
    }  # fmt: skip
    for name, target in links.items():
        (top / name).symlink_to(target)
    for number in range(45):
        (top / f"chain{number}").symlink_to(f"chain{number + 1}" if number < 44 else "real/file")
    return [
        [(name, os.readlink(top / name), shape((top / name).lstat())) for name in links],
        tried(os.symlink, "t" * 4095, top / "4095"),
        tried(os.symlink, "t" * 4096, top / "4096"),
        tried(os.symlink, "", top / "empty"),
        tried(os.symlink, "x", top / "good"),
        tried(os.readlink, top / "real"),
        tried(os.stat, top / "self"),
        tried(os.stat, top / "long"),
        (top / "good").read_bytes(),
        tried(os.stat, top / "chain0"),
        shape(os.stat(top / "chain10")),
        sorted(os.listdir(top / "dir")),
        tried(os.open, top / "good", os.O_RDONLY | os.O_NOFOLLOW),
        tried(os.open, top / "dir", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW),
        tried(os.open, top / "bad", os.O_CREAT | os.O_EXCL | os.O_WRONLY),
        write(top / "bad") and (top / "nowhere").read_bytes(),
        sorted(os.listdir(top))[-3:],
        tried(os.utime, top / "good", ns=(3, 4), follow_symlinks=False),
        (top / "good").lstat().st_mtime_ns,
        tried(os.setxattr, top / "good", "user.x", b"1", follow_symlinks=False),
        tried(os.rmdir, top / "dir"),
        tried(os.unlink, top / "dir"),
    ]


ODD_NAMES: Final = (
    b"\xff\xfe", b"a\nb", b" ", b"-rf", b"*", "Entw\u00fcrfe".encode(), b"x" * 255, b"a\\b",
    b"1700000000.M1P1.host,S=5:2,FS", b".INBOX.&AOQ-",
)  # fmt: skip


def odd_names(top: Path) -> Any:
    where = os.fsencode(top)
    for name in ODD_NAMES:
        with open(os.path.join(where, name), "xb") as file:
            file.write(name)
    return [
        sorted(os.listdir(where)),
        [Path(os.fsdecode(os.path.join(where, name))).read_bytes() for name in ODD_NAMES],
        tried(os.stat, os.path.join(where, b"x" * 256)),
        tried(os.stat, os.path.join(where, b"x" * 5000)),
        tried(os.stat, b"/".join([where, *[b"."] * 1900])) == "ENAMETOOLONG",
        tried(os.stat, b"/".join([where, *[b"."] * 2100])),
        tried(os.open, os.path.join(where, b"x" * 256), os.O_CREAT | os.O_WRONLY),
    ]


def deep_tree(top: Path) -> Any:
    """Deeper than any path can be long."""
    handle = os.open(top, os.O_RDONLY)
    try:
        for _ in range(40):
            os.mkdir("d" * 200, dir_fd=handle)
            below = os.open("d" * 200, os.O_RDONLY, dir_fd=handle)
            os.close(handle)
            handle = below
        os.close(opening("end", os.O_CREAT | os.O_WRONLY, dir_fd=handle))
        return os.listdir(handle), shape(os.stat("end", dir_fd=handle))
    finally:
        os.close(handle)


def special_files(top: Path) -> Any:
    found = [tried(os.mkfifo, top / "fifo"), tried(os.mkfifo, top / "fifo")]
    found += [
        tried(os.mknod, top / f"node{kind}", kind | 0o666, os.makedev(1, 3))
        for kind in (stat.S_IFREG, stat.S_IFSOCK, stat.S_IFDIR)
    ]
    reader = os.open(top / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(top / "fifo", os.O_WRONLY | os.O_NONBLOCK)
    os.write(writer, b"through")
    found.append(os.read(reader, 100))
    os.close(reader)
    os.close(writer)
    found.append(tried(os.open, top / "fifo", os.O_WRONLY | os.O_NONBLOCK))
    os.chdir(top)
    try:
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind("sock")
            server.listen()
            client.connect("sock")
            client.sendall(b"hello")
            accepted, _ = server.accept()
            with accepted:
                found.append(accepted.recv(100))
            found.append(tried(os.open, "sock", os.O_RDONLY))
            os.chmod("sock", 0o600)  # bind(2) asks for more, which the creation rules do not give
    finally:
        os.chdir("/")
    return [*found, [shape((top / name).lstat()) for name in sorted(os.listdir(top))]]


def listing_while_removing(top: Path) -> Any:
    """What stays is listed once, whatever goes meanwhile."""
    for number in range(600):
        (top / str(number)).touch()
    seen: Counter[str] = Counter()
    with os.scandir(top) as entries:
        for position, entry in enumerate(entries):
            seen[entry.name] += 1
            if position % 60 == 0:
                for number in range(position, position + 30):
                    (top / str(number)).unlink(missing_ok=True)
    left = os.listdir(top)
    found = len(left) < 600, all(seen[name] == 1 for name in left), max(seen.values())
    for name in left:  # which are left depends on the order, and that on the file system
        (top / name).unlink()
    return found


def listing_while_renaming(top: Path) -> Any:
    """cur/ while flags change: a file that keeps its name comes once."""
    for number in range(400):
        (top / f"{number}:2,").touch()
    seen: Counter[str] = Counter()
    with os.scandir(top) as entries:
        for entry in entries:
            seen[entry.name] += 1
            number = len(seen)
            if number % 3 == 0:
                tried(os.rename, top / f"{number}:2,", top / f"{number}:2,S")
    left = os.listdir(top)
    kept = [name for name in left if not name.endswith("S")]
    found = len(left), all(seen[name] == 1 for name in kept), max(seen.values())
    for name in left:
        (top / name).unlink()
    return found


class _Entry(ctypes.Structure):
    _fields_ = (
        ("d_ino", ctypes.c_uint64), ("d_off", ctypes.c_int64), ("d_reclen", ctypes.c_uint16),
        ("d_type", ctypes.c_uint8), ("d_name", ctypes.c_char * 256),
    )  # fmt: skip


def places_in_a_listing(top: Path) -> Any:
    """telldir(3), seekdir(3) and rewinddir(3)."""
    for number in range(400):
        (top / str(number)).touch()
    _libc.opendir.restype = _libc.readdir.restype = ctypes.c_void_p
    _libc.telldir.restype = ctypes.c_long
    stream = ctypes.c_void_p(_libc.opendir(os.fsencode(top)))

    def rest() -> list[bytes]:
        names = []
        while entry := _libc.readdir(stream):
            names.append(_Entry.from_address(entry).d_name)
        return names

    try:
        for _ in range(150):
            _libc.readdir(stream)
        place = ctypes.c_long(_libc.telldir(stream))
        first = rest()
        _libc.seekdir(stream, place)
        second = rest()
        write(top / "late")
        (top / "5").unlink()
        _libc.rewinddir(stream)
        third = rest()
    finally:
        _libc.closedir(stream)
    return first == second, len(first), b"late" in third, b"5" in third, len(set(third))


def listing_types_and_numbers(top: Path) -> Any:
    write(top / "file")
    directory(top / "dir")
    (top / "link").symlink_to("file")
    os.mkfifo(top / "fifo")
    with os.scandir(top) as entries:
        return sorted(
            (
                entry.name, entry.is_dir(), entry.is_file(follow_symlinks=False),
                entry.is_symlink(), entry.inode() == entry.stat(follow_symlinks=False).st_ino,
            )
            for entry in entries
        )  # fmt: skip


def lookups(top: Path) -> Any:
    file = write(top / "file")
    return [
        tried(os.stat, top / "none"),
        tried(os.stat, file / "below"),
        tried(os.stat, f"{file}/"),
        tried(os.stat, f"{file}/."),
        tried(os.listdir, file),
        tried(os.listdir, top / "none"),
        os.stat(top / ".").st_ino == os.stat(top).st_ino,
        os.stat(top / ".." / top.name).st_ino == os.stat(top).st_ino,
        tried(os.chdir, file),
        os.path.samefile(top / "x" / ".." / "file", file) if (top / "x").exists() else None,
    ]


CASES: Final[tuple[Case, ...]] = (
    rename_onto_each_kind, rename_flags, rename_strange, rename_while_open,
    rename_directory_while_inside, unlink_each_kind, unlink_while_open, unlink_one_of_many,
    removed_directory, make_directories, link_each_kind, lock_by_link, symbolic_links, odd_names,
    deep_tree, special_files, listing_while_removing, listing_while_renaming, places_in_a_listing,
    listing_types_and_numbers, lookups,
)  # fmt: skip
