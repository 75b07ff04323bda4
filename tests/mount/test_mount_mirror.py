"""The mirror, mounted: the tree as it is, and the creation rules for whoever writes."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.become import Identity
from tests.support.mount import Mount, mounted

pytestmark = [pytest.mark.superuser, pytest.mark.fuse]

TEAM = 61500
ALICE = Identity(61001, 61001, (TEAM,))
BOB = Identity(61002, 61002, (TEAM,))
STRANGER = Identity(61009, 61009)


@pytest.fixture
def source(open_tmp: Path) -> Path:
    """A Maildir of alice's that her team may use, and a private one."""
    source = open_tmp / "source"
    for name, mode in ((".", 0o755), ("team", 0o2770), ("private", 0o700)):
        make(source / name, ALICE.uid, TEAM if name == "team" else ALICE.gid, mode)
    for name, mode in (("team", 0o2770), ("private", 0o700)):
        gid = TEAM if name == "team" else ALICE.gid
        for folder in ("cur", "new", "tmp"):
            make(source / name / folder, ALICE.uid, gid, mode)
    return source


def make(path: Path, uid: int, gid: int, mode: int) -> None:
    path.mkdir(exist_ok=True)
    os.chown(path, uid, gid)
    path.chmod(mode)


@pytest.fixture
def mirror(open_tmp: Path, source: Path) -> Iterator[Mount]:
    with mounted(open_tmp, ["--mirror", source]) as mount:
        yield mount


def facts(path: Path) -> tuple[int, int, str]:
    status = path.lstat()
    return status.st_uid, status.st_gid, f"{stat.S_IMODE(status.st_mode):04o}"


def write_with_umask(path: Path, mode: int, umask: int) -> None:
    os.umask(umask)
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    os.write(fd, b"hello")
    os.close(fd)


def test_reads_what_is_below(mirror: Mount, source: Path) -> None:
    (source / "hello").write_text("world")
    assert sorted(os.listdir(mirror.top)) == ["hello", "private", "team"]
    assert (mirror.top / "hello").read_text() == "world"
    assert (mirror.top / "hello").stat().st_ino == (source / "hello").stat().st_ino


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
@pytest.mark.parametrize("mode", [0o600, 0o777], ids=oct)
def test_new_files_get_the_mailbox_permissions(
    mirror: Mount, source: Path, umask: int, mode: int
) -> None:
    BOB.run(write_with_umask, mirror.top / "team" / "new" / "1", mode, umask)
    assert facts(source / "team" / "new" / "1") == (BOB.uid, TEAM, "0660")
    assert (source / "team" / "new" / "1").read_bytes() == b"hello"


def test_new_directories_keep_setgid(mirror: Mount, source: Path) -> None:
    BOB.run(os.mkdir, mirror.top / "team" / ".Work", 0o700)
    BOB.run(os.mkdir, mirror.top / "team" / ".Work" / "cur", 0o700)
    assert facts(source / "team" / ".Work") == (BOB.uid, TEAM, "2770")
    assert facts(source / "team" / ".Work" / "cur") == (BOB.uid, TEAM, "2770")


def test_the_kernel_refuses_as_below(mirror: Mount, source: Path) -> None:
    with pytest.raises(PermissionError):
        STRANGER.run(os.listdir, mirror.top / "team")
    with pytest.raises(PermissionError):
        BOB.run(os.listdir, mirror.top / "private")
    with pytest.raises(PermissionError):
        BOB.run((mirror.top / "new-file").write_text, "x")
    assert not (source / "new-file").exists()


def test_moving_to_other_permissions_makes_a_new_file(mirror: Mount, source: Path) -> None:
    message = source / "private" / "cur" / "1:2,S"
    message.write_bytes(b"secret" * 1000)
    os.chown(message, ALICE.uid, ALICE.gid)
    message.chmod(0o600)
    os.utime(message, ns=(10**18, 10**18 + 1))
    before = message.stat().st_ino
    target = mirror.top / "team" / "cur" / "1:2,S"
    ALICE.run(os.rename, mirror.top / "private" / "cur" / "1:2,S", target)
    arrived = source / "team" / "cur" / "1:2,S"
    assert facts(arrived) == (ALICE.uid, TEAM, "0660")
    assert arrived.read_bytes() == b"secret" * 1000
    assert arrived.stat().st_mtime_ns == 10**18 + 1
    assert arrived.stat().st_ino != before
    assert not message.exists()
    assert os.listdir(source / "team" / "cur") == ["1:2,S"]
    assert BOB.run(target.read_bytes) == b"secret" * 1000


def test_linking_to_other_permissions_copies(mirror: Mount, source: Path) -> None:
    ALICE.run((mirror.top / "private" / "cur" / "1").write_bytes, b"x")
    ALICE.run(os.link, mirror.top / "private" / "cur" / "1", mirror.top / "team" / "cur" / "1")
    ALICE.run(os.link, mirror.top / "private" / "cur" / "1", mirror.top / "private" / "new" / "1")
    assert facts(source / "team" / "cur" / "1") == (ALICE.uid, TEAM, "0660")
    assert (source / "private" / "cur" / "1").stat().st_nlink == 2
    assert (source / "team" / "cur" / "1").stat().st_nlink == 1
