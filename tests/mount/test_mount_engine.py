"""The compiled part beside the handlers in Python: the same answers, to hostile requests too.

A socket is in the kernel's place.  What a request may do to memory shows best when scripts/sanitize
runs this file.
"""

import errno
import os
import resource
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharefs.errors import SharingError
from sharefs.mount import engine
from sharefs.mount.handles import Handles
from sharefs.mount.leave import Acts
from sharefs.mount.mirror import Mirror
from sharefs.mount.nodes import ROOT
from sharefs.mount.operations import Operations
from sharefs.mount.protocol import (
    ATTR_OUT,
    BATCH_FORGET_IN,
    CALLER,
    CREATE_IN,
    ENTRY_OUT,
    FORGET_IN,
    FORGET_ONE,
    FSYNC_IN,
    GETATTR_IN,
    GETXATTR_IN,
    IN_HEADER,
    INIT_IN,
    LINK_IN,
    OPEN_IN,
    OPEN_OUT,
    OUT_HEADER,
    READ_IN,
    RENAME2_IN,
    RENAME_IN,
    SETATTR_IN,
    WRITE_IN,
    WRITE_OUT,
    Fattr,
    Init,
    Opcode,
)
from sharefs.mount.session import Session
from sharefs.mount.waiting import Pausing

CALLED = CALLER.pack(os.getuid(), os.getgid(), os.getpid()) + bytes(4)
UNKNOWN = 1 << 40  # a node nobody was told of
READ_SIZE = 1 << 16
CAPABILITY = b"security.capability\0"


def test_the_compiled_part_was_built() -> None:
    """Where the tests run there is a compiler: what all the others try must not be missing."""
    assert engine.is_there(), "install gcc and python3-dev, then `pip install -e .` again"


@pytest.mark.parametrize(
    ("choice", "there", "want"),
    [("", True, True), ("", False, False), ("python", True, False), ("compiled", True, True),
     ("compiled", False, None)],
)  # fmt: skip
def test_which_one_is_used(
    monkeypatch: pytest.MonkeyPatch, choice: str, there: bool, want: bool | None
) -> None:
    monkeypatch.setenv(engine.CHOICE, choice)
    monkeypatch.setattr(engine, "is_there", lambda: there)
    if want is None:
        with pytest.raises(SharingError, match="was not built"):
            engine.wanted()
    else:
        assert engine.wanted() is want


class Mirrored:
    """A session over a mirror of one directory, and its kernel."""

    def __init__(self, top: Path, *, compiled: bool, handles: int = 100) -> None:
        self.tree = Mirror(os.open(top, os.O_PATH | os.O_DIRECTORY), Pausing())
        self.operations = Operations(self.tree, Handles(handles))
        self.end, self._daemon = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for one in (self.end, self._daemon):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        self.end.settimeout(5)
        self.session = Session(
            self._daemon.fileno(), self.operations, self.operations.handlers(), compiled=compiled
        )
        self.thread = threading.Thread(target=self.session.run)
        self.thread.start()
        self._unique = 1
        offered = Init.HANDLE_KILLPRIV_V2
        assert self.ask(Opcode.INIT, ROOT, INIT_IN.pack(7, 38, 0, offered))[0] == 0

    @property
    def answered(self) -> int:
        """By the compiled part."""
        compiled = self.session._compiled
        return compiled.engine.answered if compiled else 0

    def send(self, opcode: int, ino: int, body: bytes) -> int:
        self._unique += 1
        header = IN_HEADER.pack(40 + len(body), opcode, self._unique, ino)
        self.end.send(header + CALLED + body)
        return self._unique

    def ask(self, opcode: int, ino: int, body: bytes = b"") -> tuple[int, bytes]:
        """errno, and the reply."""
        unique = self.send(opcode, ino, body)
        while True:
            octets = self.end.recv(1 << 21)
            length, error, about = OUT_HEADER.unpack_from(octets)
            assert length == len(octets)
            if about == unique:
                return -error, octets[16:]
            assert about == 0, "a notification"

    def look_up(self, name: bytes, ino: int = ROOT) -> int:
        error, octets = self.ask(Opcode.LOOKUP, ino, name + b"\0")
        assert error == 0, os.strerror(error)
        return int(ENTRY_OUT.unpack_from(octets)[0])

    def open(self, ino: int, flags: int = os.O_RDONLY) -> int:
        error, octets = self.ask(Opcode.OPEN, ino, OPEN_IN.pack(flags, 0))
        assert error == 0, os.strerror(error)
        return int(OPEN_OUT.unpack_from(octets)[0])

    def close(self) -> None:
        self.end.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)
        assert not self.thread.is_alive()
        self.session.stop()
        self.end.close()
        self._daemon.close()
        self.operations.close()


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "empty").touch()
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "fifo")
    return tmp_path


@pytest.fixture(params=[True, False], ids=["compiled", "python"])
def mirrored(request: pytest.FixtureRequest, top: Path) -> Iterator[Mirrored]:
    made = Mirrored(top, compiled=request.param)
    made.look_up(b"file")  # from now on the compiled part has leave for this directory
    yield made
    made.close()


def test_common_requests_are_answered_by_the_compiled_part(top: Path) -> None:
    made = Mirrored(top, compiled=True)
    file = made.look_up(b"file")
    before = made.answered
    assert made.look_up(b"file") == file
    assert made.ask(Opcode.LOOKUP, ROOT, b"none\0")[0] == errno.ENOENT
    assert made.ask(Opcode.GETATTR, file, GETATTR_IN.pack(0, 0))[0] == 0
    fh = made.open(file)
    assert made.ask(Opcode.READ, file, READ_IN.pack(fh, 0, 100)) == (0, b"content")
    assert made.ask(Opcode.RELEASE, file, READ_IN.pack(fh, 0, 0))[0] == 0
    assert made.ask(Opcode.LINK, ROOT, LINK_IN.pack(file) + b"second\0")[0] == 0
    assert made.ask(Opcode.RENAME, ROOT, RENAME_IN.pack(ROOT) + b"second\0third\0")[0] == 0
    assert made.ask(Opcode.UNLINK, ROOT, b"third\0")[0] == 0
    assert made.answered == before + 9
    made.close()


NAMES = [
    (b"", errno.EINVAL), (b".", errno.EINVAL), (b"..", errno.EINVAL), (b"a/b", errno.EINVAL),
    (b"/", errno.EINVAL), (b"../file", errno.EINVAL), (b"n" * 256, errno.ENAMETOOLONG),
    (b"n" * 255, errno.ENOENT), (b"n" * 70_000, errno.ENAMETOOLONG), (b"\xff\xfe", errno.ENOENT),
    (b"none", errno.ENOENT), (b"no\0ne", errno.EINVAL), (b"file", 0), (b"directory", 0),
    (b"link", 0), (b"fifo", 0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "want"), NAMES, ids=lambda value: repr(value)[:20])
def test_names(mirrored: Mirrored, name: bytes, want: int) -> None:
    assert mirrored.ask(Opcode.LOOKUP, ROOT, name + b"\0")[0] == want


@pytest.mark.parametrize("name", [name for name, want in NAMES if want not in (0, errno.ENOENT)])
def test_names_to_change(mirrored: Mirrored, top: Path, name: bytes) -> None:
    file, before = mirrored.look_up(b"file"), sorted(os.listdir(top))
    assert mirrored.ask(Opcode.UNLINK, ROOT, name + b"\0")[0]
    assert mirrored.ask(Opcode.LINK, ROOT, LINK_IN.pack(file) + name + b"\0")[0]
    for both in (b"file\0" + name + b"\0", name + b"\0file\0"):
        assert mirrored.ask(Opcode.RENAME, ROOT, RENAME_IN.pack(ROOT) + both)[0]
        assert mirrored.ask(Opcode.RENAME2, ROOT, RENAME2_IN.pack(ROOT, 0) + both)[0]
    assert sorted(os.listdir(top)) == before


# Less than their opcode needs, unknown nodes and handles, sizes beyond all measure.
BODIES = [
    (Opcode.GETATTR, UNKNOWN, GETATTR_IN.pack(0, 0)),
    (Opcode.LOOKUP, UNKNOWN, b"file\0"),
    (Opcode.OPEN, ROOT, b""),
    (Opcode.OPEN, UNKNOWN, OPEN_IN.pack(0, 0)),
    (Opcode.OPEN, ROOT, OPEN_IN.pack(0, 0)[:5]),
    (Opcode.READ, ROOT, b"\0" * 8),
    (Opcode.READ, ROOT, READ_IN.pack(0, 0, 4096)),
    (Opcode.READ, ROOT, READ_IN.pack(2**64 - 1, 2**64 - 1, 2**32 - 1)),
    (Opcode.WRITE, ROOT, WRITE_IN.pack(0, 0, 4096, 0)),
    (Opcode.WRITE, ROOT, WRITE_IN.pack(1 << 31, 2**64 - 1, 2**32 - 1, 4) + b"x"),
    (Opcode.WRITE, ROOT, b"\0" * 39),
    (Opcode.RELEASE, ROOT, b""),
    (Opcode.RELEASE, ROOT, READ_IN.pack(12345, 0, 0)),
    (Opcode.READDIRPLUS, ROOT, READ_IN.pack(12345, 1, 2**32 - 1)),
    (Opcode.UNLINK, ROOT, b""),
    (Opcode.UNLINK, UNKNOWN, b"file\0"),
    (Opcode.RENAME, ROOT, b"\0" * 7),
    (Opcode.RENAME, ROOT, RENAME_IN.pack(ROOT)),
    (Opcode.RENAME, ROOT, RENAME_IN.pack(ROOT) + b"file"),
    (Opcode.RENAME, ROOT, RENAME_IN.pack(ROOT) + b"file\0"),
    (Opcode.RENAME2, ROOT, RENAME2_IN.pack(ROOT, 2**32 - 1) + b"file\0other\0"),
    (Opcode.LINK, ROOT, LINK_IN.pack(UNKNOWN) + b"new\0"),
    (Opcode.LINK, ROOT, LINK_IN.pack(ROOT)),
    (Opcode.CREATE, ROOT, CREATE_IN.pack(0, 0, 0, 0)[:12]),
    (Opcode.CREATE, ROOT, CREATE_IN.pack(0, 0, 0, 0)),
    (Opcode.CREATE, UNKNOWN, CREATE_IN.pack(0, 0, 0, 0) + b"new\0"),
    (Opcode.SETATTR, ROOT, b""),
    (Opcode.SETATTR, ROOT, b"\xff" * (SETATTR_IN.size - 1)),
    (Opcode.SETATTR, UNKNOWN, b"\xff" * SETATTR_IN.size),
    (Opcode.GETXATTR, ROOT, b"\0"),
    (Opcode.GETXATTR, UNKNOWN, GETXATTR_IN.pack(2**32 - 1) + CAPABILITY),
    (Opcode.GETXATTR, ROOT, GETXATTR_IN.pack(0) + CAPABILITY[:-1]),
]


@pytest.mark.parametrize(
    ("opcode", "ino", "body"), BODIES, ids=[f"{o.name}-{n}" for n, (o, _, _) in enumerate(BODIES)]
)
def test_bodies(
    mirrored: Mirrored, top: Path, caplog: pytest.LogCaptureFixture, opcode: Opcode, ino: int,
    body: bytes,
) -> None:  # fmt: skip
    before = sorted(os.listdir(top))
    assert mirrored.ask(opcode, ino, body)[0] > 0
    assert sorted(os.listdir(top)) == before
    assert mirrored.look_up(b"file"), "it still answers"
    caplog.clear()


FORGETS = [
    (Opcode.FORGET, b""),
    (Opcode.FORGET, FORGET_IN.pack(2**64 - 1)),
    (Opcode.BATCH_FORGET, b""),
    (Opcode.BATCH_FORGET, BATCH_FORGET_IN.pack(2**32 - 1) + FORGET_ONE.pack(UNKNOWN, 1)),
    (Opcode.BATCH_FORGET, BATCH_FORGET_IN.pack(2) + FORGET_ONE.pack(UNKNOWN, 2**64 - 1)),
    (Opcode.BATCH_FORGET, BATCH_FORGET_IN.pack(1) + FORGET_ONE.pack(ROOT, 1 << 20)),
]


@pytest.mark.parametrize(("opcode", "body"), FORGETS)
def test_forgetting_more_than_there_is(mirrored: Mirrored, opcode: Opcode, body: bytes) -> None:
    mirrored.send(opcode, UNKNOWN, body)
    assert mirrored.look_up(b"file"), "it still answers"


def test_a_forgotten_node_is_gone(mirrored: Mirrored) -> None:
    directory = mirrored.look_up(b"directory")
    mirrored.send(Opcode.FORGET, directory, FORGET_IN.pack(1))
    assert mirrored.ask(Opcode.LOOKUP, directory, b"x\0")[0] == errno.ESTALE
    assert mirrored.look_up(b"directory") == directory


def test_what_takes_a_files_place_is_not_opened(mirrored: Mirrored, top: Path) -> None:
    file = mirrored.look_up(b"file")
    swaps: list[Callable[[], object]] = [
        lambda: (top / "file").symlink_to("empty"),
        lambda: os.mkfifo(top / "file"),
        lambda: os.link(top / "empty", top / "file"),
        lambda: (top / "file").mkdir(),
    ]
    for swap in swaps:
        if (top / "file").is_dir():
            (top / "file").rmdir()
        else:
            (top / "file").rename(top / "away")
        swap()
        assert mirrored.ask(Opcode.OPEN, file, OPEN_IN.pack(0, 0))[0] == errno.ESTALE
        assert mirrored.ask(Opcode.GETATTR, file, GETATTR_IN.pack(0, 0))[0] == errno.ESTALE
        assert mirrored.ask(Opcode.LINK, ROOT, LINK_IN.pack(file) + b"new\0")[0] == errno.ESTALE
        assert not (top / "new").exists()


def test_nothing_is_replaced_unasked(mirrored: Mirrored, top: Path) -> None:
    body = RENAME2_IN.pack(ROOT, 1) + b"file\0empty\0"  # RENAME_NOREPLACE
    assert mirrored.ask(Opcode.RENAME2, ROOT, body)[0] == errno.EEXIST
    link = LINK_IN.pack(mirrored.look_up(b"file")) + b"empty\0"
    assert mirrored.ask(Opcode.LINK, ROOT, link)[0] == errno.EEXIST
    assert (top / "empty").read_bytes() == b""
    assert mirrored.ask(Opcode.RENAME, ROOT, RENAME_IN.pack(ROOT) + b"file\0empty\0")[0] == 0
    assert (top / "empty").read_bytes() == b"content"


@pytest.mark.parametrize("names", [1, 2])
def test_a_renamed_file_is_found_by_its_new_name(mirrored: Mirrored, top: Path, names: int) -> None:
    file = mirrored.look_up(b"file")
    if names > 1:
        assert mirrored.ask(Opcode.LINK, ROOT, LINK_IN.pack(file) + b"second\0")[0] == 0
        assert mirrored.look_up(b"file") == file  # the name that was seen last
    assert mirrored.ask(Opcode.RENAME, ROOT, RENAME_IN.pack(ROOT) + b"file\0third\0")[0] == 0
    (top / "second").unlink(missing_ok=True)
    (top / "file").write_bytes(b"another one")
    fh = mirrored.open(file)
    assert mirrored.ask(Opcode.READ, file, READ_IN.pack(fh, 0, 100)) == (0, b"content")
    assert mirrored.ask(Opcode.UNLINK, ROOT, b"third\0")[0] == 0
    assert mirrored.ask(Opcode.RELEASE, file, READ_IN.pack(fh, 0, 0))[0] == 0


def test_an_unlinked_file_that_is_known_stays(mirrored: Mirrored) -> None:
    file = mirrored.look_up(b"file")
    assert mirrored.ask(Opcode.UNLINK, ROOT, b"file\0")[0] == 0
    error, octets = mirrored.ask(Opcode.GETATTR, file, GETATTR_IN.pack(0, 0))
    assert (error, ATTR_OUT.unpack_from(octets)[4]) == (0, 7), "its size"
    fh = mirrored.open(file)
    assert mirrored.ask(Opcode.READ, file, READ_IN.pack(fh, 0, 100)) == (0, b"content")


def test_writing_takes_setuid_away(mirrored: Mirrored, top: Path) -> None:
    file = mirrored.look_up(b"file")
    fh = mirrored.open(file, os.O_WRONLY)
    (top / "file").chmod(0o4755)
    for killing, want in ((0, 0o4755), (4, 0o755)):  # WRITE_KILL_SUIDGID
        error, octets = mirrored.ask(Opcode.WRITE, file, WRITE_IN.pack(fh, 0, 3, killing) + b"new")
        assert (error, WRITE_OUT.unpack_from(octets)) == (0, (3,))
        assert (top / "file").stat().st_mode & 0o7777 == want
    assert (top / "file").read_bytes() == b"newtent"


def create(made: Mirrored, name: bytes, flags: int = os.O_WRONLY) -> tuple[int, bytes]:
    return made.ask(Opcode.CREATE, ROOT, CREATE_IN.pack(flags | os.O_CREAT, 0o666, 0, 0) + name)


def test_new_files_follow_the_directory_as_it_is_now(mirrored: Mirrored, top: Path) -> None:
    modes = []
    for number, mode in enumerate((0o700, 0o700, 0o770, 0o770, 0o755)):
        top.chmod(mode)
        assert create(mirrored, b"new%d\0" % number)[0] == 0
        modes.append((top / f"new{number}").stat().st_mode & 0o7777)
    assert modes == [0o600, 0o600, 0o660, 0o660, 0o644]


@pytest.mark.superuser
def test_new_files_get_their_mode_whatever_a_default_acl_says(
    mirrored: Mirrored, top: Path
) -> None:
    modes = []
    for number, mode in enumerate((0o700, 0o700, 0o770, 0o770)):
        subprocess.run(["setfacl", "-b", "-k", top], check=True)
        top.chmod(mode)
        subprocess.run(["setfacl", "-d", "-m", "u::r,g::r,o::-", top], check=True)
        assert create(mirrored, b"new%d\0" % number)[0] == 0
        modes.append((top / f"new{number}").stat().st_mode & 0o7777)
    assert modes == [0o600, 0o600, 0o660, 0o660]


def test_what_is_there_is_not_made(mirrored: Mirrored, top: Path) -> None:
    assert create(mirrored, b"first\0")[0] == 0
    for name in (b"file", b"link", b"fifo", b"directory"):
        assert create(mirrored, name + b"\0", os.O_EXCL)[0] == errno.EEXIST
        assert create(mirrored, name + b"\0")[0] == errno.ESTALE  # let it look again, and open
    for name, want in NAMES:
        if want not in (0, errno.ENOENT):
            assert create(mirrored, name + b"\0")[0] == want
    assert (top / "file").read_bytes() == b"content"


def test_a_new_file_is_written_and_read_by_its_maker(mirrored: Mirrored, top: Path) -> None:
    for name in (b"first", b"second"):
        error, octets = create(mirrored, name + b"\0", os.O_RDWR)
        assert error == 0
        ino, (fh, _, _) = ENTRY_OUT.unpack_from(octets)[0], OPEN_OUT.unpack_from(octets, 128)
        assert mirrored.ask(Opcode.WRITE, ino, WRITE_IN.pack(fh, 0, 3, 0) + b"abc")[0] == 0
        assert mirrored.ask(Opcode.READ, ino, READ_IN.pack(fh, 0, 10)) == (0, b"abc")
        assert mirrored.ask(Opcode.RELEASE, ino, READ_IN.pack(fh, 0, 0))[0] == 0
        assert (top / os.fsdecode(name)).read_bytes() == b"abc"


def changed(  # SETATTR's body
    valid: Fattr, *, mode: int = 0, uid: int = 0, gid: int = 0, times: tuple[int, int] = (0, 0),
    parts: tuple[int, int] = (0, 0), size: int = 0,
) -> bytes:  # fmt: skip
    return SETATTR_IN.pack(valid, 0, size, 0, *times, 0, *parts, 0, mode, 0, uid, gid)


TIMES = Fattr.ATIME | Fattr.MTIME
CHANGES = [
    (changed(Fattr.MODE, mode=0o100640), {"st_mode": 0o100640}),
    (changed(Fattr.MODE, mode=0o106755), {"st_mode": 0o106755}),
    (changed(Fattr.UID, uid=4711), {"st_uid": 4711, "st_gid": 0}),
    (changed(Fattr.GID, gid=4712), {"st_uid": 0, "st_gid": 4712}),
    (changed(Fattr.UID | Fattr.GID | Fattr.MODE, uid=4711, gid=4712, mode=0o2755),
     {"st_uid": 4711, "st_gid": 4712, "st_mode": 0o102755}),
    (changed(TIMES, times=(10, 20), parts=(1, 999_999_999)),
     {"st_atime_ns": 10_000_000_001, "st_mtime_ns": 20_999_999_999}),
    (changed(TIMES, times=(-10, -20)),
     {"st_atime_ns": -10_000_000_000, "st_mtime_ns": -20_000_000_000}),
    (changed(Fattr.MTIME, times=(10, 20)), {"st_atime_ns": 5, "st_mtime_ns": 20_000_000_000}),
    (changed(Fattr.ATIME, times=(10, 20)), {"st_atime_ns": 10_000_000_000, "st_mtime_ns": 6}),
    (changed(Fattr.SIZE, size=3), {"st_size": 3}),
]  # fmt: skip


@pytest.mark.superuser
@pytest.mark.parametrize("state", ["closed", "open", "unlinked"])
@pytest.mark.parametrize(("body", "want"), CHANGES, ids=range(len(CHANGES)))
def test_attributes_change(
    mirrored: Mirrored, top: Path, state: str, body: bytes, want: dict[str, int]
) -> None:
    file = mirrored.look_up(b"file")
    if state != "closed":
        mirrored.open(file)
    os.utime(top / "file", ns=(5, 6))
    kept = os.open(top / "file", os.O_PATH)
    if state == "unlinked":
        assert mirrored.ask(Opcode.UNLINK, ROOT, b"file\0")[0] == 0
    error, octets = mirrored.ask(Opcode.SETATTR, file, body)
    status = os.fstat(kept)
    os.close(kept)
    assert error == 0
    assert {name: getattr(status, name) for name in want} == want
    told = ATTR_OUT.unpack_from(octets)
    assert told[3:5] == (file, status.st_size)
    assert told[6:9] == tuple(
        int(time // 1) for time in (status.st_atime, status.st_mtime, status.st_ctime)
    )
    assert told[12:16] == (status.st_mode, status.st_nlink, status.st_uid, status.st_gid)


def test_the_present_is_the_time_of_the_change(mirrored: Mirrored, top: Path) -> None:
    file = mirrored.look_up(b"file")
    os.utime(top / "file", (5, 6))
    before = (top / "directory").stat().st_ctime
    body = changed(TIMES | Fattr.ATIME_NOW | Fattr.MTIME_NOW)
    assert mirrored.ask(Opcode.SETATTR, file, body)[0] == 0
    status = (top / "file").stat()
    assert min(status.st_atime, status.st_mtime) >= before


def test_what_takes_a_files_place_is_not_changed(mirrored: Mirrored, top: Path) -> None:
    file = mirrored.look_up(b"file")
    (top / "file").rename(top / "away")
    (top / "empty").rename(top / "file")
    before = (top / "file").stat()
    for body, _ in CHANGES:
        assert mirrored.ask(Opcode.SETATTR, file, body)[0] == errno.ESTALE
    assert (top / "file").stat() == before


@pytest.mark.parametrize("parts", [(10**9, 0), (0, (1 << 30) - 1), (2**32 - 1, (1 << 30) - 2)])
def test_parts_of_a_second_are_less_than_one(
    mirrored: Mirrored, top: Path, parts: tuple[int, int]
) -> None:
    """The system call has meanings of its own for two of these numbers."""
    file = mirrored.look_up(b"file")
    body = changed(TIMES, times=(7, 7), parts=parts)
    assert mirrored.ask(Opcode.SETATTR, file, body)[0] == 0
    want = tuple(7 * 10**9 + part for part in parts)
    status = (top / "file").stat()
    assert (status.st_atime_ns, status.st_mtime_ns) == want


def test_a_file_without_capabilities(mirrored: Mirrored) -> None:
    file = mirrored.look_up(b"file")
    for _ in range(2):  # closed, and open
        body = GETXATTR_IN.pack(0) + CAPABILITY
        assert mirrored.ask(Opcode.GETXATTR, file, body)[0] == errno.ENODATA
        mirrored.open(file)


class Mailbox:
    """Of a Maildir in a mirror: what numbers its folders have."""

    def __init__(self, top: Path, made: Mirrored) -> None:
        for name in ("box/cur", "box/new", "box/tmp", "box/other", "second/cur"):
            (top / name).mkdir(parents=True)
        self.made = made
        self.folders: dict[str, int] = {}
        for path in ("box", "second", *(f"box/{name}" for name in ("cur", "new", "tmp", "other")),
                     "second/cur"):  # fmt: skip
            above, _, name = path.rpartition("/")
            self.folders[path] = made.look_up(name.encode(), self.folders.get(above, ROOT))

    def put(self, folder: str, name: bytes) -> tuple[int, int]:
        """The number of a new file, and its folder's, which the compiled part has leave for."""
        ino = self.folders[folder]
        body = CREATE_IN.pack(os.O_WRONLY | os.O_CREAT, 0o666, 0, 0)
        assert self.made.ask(Opcode.CREATE, ino, body + name + b"\0")[0] == 0
        self.made.ask(Opcode.LOOKUP, ino, b"none\0")
        return self.made.look_up(name, ino), ino


MOVES = [
    ("box/tmp", "box/new", 0, True), ("box/new", "box/cur", 0, True),
    ("box/cur", "box/tmp", 0, True), ("box/cur", "box/other", 0, False),
    ("box/other", "box/cur", 0, False), ("box/cur", "second/cur", 0, False),
    ("box/cur", "box/new", errno.EEXIST, True),
]  # fmt: skip


@pytest.mark.parametrize(("source", "dest", "want", "alike"), MOVES)
def test_between_folders(
    mirrored: Mirrored, top: Path, source: str, dest: str, want: int, alike: bool
) -> None:
    box = Mailbox(top, mirrored)
    _, beside = box.put(dest, b"other")
    file, above = box.put(source, b"file")
    identity = (top / source / "file").stat().st_ino
    second, new = (b"other\0", b"other\0") if want else (b"linked\0", b"file\0")
    before = mirrored.answered
    assert mirrored.ask(Opcode.LINK, beside, LINK_IN.pack(file) + second)[0] == want
    assert (
        mirrored.ask(Opcode.RENAME2, above, RENAME2_IN.pack(beside, 1) + b"file\0" + new)[0] == want
    )
    by_compiled = 2 if mirrored.session._compiled and alike and not want else 0
    assert mirrored.answered == before + by_compiled
    there = set(os.listdir(top / dest))
    assert there == ({"other"} if want else {"other", "file", "linked"})
    assert os.listdir(top / source) == (["file"] if want else [])
    assert (top / (source if want else dest) / "file").stat().st_ino == identity
    if not want:
        assert mirrored.look_up(b"file", beside) == file
        fh = mirrored.open(file)
        assert mirrored.ask(Opcode.RELEASE, file, READ_IN.pack(fh, 0, 0))[0] == 0
        assert mirrored.ask(Opcode.SETATTR, file, changed(Fattr.MODE, mode=0o600))[0] == 0


def test_more_is_not_written_than_was_sent(mirrored: Mirrored, top: Path) -> None:
    file = mirrored.look_up(b"file")
    fh = mirrored.open(file, os.O_WRONLY)
    mirrored.ask(Opcode.WRITE, file, WRITE_IN.pack(fh, 0, 1 << 20, 0) + b"abc")
    assert (top / "file").read_bytes() in (b"abctent", b"content")


def test_when_descriptors_run_out(mirrored: Mirrored, top: Path) -> None:
    file = mirrored.look_up(b"file")
    other = mirrored.look_up(b"empty")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd"))) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
    held = []
    try:
        while True:
            try:
                held.append(os.dup(0))
            except OSError:
                break
        assert mirrored.ask(Opcode.OPEN, file, OPEN_IN.pack(0, 0))[0] == errno.EMFILE
        assert mirrored.ask(Opcode.UNLINK, ROOT, b"empty\0")[0] == errno.EMFILE
        assert mirrored.look_up(b"empty") == other
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert mirrored.open(file)


def test_handles_are_limited(top: Path) -> None:
    for compiled in (True, False):
        made = Mirrored(top, compiled=compiled, handles=3)
        file = made.look_up(b"file")
        opened = [made.open(file) for _ in range(3)]
        assert made.ask(Opcode.OPEN, file, OPEN_IN.pack(0, 0))[0] == errno.ENFILE
        made.ask(Opcode.RELEASE, file, READ_IN.pack(opened[0], 0, 0))
        assert made.open(file) == opened[0]
        made.close()


def listed(made: Mirrored, size: int) -> list[bytes]:
    """All names of the top, read in pages of this size."""
    error, octets = made.ask(Opcode.OPENDIR, ROOT, OPEN_IN.pack(0, 0))
    assert error == 0
    fh, names, offset = OPEN_OUT.unpack_from(octets)[0], [], 0
    while True:
        error, page = made.ask(Opcode.READDIRPLUS, ROOT, READ_IN.pack(fh, offset, size))
        assert error == 0
        if not page:
            break
        at = 0
        while at < len(page):
            _, offset, length, kind = struct.unpack_from("=QQII", page, at + ENTRY_OUT.size)
            start = at + ENTRY_OUT.size + 24
            name = page[start : start + length]
            names.append(name)
            mode = ENTRY_OUT.unpack_from(page, at)[-7]
            assert name in (b".", b"..") or kind == mode >> 12
            at = start + length + 7 & ~7
    made.ask(Opcode.RELEASEDIR, ROOT, FSYNC_IN.pack(fh, 0))
    return names


@pytest.mark.parametrize("size", [200, 400, 4096, 1 << 17])
def test_listings_in_pages(mirrored: Mirrored, top: Path, size: int) -> None:
    for number in range(300):
        (top / f"m{number}").touch()
    (top / "a.lock").touch()
    want = sorted([b".", b"..", *os.listdir(os.fsencode(top))])
    assert sorted(listed(mirrored, size)) == want


def test_requests_shorter_than_their_header(mirrored: Mirrored) -> None:
    mirrored.end.send(b"\0" * 39)
    mirrored.thread.join(5)
    assert not mirrored.thread.is_alive(), "the kernel does not do that: the session ends"


ANY = st.one_of(
    st.binary(max_size=80),
    st.builds(
        lambda fh, rest: struct.pack("=Q", fh) + rest, st.integers(0, 40), st.binary(max_size=60)
    ),
    st.builds(
        lambda ino, names: struct.pack("=Q", ino) + b"\0".join(names) + b"\0",
        st.sampled_from([ROOT, UNKNOWN]),
        st.lists(st.sampled_from([b"file", b"none", b"..", b"", b"a/b", b"x.lock"]), max_size=3),
    ),
)
KINDS = [
    Opcode.LOOKUP, Opcode.GETATTR, Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.OPEN,
    Opcode.READ, Opcode.WRITE, Opcode.RELEASE, Opcode.READDIRPLUS, Opcode.UNLINK,
    Opcode.RENAME, Opcode.RENAME2, Opcode.LINK, Opcode.CREATE, Opcode.SETATTR, Opcode.GETXATTR,
]  # fmt: skip
SILENT = {Opcode.FORGET, Opcode.BATCH_FORGET}


def test_any_octets(tmp_path: Path) -> None:
    """Nothing outside of the directory changes, whatever is asked, and it goes on answering."""
    (tmp_path / "outside").write_bytes(b"untouched")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "file").write_bytes(b"content")
    made = Mirrored(tmp_path / "inside", compiled=True)
    made.look_up(b"file")
    known = made.tree.table.by_number

    @settings(max_examples=200, deadline=None)
    @given(asked=st.lists(st.tuples(st.sampled_from(KINDS), st.booleans(), ANY), max_size=8))
    def ask(asked: list[tuple[Opcode, bool, bytes]]) -> None:
        for opcode, about_file, body in asked:
            ino = next((n for n in known if n != ROOT), UNKNOWN) if about_file else ROOT
            if opcode in SILENT:
                made.send(opcode, ino, body)
            else:
                error, octets = made.ask(opcode, ino, body)
                assert error == 0 or not octets
        assert made.ask(Opcode.LOOKUP, ROOT, b"no such name\0")[0] == errno.ENOENT

    try:
        ask()
    finally:
        made.close()
    assert (tmp_path / "outside").read_bytes() == b"untouched"
    assert sorted(os.listdir(tmp_path)) == ["inside", "outside"]


LEAVE_NUMBERS = [
    ("SEE", 1), ("ITSELF", 2), ("OPEN", 4), ("BRING_ALONG", 8), ("WRITE", 16), ("FINISH", 32),
    ("ANY_KIND", 64), ("DOTS", 128), ("LOCKS", 256), ("REMOVE", 512), ("RENAME", 1024),
    ("LINK", 2048), ("UNLOCKED", 4096), ("LOCAL", 8192), ("MAKE", 16384), ("LASTS", 32768),
    ("TOUCH", 65536), ("PERMIT", 131072), ("PRETEND", 262144), ("SIBLINGS", 524288),
]  # fmt: skip


def test_both_sides_mean_the_same_numbers() -> None:
    header = Path(__file__).parents[2] / "sharefs" / "mount" / "compiled" / "engine.h"
    text = header.read_text()
    assert [(act.name, act.value) for act in Acts] == LEAVE_NUMBERS
    for name, number in LEAVE_NUMBERS:
        assert f"LEAVE_{name} = {number}," in text
