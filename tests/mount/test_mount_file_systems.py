"""The mirror of a tree on another file system than the tests' own, where kinds differ.

On Btrfs the source and the plain directory are subvolumes, and there is one in the source: each
has a device number of its own, and the inode number 256.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import OPEN_TMP_PREFIX
from tests.mount import posix_files, posix_names
from tests.mount.posix_names import Case, tried
from tests.mount.test_mirror_posix import CALLERS, check_alike
from tests.mount.test_mirror_posix import mirror as mirror
from tests.mount.test_mount_lasting import numbers, settle
from tests.mount.test_mount_visibility import seen_in_time
from tests.support.file_systems import loop_mounted, subvolume
from tests.support.mount import Mount

pytestmark = [pytest.mark.superuser, pytest.mark.fuse]

USER = CALLERS["user"]
# What file systems do themselves, each their way.
CASES = (
    posix_names.rename_flags, posix_names.unlink_while_open, posix_names.lock_by_link,
    posix_names.places_in_a_listing, posix_names.listing_types_and_numbers,
    posix_files.copying_in_the_kernel, posix_files.times_that_move, posix_files.set_id_bits,
    posix_files.file_system, posix_files.extended_attributes, posix_files.posix_acls,
    posix_files.range_locks,
)  # fmt: skip


@pytest.fixture(scope="module", params=["btrfs", "xfs"])
def top(request: pytest.FixtureRequest) -> Iterator[Path]:
    work = Path(tempfile.mkdtemp(prefix=OPEN_TMP_PREFIX))
    work.chmod(0o755)
    try:
        with loop_mounted(request.param, work) as point:
            make = subvolume if request.param == "btrfs" else posix_names.directory
            for name in ("source", "plain", "source/inner"):
                make(point / name).chmod(0o755)
            yield point
    finally:
        shutil.rmtree(work)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_calls_are_as_on_a_plain_directory(top: Path, mirror: Mount, case: Case) -> None:
    check_alike(top, case, "user")


def test_changes_in_a_directory_with_a_device_of_its_own_are_told(top: Path, mirror: Mount) -> None:
    """In the directory around it as well: fanotify has rules about such devices."""
    places = [mirror.top, mirror.top / "inner"]
    below = [top / "source", top / "source" / "inner"]
    for place in below:
        (place / "file").write_bytes(b"x")

    def look() -> list[tuple[int, bool]]:
        return [
            ((place / "file").stat().st_mode & 0o777, (place / "missing").exists())
            for place in places
        ]

    settle(mirror, look)
    assert numbers(mirror)["watched"] >= 4
    for place in below:
        (place / "file").chmod(0o604)
        (place / "missing").touch()
    assert seen_in_time(look, [(0o604, True)] * 2)


def test_between_subvolumes(top: Path, mirror: Mount) -> None:
    """What the file system below refuses, a program that copies then can do."""
    for name in ("alice", "bob"):
        path = top / "source" / name
        (subvolume if top.name == "btrfs" else posix_names.directory)(path)
        os.chown(path, USER.uid, USER.gid)
        path.chmod(0o700)
    alice, bob = mirror.top / "alice", mirror.top / "bob"
    assert alice.stat().st_ino != bob.stat().st_ino
    (bob / "folder").mkdir()
    below = {place: top / "source" / place for place in ("alice", "bob")}

    def act() -> tuple[object, ...]:
        for name in ("moved", "linked"):
            (alice / name).write_bytes(b"x" * 5000)
        tried_two = (
            tried(os.rename, alice / "moved", bob / "moved"),
            tried(os.link, alice / "linked", bob / "linked"),
        )
        if tried_two[0]:
            shutil.move(alice / "moved", bob / "moved")
        return tried_two

    refused = errno.errorcode[errno.EXDEV] if top.name == "btrfs" else None
    assert USER.run(act) == (refused, refused)
    assert (below["bob"] / "moved").read_bytes() == b"x" * 5000
    assert sorted(os.listdir(below["alice"])) == ["linked"]


def test_other_permissions_make_a_new_file(top: Path, mirror: Mount) -> None:
    """By a file without a name (O_TMPFILE)."""
    for name, mode in (("private", 0o700), ("shared", 0o755)):
        path = posix_names.directory(top / "source" / name)
        os.chown(path, USER.uid, USER.gid)
        path.chmod(mode)
    private, shared = mirror.top / "private", mirror.top / "shared"
    USER.run((private / "message").write_bytes, b"x" * 5000)
    USER.run(os.link, private / "message", shared / "linked")
    USER.run(os.rename, private / "message", shared / "moved")
    assert os.listdir(private) == []
    for name in ("linked", "moved"):
        status = (top / "source" / "shared" / name).stat()
        assert (status.st_mode & 0o777, status.st_nlink, status.st_size) == (0o644, 1, 5000)
    assert sorted(os.listdir(top / "source" / "shared")) == ["linked", "moved"]
