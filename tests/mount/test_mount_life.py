"""Mounting, unmounting, dying, and being told what is missing."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sharefs.mount.main import NEEDED
from tests.account.world import world_in_tmp
from tests.support.mount import Mount, is_mounted, mounted

pytestmark = [pytest.mark.superuser, pytest.mark.fuse]


@pytest.fixture
def source(open_tmp: Path) -> Path:
    source = open_tmp / "source"
    source.mkdir()
    (source / "file").write_text("hello")
    return source


@pytest.fixture
def mirror(open_tmp: Path, source: Path) -> Iterator[Mount]:
    with mounted(open_tmp, ["--mirror", source]) as mount:
        yield mount


def sharefs(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sharefs", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def wait_until_unmounted(top: Path) -> None:
    deadline = time.monotonic() + 10
    while is_mounted(top):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_only_the_needed_capabilities_are_kept(mirror: Mount) -> None:
    demand_few_capabilities(mirror)


def test_the_threads_of_the_view_have_no_more(open_tmp: Path) -> None:
    with world_in_tmp() as world:
        arguments: list[str | Path] = ["--state", world.top / "state"]
        with mounted(world.top, arguments, config=world.config_path) as view:
            os.listdir(view.top)  # root's own list: the user database is asked by a thread
            demand_few_capabilities(view)


def demand_few_capabilities(mount: Mount) -> None:
    """Of every thread: the kernel keeps them for each."""
    want = sum(1 << number for number in NEEDED)
    for task in Path(f"/proc/{mount.process.pid}/task").iterdir():
        status = (task / "status").read_text().splitlines()
        masks = {
            line.split(":")[0]: int(line.split()[1], 16) for line in status if "Cap" in line[:3]
        }
        assert (masks["CapEff"], masks["CapPrm"], masks["CapBnd"]) == (want, want, want)
        assert masks["CapInh"] == masks["CapAmb"] == 0
        assert "NoNewPrivs:\t1" in status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_signals_unmount(open_tmp: Path, source: Path, number: signal.Signals) -> None:
    with mounted(open_tmp, ["--mirror", source]) as mount:
        held = os.open(mount.top / "file", os.O_RDONLY)  # somebody still has a file open
        mount.process.send_signal(number)
        assert mount.process.wait(10) == 0
        assert not is_mounted(mount.top)
        with pytest.raises(OSError, match="not connected"):
            os.fsync(held)
        os.close(held)


def test_umount_ends_the_daemon(mirror: Mount) -> None:
    subprocess.run(["umount", str(mirror.top)], check=True)
    assert mirror.process.wait(10) == 0


def test_a_killed_daemon_leaves_no_mount(mirror: Mount) -> None:
    mirror.died = True
    mirror.process.kill()
    wait_until_unmounted(mirror.top)


def test_in_the_background_until_unmounted(open_tmp: Path, source: Path) -> None:
    top = open_tmp / "mnt"
    top.mkdir()
    done = sharefs("mount", top, "--mirror", source)
    assert (done.returncode, done.stderr) == (0, "")
    try:
        assert (top / "file").read_text() == "hello"
        listed = sharefs("mount", "--status", top)
        assert f"{top}\tmirror of {source}\tserving" in listed.stdout
        again = sharefs("mount", top, "--mirror", source)
        assert "is mounted already" in again.stderr
    finally:
        subprocess.run(["umount", str(top)], check=True)
    assert sharefs("mount", "--status", top).returncode != 0


def test_a_stale_mount_is_replaced(open_tmp: Path, source: Path) -> None:
    """Of a daemon that died together with its unmounter."""
    with mounted(open_tmp, ["--mirror", source]) as mount:
        mount.died = True
        children = Path(f"/proc/{mount.process.pid}/task/{mount.process.pid}/children")
        (unmounter,) = map(int, children.read_text().split())
        os.kill(unmounter, signal.SIGKILL)
        mount.process.kill()
        mount.process.wait()
        with pytest.raises(OSError, match="not connected"):
            os.statvfs(mount.top)
        assert "dead" in sharefs("mount", "--status").stdout
        done = sharefs("mount", mount.top, "--mirror", source)
        assert (done.returncode, done.stderr) == (0, "")
        assert (mount.top / "file").read_text() == "hello"
        subprocess.run(["umount", str(mount.top)], check=True)


REFUSALS = [
    (["mount"], "Missing argument"),
    (["mount", "/nonexistent", "--mirror", "/"], "must be an existing directory"),
    (["mount", "{tmp}", "--mirror", "/nonexistent"], "/nonexistent"),
    (["mount", "{tmp}", "--mirror", "/", "-o", "wings"], "'wings' means nothing here"),
    (["mount", "{tmp}/file", "--mirror", "/"], "no directory"),
]


@pytest.mark.parametrize(("arguments", "want"), REFUSALS, ids=[want for _, want in REFUSALS])
def test_refusals_say_what_is_wrong(open_tmp: Path, arguments: list[str], want: str) -> None:
    (open_tmp / "file").write_text("")
    done = sharefs(*(word.format(tmp=open_tmp) for word in arguments))
    assert done.returncode != 0
    assert want in done.stderr
    assert "Traceback" not in done.stderr
    assert not is_mounted(open_tmp)


def test_no_descriptor_or_inode_is_lost(mirror: Mount, source: Path) -> None:
    def use(number: int) -> None:
        directory = mirror.top / f"d{number}"
        directory.mkdir()
        for name in ("a", "b"):
            (directory / name).write_text("x")
        os.link(directory / "a", directory / "c")
        os.rename(directory / "b", directory / "c")
        held = (directory / "a").open()
        os.unlink(directory / "a")
        assert os.fstat(held.fileno()).st_nlink == 0
        held.close()
        os.unlink(directory / "c")
        os.rmdir(directory)

    use(0)
    time.sleep(0.1)
    before = mirror.descriptors()
    for number in range(60):
        use(number + 1)
    Path("/proc/sys/vm/drop_caches").write_text("2")
    deadline = time.monotonic() + 5
    while mirror.descriptors() > before + 2:
        assert time.monotonic() < deadline, (before, mirror.descriptors())
        time.sleep(0.05)
    assert os.listdir(source) == ["file"]


def test_mount_runs_the_helper_for_fstab(open_tmp: Path, source: Path) -> None:
    top = open_tmp / "mnt"
    top.mkdir()
    script = "from sharefs.cli.mount import mount_helper; mount_helper()"
    command = [sys.executable, "-c", script, str(source), str(top), "-o", "rw,noauto,noatime,x-a=b"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    try:
        assert (top / "file").read_text() == "hello"
        lines = Path("/proc/self/mounts").read_text().splitlines()
        (line,) = (one for one in lines if str(top) in one)
        assert "noatime" in line
    finally:
        subprocess.run(["umount", str(top)], check=True)


def test_the_service_manager_is_told(open_tmp: Path, source: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(open_tmp / "notify"))
        manager.settimeout(10)
        prefix = f"NOTIFY_SOCKET={open_tmp / 'notify'} exec "
        with mounted(open_tmp, ["--mirror", source], shell=prefix):
            assert manager.recv(100) == b"READY=1"
