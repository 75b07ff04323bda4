"""What makes the mount quick and must not make it wrong: read-ahead, pages, direct writes."""

import mmap
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sharefs.mount import read_ahead
from sharefs.mount.devices import Devices, mount_id, type_of
from tests.account.world import world_in_tmp
from tests.audit.random_trees import private_mounts
from tests.support.become import run_as
from tests.support.mount import Mount, mounted

MOUNTINFO = """\
22 28 0:20 / /proc rw - proc proc rw
28 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 28 0:35 / /mnt rw shared:1 - nfs4 server:/mail rw
41 28 0:36 / /mnt/a\\040b rw - fuse.sharefs sharefs rw
42 28 0:37 / /mnt/a\\040b rw - fuse.sharefs sharefs rw
43 28 0:38 /sub /home rw - btrfs /dev/vdb rw
"""


@pytest.fixture
def mountinfo(tmp_path: Path) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTINFO)
    return path


@pytest.mark.parametrize(
    ("kind", "local"), [("ext4", True), ("nfs4", False), ("fuse.sharefs", False), ("btrfs", True)]
)
def test_which_file_systems_never_fail_at_close(tmp_path: Path, kind: str, local: bool) -> None:
    mountinfo = tmp_path / "mountinfo"
    with (tmp_path / "file").open("wb") as file:
        # The numbers of devices do not count: those of Btrfs' subvolumes are in no line.
        mountinfo.write_text(f"{mount_id(file.fileno())} 28 0:99 / /home rw - {kind} none rw\n")
        assert type_of(file.fileno(), mountinfo) == kind
        assert Devices(mountinfo).is_local(1234, file.fileno()) is local


def test_what_is_on_no_mount_is_not_local(mountinfo: Path) -> None:
    mountinfo.write_text("")
    with mountinfo.open("rb") as file:
        assert type_of(file.fileno(), mountinfo) == ""
        assert not Devices(mountinfo).is_local(1234, file.fileno())


def test_what_is_known_of_a_device_is_not_read_again(mountinfo: Path) -> None:
    with mountinfo.open("rb") as file:
        number = mount_id(file.fileno())
        mountinfo.write_text(f"{number} 28 0:99 / /home rw - ext4 none rw\n")
        devices = Devices(mountinfo)
        assert devices.is_local(1234, file.fileno())
        mountinfo.write_text("")
        assert devices.is_local(1234, file.fileno())


def take_a_number_again(top: Path) -> list[tuple[int, str]]:
    """Number and kind of what is mounted at one place, one after the other."""
    private_mounts()
    devices, found = Devices(), []
    for kind in ("tmpfs", "ramfs"):
        subprocess.run(["mount", "-t", kind, "none", str(top)], check=True)
        found.append((top.stat().st_dev, devices.kind_at(top)))
        subprocess.run(["umount", str(top)], check=True)
    return found


@pytest.mark.superuser
def test_a_number_may_be_of_another_file_system_later(tmp_path: Path) -> None:
    found = run_as(0, 0, (), lambda: take_a_number_again(tmp_path))
    assert [kind for _, kind in found] == ["tmpfs", "ramfs"]


def test_reading_ahead_is_widened_for_the_uppermost_mount(mountinfo: Path, tmp_path: Path) -> None:
    for number in ("0:36", "0:37"):
        (tmp_path / number).mkdir()
        (tmp_path / number / "read_ahead_kb").write_text("128")
    assert read_ahead.widen(Path("/mnt/a b"), mountinfo=mountinfo, devices=tmp_path)
    assert (tmp_path / "0:37" / "read_ahead_kb").read_text() == "1024"
    assert (tmp_path / "0:36" / "read_ahead_kb").read_text() == "128"


@pytest.mark.parametrize("mountpoint", ["/mnt/a b", "/nowhere"])
def test_without_permission_it_stays_as_it_is(
    mountinfo: Path, tmp_path: Path, mountpoint: str
) -> None:
    assert not read_ahead.widen(Path(mountpoint), mountinfo=mountinfo, devices=tmp_path)


@pytest.fixture(scope="module")
def mirror() -> Iterator[tuple[Path, Path, Mount]]:
    with world_in_tmp() as world:
        source = world.top / "source"
        source.mkdir()
        with mounted(world.top, ["--mirror", source]) as mount:
            yield source, mount.top, mount


needs_mount = [pytest.mark.superuser, pytest.mark.fuse]
Mirror = tuple[Path, Path, Mount]


class TestMounted:
    pytestmark = needs_mount

    def test_read_ahead(self, mirror: Mirror) -> None:
        device = os.stat(mirror[1]).st_dev
        path = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
        assert path.read_text().strip() == str(read_ahead.KIBIBYTES)

    def test_a_writer_past_the_cache_and_readers_with_pages(self, mirror: Mirror) -> None:
        """One has the file in his pages, by read(2) and by mmap(2), another one only writes."""
        source, top, _ = mirror
        (source / "shared").write_bytes(b"a" * 10_000)
        reader = os.open(top / "shared", os.O_RDONLY)
        writer = os.open(top / "shared", os.O_WRONLY)
        try:
            with mmap.mmap(reader, 0, prot=mmap.PROT_READ) as seen:
                assert seen[5000:5001] + os.pread(reader, 1, 9000) == b"aa"
                os.pwrite(writer, b"b", 5000)
                os.pwrite(writer, b"c", 9000)
                assert seen[4999:5002] == b"aba"
                assert os.pread(reader, 3, 8999) == b"aca"
                os.pwrite(writer, b"longer", 10_000)
                assert os.pread(reader, 100, 10_000) == b"longer"
        finally:
            os.close(reader)
            os.close(writer)
        assert (source / "shared").read_bytes() == (top / "shared").read_bytes()

    def test_appenders_lose_nothing(self, mirror: Mirror) -> None:
        source, top, _ = mirror
        writers = [os.open(top / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND) for _ in range(3)]
        for turn in range(50):
            for number, fd in enumerate(writers):
                os.write(fd, f"{number} {turn}\n".encode())
            with (source / "log").open("a") as beside:
                beside.write(f"3 {turn}\n")
        for fd in writers:
            os.close(fd)
        lines = (source / "log").read_text().splitlines()
        assert lines == [f"{number} {turn}" for turn in range(50) for number in range(4)]

    @pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 32768, 32769, 300_000])
    def test_the_content_that_comes_along(self, mirror: Mirror, size: int) -> None:
        source, top, _ = mirror
        content = os.urandom(size)
        (source / f"size{size}").write_bytes(content)
        assert (top / f"size{size}").read_bytes() == content
        assert (top / f"size{size}").read_bytes() == content

    def test_many_open_the_same_file_at_once(self, mirror: Mirror) -> None:
        """Pages that somebody waits for are never waited for by the one who has to fill them."""
        source, top, _ = mirror
        for number in range(40):
            (source / f"many{number}").write_bytes(bytes([number]) * 20_000)

        def read(number: int) -> bool:
            content = (top / f"many{number % 40}").read_bytes()
            return content == bytes([number % 40]) * 20_000

        with ThreadPoolExecutor(8) as readers:
            assert all(readers.map(read, sorted(range(320), key=lambda number: number % 40)))

    def test_content_that_shrinks_between_two_readers(self, mirror: Mirror) -> None:
        source, top, _ = mirror
        (source / "shrinks").write_bytes(b"x" * 9000)
        assert len((top / "shrinks").read_bytes()) == 9000
        (source / "shrinks").write_bytes(b"short")
        deadline = time.monotonic() + 2
        while (got := (top / "shrinks").read_bytes()) != b"short":
            assert not got.strip(b"xshort\0"), got
            assert time.monotonic() < deadline, got
            time.sleep(0.02)

    def test_long_reads(self, mirror: Mirror) -> None:
        source, top, _ = mirror
        content = os.urandom(5 << 20)
        (source / "long").write_bytes(content)
        with (top / "long").open("rb", buffering=0) as file:
            pieces = [file.read(1 << 20) for _ in range(6)]
        assert b"".join(pieces) == content
